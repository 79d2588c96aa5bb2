"""What full rows are worth in time: the shares of some ranks of a step, computed by a small model."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from locvlm.benchmarks.growth.steps import step
from locvlm.benchmarks.peers.start import write_start
from locvlm.benchmarks.peers.workload import ModelSizes
from locvlm.benchmarks.pipeline.filling import Rows, Step
from locvlm.benchmarks.turns import Turns, take_turns
from locvlm.data.collate import collate
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM


def time_ways(
    steps: Mapping[str, Step], *, sizes: ModelSizes, tokenizer: Path, ranks: Sequence[int], rounds: int
) -> tuple[Turns, dict[str, int]]:
    """Seconds for the given ranks' shares of each way's step, and their tokens, padding not counted."""
    with tempfile.TemporaryDirectory() as folder:
        write_start(Path(folder) / "start", sizes, tokenizer_folder=tokenizer)
        model: LocVLM = LocVLM.from_pretrained(Path(folder) / "start")
    freeze(model, train=("adapter", "llm"))
    model.train()
    shares = {way: [ranks_of[rank] for ranks_of in made for rank in ranks] for way, made in steps.items()}
    batches = {way: [_batch(rows, sizes) for rows in share] for way, share in shares.items()}
    turns = take_turns(
        {way: step(model, given, "tree") for way, given in batches.items()},
        rounds=rounds,
    )
    tokens = {
        way: sum(tree.num_tokens for rows in share for row in rows for tree in row if tree.weight)
        for way, share in shares.items()
    }
    return turns, tokens


def _batch(rows: Rows, sizes: ModelSizes) -> dict[str, Any]:
    """With the same gray picture for all: what it shows makes no difference to the time."""
    gray = np.zeros((3, sizes.canvas, sizes.canvas), dtype=np.float32)
    pixels = {tree.sample_index: gray for row in rows for tree in row}
    num_targets = float(sum(len(tree.target_ids) for row in rows for tree in row)) or 1.0
    return collate(rows, pixels=pixels, pad_token_id=0, num_targets=num_targets)
