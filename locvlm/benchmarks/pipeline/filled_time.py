"""What full rows are worth in time: some steps as their ranks divide them, computed by a small model.

Weights are bf16, as DeepSpeed has them: under autocast, every pass would cast them anew, which takes a time
that says nothing about rows.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locvlm.benchmarks.peers.start import write_start
from locvlm.benchmarks.peers.workload import ModelSizes
from locvlm.benchmarks.pipeline.filling import Rows, Step, count_tokens
from locvlm.benchmarks.turns import take_turns
from locvlm.data.collate import collate
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.tree_attention import TREE_ATTENTION


@dataclass(frozen=True)
class WayTime:
    """What one way's steps took."""

    tokens: int  # padding not counted
    passes: list[list[float]]  # seconds of each rank, pass by pass; medians of the rounds

    @property
    def of_work(self) -> float:
        """Seconds of a rank for a token, if nobody waited."""
        return sum(map(sum, self.passes)) / self.tokens

    @property
    def while_waiting(self) -> float:
        """Seconds of a rank for a token, all waiting in every pass for the slowest: what a training takes."""
        return sum(len(ranks) * max(ranks) for ranks in self.passes) / self.tokens


def time_ways(
    ways: Mapping[str, Sequence[Step]], *, sizes: ModelSizes, tokenizer: Path, rounds: int
) -> dict[str, WayTime]:
    """Compute every rank's share of every pass, one after the other, the ways in turns rank by rank."""
    with tempfile.TemporaryDirectory() as folder:
        write_start(Path(folder) / "start", sizes, tokenizer_folder=tokenizer)
        model: LocVLM = LocVLM.from_pretrained(
            Path(folder) / "start", dtype=torch.bfloat16, attn_implementation=TREE_ATTENTION
        )
    freeze(model, train=("adapter", "llm"))
    model.train()
    passes = {way: [ranks for made in steps for ranks in made] for way, steps in ways.items()}
    shares = {
        _name(way, number, rank): partial(_forward_backward, model, _batch(rows, sizes))
        for rank in range(len(next(iter(passes.values()))[0]))
        for way, of_way in passes.items()
        for number, rows in enumerate(ranks[rank] for ranks in of_way)
    }
    turns = take_turns(shares, rounds=rounds, warmup=0)  # of three, the median leaves the first out
    return {
        way: WayTime(
            count_tokens(ways[way]),
            [
                [turns.median(_name(way, number, rank)) for rank in range(len(ranks))]
                for number, ranks in enumerate(of_way)
            ],
        )
        for way, of_way in passes.items()
    }


def _name(way: str, number: int, rank: int) -> str:
    return f"{way}, pass {number}, rank {rank}"


def _forward_backward(model: LocVLM, batch: dict[str, Any]) -> None:
    """Gradients add up, as over the passes of a step; what they come to is no matter here."""
    model(**batch).loss.backward()


def _batch(rows: Rows, sizes: ModelSizes) -> dict[str, Any]:
    """With the same gray picture for all: what it shows makes no difference to the time."""
    gray = np.zeros((3, sizes.canvas, sizes.canvas), dtype=np.float32)
    pixels = {tree.sample_index: gray for row in rows for tree in row}
    num_targets = float(sum(len(tree.target_ids) for row in rows for tree in row)) or 1.0
    batch = collate(rows, pixels=pixels, pad_token_id=0, num_targets=num_targets)
    return {**batch, "pixel_values": batch["pixel_values"].to(torch.bfloat16)}
