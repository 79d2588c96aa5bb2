"""A shared prefix against a sequence per pair: equal gradients first, then times beside operations."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from locvlm.benchmarks.agreement import Difference, difference, outcome_of, require_agreement
from locvlm.benchmarks.packed import (
    DTYPES,
    LANGUAGE_MODEL,
    Batch,
    Content,
    Sizes,
    build_model,
    choose_attention,
    count_flops,
    language_model_pass,
    make_batch,
)
from locvlm.benchmarks.turns import Turns, take_turns
from locvlm.data.packing import Mode
from locvlm.model.locvlm import LocVLM
from locvlm.training.plan.memory import Attention

SEPARATE = "separate"
WAYS: dict[str, tuple[Mode, Attention]] = {
    SEPARATE: ("separate", "sdpa"),  # a row for each pair, with its own copy of the image
    "sdpa": ("shared_prefix", "sdpa"),  # under a dense mask
    "tree": ("shared_prefix", "tree"),  # keys gathered, prefix and branches apart
}
WHOLE, BLOCKS = "whole pass", "language model alone"
_EXACT = {"width": 64, "layers": 2, "heads": 4, "vocabulary": 512, "tower_width": 32, "tower_layers": 3}


@dataclass(frozen=True)
class Measured:
    """One precision: seconds of each way, for the whole pass and the language model, and of the optimizer."""

    turns: dict[str, Turns]
    flops: dict[str, dict[str, float]]  # of the same
    optimizer_s: float

    def times_as_fast(self, part: str, way: str) -> float:
        """As a sequence per pair."""
        return self.turns[part].times_as_fast(way, SEPARATE)

    def counted(self, part: str, way: str) -> float:
        """The same ratio by operations."""
        return self.flops[part][SEPARATE] / self.flops[part][way]

    def step(self, way: str, passes: int) -> float:
        """Ratio of a step of so many passes and one of the optimizer."""
        separate, ours = (
            passes * self.turns[WHOLE].median(name) + self.optimizer_s for name in (SEPARATE, way)
        )
        return separate / ours

    def to_json(self) -> dict[str, Any]:
        """For the result."""
        parts = {
            part: {
                way: {**figures, "flops": self.flops[part][way], "times_fewer_flops": self.counted(part, way)}
                for way, figures in turns.against(SEPARATE).items()
            }
            for part, turns in self.turns.items()
        }
        return {**parts, "optimizer_s": self.optimizer_s}


def check(sizes: Sizes, content: Content) -> dict[str, dict[str, Difference]]:
    """How far losses and gradients of each way are from separate's, in fp32 and, in a narrow model, in fp64.

    Raises:
        ArithmeticError: if that is more than rounding.
    """
    found = {}
    for dtype, checked in (("fp64", replace(sizes, **_EXACT)), ("fp32", sizes)):
        model = build_model(checked, dtype=DTYPES[dtype])
        batches = batches_of(model, replace(content, images=1))
        outcomes = {}
        for way, batch in batches.items():
            choose_attention(model, WAYS[way][1])
            outcomes[way] = outcome_of(model, batch)
        found[dtype] = {
            way: difference(got, outcomes[SEPARATE]) for way, got in outcomes.items() if way != SEPARATE
        }
        for way, gap in found[dtype].items():
            require_agreement(way, gap, DTYPES[dtype])
    return found


def batches_of(model: LocVLM, content: Content) -> dict[str, Batch]:
    """One micro-batch of each way, with the same images and pairs."""
    return {way: make_batch(model, content, mode) for way, (mode, _) in WAYS.items()}


def measure(sizes: Sizes, content: Content, *, dtype: str, rounds: int) -> Measured:
    """Forward and backward pass of each way, in turns; gradients add up as they do within a step."""
    model = build_model(sizes, dtype=DTYPES[dtype])
    batches = batches_of(model, content)
    passes: dict[str, Callable[[LocVLM, Batch], torch.Tensor]] = {
        WHOLE: lambda model, batch: model(**batch).loss,
        BLOCKS: language_model_pass,
    }
    turns = {part: _take_turns(model, batches, run, rounds=rounds) for part, run in passes.items()}
    flops: dict[str, dict[str, float]] = {part: {} for part in passes}
    for way, batch in batches.items():
        counted = count_flops(model, batch, WAYS[way][1])
        flops[WHOLE][way] = sum(counted.values())
        flops[BLOCKS][way] = sum(counted[part] for part in LANGUAGE_MODEL)
    return Measured(turns, flops, _time_optimizer(model))


def _take_turns(
    model: LocVLM, batches: dict[str, Batch], run: Callable[[LocVLM, Batch], torch.Tensor], *, rounds: int
) -> Turns:
    def forward_and_backward(way: str) -> None:
        choose_attention(model, WAYS[way][1])
        run(model, batches[way]).backward()  # type: ignore[no-untyped-call]

    return take_turns({way: partial(forward_and_backward, way) for way in batches}, rounds=rounds)


def _time_optimizer(model: LocVLM) -> float:
    """Seconds of a step of AdamW."""
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    return take_turns({"adamw": optimizer.step}, rounds=3).median("adamw")
