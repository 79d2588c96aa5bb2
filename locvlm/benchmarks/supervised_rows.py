"""Head and last layer at supervised rows alone, against all rows: equal gradients first, then times."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from locvlm.benchmarks.agreement import Difference, difference, outcome_of, require_agreement
from locvlm.benchmarks.packed import (
    DTYPES,
    Batch,
    Content,
    Sizes,
    build_model,
    count_flops,
    kept_bytes,
    make_batch,
)
from locvlm.benchmarks.turns import Turns, take_turns
from locvlm.model.last_layer import narrow_last_layer, widen_last_layer
from locvlm.model.locvlm import LocVLM

ALL_ROWS, HEAD, BOTH = "all rows", "head", "both"
WAYS = (ALL_ROWS, HEAD, BOTH)


@dataclass(frozen=True)
class Measured:
    """One model."""

    differences: dict[str, Difference]  # from all rows, in fp32
    turns: Turns
    flops: dict[str, float]
    kept_bytes: dict[str, int]
    supervised_fraction: float  # of all rows

    def times_as_fast(self, way: str) -> float:
        """As all rows."""
        return self.turns.times_as_fast(way, ALL_ROWS)

    def counted(self, way: str) -> float:
        """The same ratio by operations."""
        return self.flops[ALL_ROWS] / self.flops[way]

    def to_json(self) -> dict[str, Any]:
        """For the result."""
        return {
            "supervised_fraction": self.supervised_fraction,
            "differences": {way: asdict(gap) for way, gap in self.differences.items()},
            "ways": {
                way: {
                    **timed,
                    "flops": self.flops[way],
                    "times_fewer_flops": self.counted(way),
                    "kept_bytes": self.kept_bytes[way],
                }
                for way, timed in self.turns.against(ALL_ROWS).items()
            },
        }


def measure(sizes: Sizes, content: Content, *, dtype: str, rounds: int) -> Measured:
    """Compare the ways in fp32, then time forward and backward pass in `dtype`.

    Raises:
        ArithmeticError: if a way gives another loss or other gradients.
    """
    model = build_model(sizes, dtype=torch.float32)
    batch = make_batch(model, content, "shared_prefix")
    batches = {ALL_ROWS: with_all_rows(batch), HEAD: batch, BOTH: batch}
    outcomes = {}
    for way in WAYS:
        _prepare(model, way)
        outcomes[way] = outcome_of(model, batches[way])
    differences = {way: difference(outcomes[way], outcomes[ALL_ROWS]) for way in (HEAD, BOTH)}
    for way, gap in differences.items():
        require_agreement(way, gap, torch.float32)
    outcomes.clear()

    torch.nn.Module.to(model, DTYPES[dtype])  # whose types mypy can read
    batches = {way: {**of, "pixel_values": of["pixel_values"].to(model.dtype)} for way, of in batches.items()}
    kept = {}
    for way in WAYS:
        _prepare(model, way)
        kept[way] = kept_bytes(model, batches[way])

    def forward_and_backward(way: str) -> None:
        _prepare(model, way)
        model(**batches[way]).loss.backward()

    turns = take_turns({way: partial(forward_and_backward, way) for way in WAYS}, rounds=rounds)
    return Measured(
        differences=differences,
        turns=turns,
        flops=_count(model, batches),
        kept_bytes=kept,
        supervised_fraction=batch["target_index"].numel() / batch["input_ids"].numel(),
    )


def with_all_rows(batch: Batch) -> Batch:
    """The same loss, computed of all rows: those that are not supervised count nothing."""
    index, num_rows = batch["target_index"], batch["input_ids"].numel()
    assert len(index.unique()) == len(index), "a state that predicts two targets needs two rows"
    ids = batch["target_ids"].new_zeros(num_rows).index_copy(0, index, batch["target_ids"])
    weights = batch["target_weights"].new_zeros(num_rows).index_copy(0, index, batch["target_weights"])
    every = torch.arange(num_rows)
    return {**batch, "target_index": every, "target_ids": ids, "target_weights": weights}


def _prepare(model: LocVLM, way: str) -> None:
    if way == HEAD:
        widen_last_layer(model.model.language_model)
    else:
        narrow_last_layer(model.model.language_model)


def _count(model: LocVLM, batches: dict[str, Batch]) -> dict[str, float]:
    every, ours = (count_flops(model, batches[way], "sdpa") for way in (ALL_ROWS, BOTH))
    return {
        ALL_ROWS: sum(every.values()),
        HEAD: sum({**every, "head": ours["head"]}.values()),
        BOTH: sum(ours.values()),
    }
