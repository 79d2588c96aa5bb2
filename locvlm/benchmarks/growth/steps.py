"""A small model with random weights, and training passes of it over packed conversations."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from locvlm.benchmarks.gpu.batches import Conversations, draw_conversations, make_step
from locvlm.benchmarks.gpu.cases import Attention
from locvlm.benchmarks.gpu.models import choose_attention
from locvlm.benchmarks.peers.start import write_start
from locvlm.benchmarks.peers.workload import ModelSizes
from locvlm.data.packing import Mode
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM

LOSS_TOLERANCE = 2e-3  # relative; a mask that lets a branch see its neighbours moves it by more
Batches = Sequence[dict[str, Any]]


def trained_model(sizes: ModelSizes) -> LocVLM:
    """As stage 2 has it: adapter and language model train, in fp32."""
    with tempfile.TemporaryDirectory() as folder:
        write_start(Path(folder) / "start", sizes)
        model: LocVLM = LocVLM.from_pretrained(Path(folder) / "start")
    freeze(model, train=("adapter", "llm"))
    return model.train()


def draw(model: LocVLM, *, images: int, pairs: int) -> Conversations:
    """Images with random pixels, and pairs as long as Localize-Instruct's."""
    return draw_conversations(model.config, stage="stage2", number=images, pairs=pairs)


def row_by_row(conversations: Conversations, *, mode: Mode, row_tokens: int) -> Batches:
    """The step as micro-batches of one row, as few as hold it."""
    return make_step(conversations, mode=mode, row_tokens=row_tokens, rows_per_pass=1)


def in_one_pass(conversations: Conversations, *, mode: Mode, row_tokens: int) -> Batches:
    """The step as one micro-batch, of as few rows as hold it."""
    rows = len(row_by_row(conversations, mode=mode, row_tokens=row_tokens))
    return make_step(conversations, mode=mode, row_tokens=row_tokens, rows_per_pass=rows)


def forward_backward(model: LocVLM, batches: Batches, attention: Attention) -> float:
    """The loss of a step in bf16 autocast; without the optimizer, whose time nothing here changes."""
    choose_attention(model, attention)
    total = 0.0
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        total += float(loss.detach())
    model.zero_grad(set_to_none=True)
    return total


def step(model: LocVLM, batches: Batches, attention: Attention) -> "partial[float]":
    """`forward_backward`, to be called."""
    return partial(forward_backward, model, batches, attention)


def require_equal(losses: Mapping[str, float]) -> None:
    """Raise ValueError if ways of computing the same step give losses that bf16 does not explain."""
    least, greatest = min(losses.values()), max(losses.values())
    if greatest - least > LOSS_TOLERANCE * greatest:
        raise ValueError(f"expected one loss, as the ways compute the same step; got {dict(losses)}")
