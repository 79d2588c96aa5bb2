"""What full rows are worth in time: some steps as their ranks divide them, computed by a small model."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from locvlm.benchmarks.growth.steps import step
from locvlm.benchmarks.peers.start import write_start
from locvlm.benchmarks.peers.workload import ModelSizes
from locvlm.benchmarks.pipeline.filling import Rows, Step, count_tokens
from locvlm.benchmarks.turns import take_turns
from locvlm.data.collate import collate
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM


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
    """Compute every rank's share of the steps, one after the other, the ways in turns rank by rank.

    All ways have equally many passes.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_start(Path(folder) / "start", sizes, tokenizer_folder=tokenizer)
        model: LocVLM = LocVLM.from_pretrained(Path(folder) / "start")
    freeze(model, train=("adapter", "llm"))
    model.train()
    passes = {way: [ranks for made in steps for ranks in made] for way, steps in ways.items()}
    shares = {
        f"{way}, pass {number}, rank {rank}": step(model, [_batch(of_way[number][rank], sizes)], "tree")
        for number, ranks in enumerate(next(iter(passes.values())))
        for rank in range(len(ranks))
        for way, of_way in passes.items()
    }
    turns = take_turns(shares, rounds=rounds)
    return {
        way: WayTime(
            count_tokens(ways[way]),
            [
                [turns.median(f"{way}, pass {number}, rank {rank}") for rank in range(len(ranks))]
                for number, ranks in enumerate(of_way)
            ],
        )
        for way, of_way in passes.items()
    }


def _batch(rows: Rows, sizes: ModelSizes) -> dict[str, Any]:
    """With the same gray picture for all: what it shows makes no difference to the time."""
    gray = np.zeros((3, sizes.canvas, sizes.canvas), dtype=np.float32)
    pixels = {tree.sample_index: gray for row in rows for tree in row}
    num_targets = float(sum(len(tree.target_ids) for row in rows for tree in row)) or 1.0
    return collate(rows, pixels=pixels, pad_token_id=0, num_targets=num_targets)
