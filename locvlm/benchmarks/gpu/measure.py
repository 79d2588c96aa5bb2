"""One workload on a built model: its first step, steps that are timed, the most rows that fit."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from locvlm.benchmarks.gpu.batches import (
    Conversations,
    conversations_per_row,
    draw_conversations,
    make_step,
)
from locvlm.benchmarks.gpu.bench import Attempt, Bench, attempt, free, synchronize
from locvlm.benchmarks.gpu.cases import Workload, config_of
from locvlm.benchmarks.gpu.estimates import needed_bytes
from locvlm.benchmarks.gpu.models import choose_attention
from locvlm.benchmarks.gpu.results import Timed
from locvlm.benchmarks.gpu.steps import Built, train_pass, train_step, watched
from locvlm.training.plan.flops import flops_by_direction, total_flops, useful_flops
from locvlm.training.plan.loads import add_loads, executed_load, useful_load
from locvlm.training.plan.shapes import shape_of
from locvlm.training.profiling.timeline import Timeline

_MOST_ROWS_SEARCHED = 64


@dataclass
class Running:
    """A workload that has taken its first step."""

    workload: Workload
    batches: list[dict[str, Any]]
    loss: float
    peak_memory_bytes: int | None
    estimated_bytes: float  # the planner's
    step_s: list[float] = field(default_factory=list)
    parts_s: dict[str, float] = field(default_factory=dict)  # sums


def start(built: Built, workload: Workload, bench: Bench) -> Attempt[Running]:
    """A first step, which compiles and allocates; with fewer rows in a pass where they do not fit."""
    rows = min(bench.estimate(built.setup, workload).largest_rows, bench.sizes.most_rows)
    conversations = _draw(built, workload, number=bench.sizes.conversations[built.setup.stage])
    while True:
        tried = attempt(
            lambda rows=rows: _first_step(built, workload, conversations, rows, bench),  # type: ignore[misc]
            bench.device,
        )
        if tried.value is None:
            built.optimizer.zero_grad()
        if tried.status != "does not fit" or rows == 1:
            return tried
        rows //= 2


def _first_step(
    built: Built, workload: Workload, conversations: Conversations, rows: int, bench: Bench
) -> Running:
    batches = make_step(
        conversations, mode=workload.mode, row_tokens=bench.sizes.row_tokens, rows_per_pass=rows
    )
    _configure(built, workload)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    loss = float(train_step(built, batches, Timeline(bench.device)))
    if not math.isfinite(loss):
        raise ArithmeticError(f"the loss is {loss}")
    peak = torch.cuda.max_memory_allocated(bench.device) if bench.device.type == "cuda" else None
    loads = [executed_load(batch, workload.attention) for batch in batches]
    return Running(
        workload=workload,
        batches=batches,
        loss=loss,
        peak_memory_bytes=peak,
        estimated_bytes=max(needed_bytes(built.setup, workload, load) for load in loads),
    )


def time_step(built: Built, running: Running, bench: Bench) -> Timed:
    """One more step; the result of all so far."""
    _configure(built, running.workload)
    timeline = Timeline(bench.device)
    with watched(built, timeline):
        synchronize(bench.device)
        begin = time.perf_counter()
        timeline.resume()
        train_step(built, running.batches, timeline)
        parts = timeline.read()  # waits for the device
        running.step_s.append(time.perf_counter() - begin)
    for part, seconds in parts.items():
        running.parts_s[part] = running.parts_s.get(part, 0.0) + seconds
    return _summarise(built, running, bench)


def _summarise(built: Built, running: Running, bench: Bench) -> Timed:
    shape, scope, workload = shape_of(built.model.config), built.setup.scope, running.workload
    useful = add_loads([useful_load(batch) for batch in running.batches])
    executed = add_loads([executed_load(batch, workload.attention) for batch in running.batches])
    by_direction = flops_by_direction(shape, executed, scope, checkpointing=workload.checkpointing)
    conversations = bench.sizes.conversations[built.setup.stage]
    return Timed(
        step_s=tuple(running.step_s),
        parts_s={part: total / len(running.step_s) for part, total in running.parts_s.items()},
        loss=running.loss,
        rows_per_pass=running.batches[0]["input_ids"].shape[0],
        passes=len(running.batches),
        conversations=conversations,
        pairs=conversations * workload.pairs,
        tokens=useful.tokens,
        useful_flops=useful_flops(shape, useful, scope),
        executed_flops=total_flops(by_direction),
        peak_memory_bytes=running.peak_memory_bytes,
    )


def search(built: Built, workload: Workload, bench: Bench) -> int:
    """The most rows that a forward and backward pass can have, beside the optimizer's states."""
    _configure(built, workload)
    per_row = conversations_per_row(_draw(built, workload, number=8), bench.sizes.row_tokens)

    def fits(rows: int) -> bool:
        conversations = _draw(built, workload, number=rows * per_row)
        (batch,) = make_step(
            conversations, mode=workload.mode, row_tokens=bench.sizes.row_tokens, rows_per_pass=rows
        )
        fitted = _does_fit(built, batch)
        built.optimizer.zero_grad()
        free(bench.device)
        return fitted

    most = _MOST_ROWS_SEARCHED if bench.memory_bytes else bench.sizes.most_rows
    return largest_that_fits(fits, most=most)


def _does_fit(built: Built, batch: dict[str, Any]) -> bool:
    try:
        train_pass(built, batch, Timeline(built.device))
        synchronize(built.device)
    except torch.OutOfMemoryError:
        return False
    return True


def largest_that_fits(fits: Callable[[int], bool], *, most: int) -> int:
    """The largest number up to `most` that fits, 0 if 1 does not: by doubling, then by halving the gap."""
    fitting, failing = 0, most + 1
    while fitting + 1 < failing:
        is_doubling = failing == most + 1
        tried = min(2 * fitting or 1, most) if is_doubling else (fitting + failing) // 2
        if fits(tried):
            fitting = tried
        else:
            failing = tried
    return fitting


def _draw(built: Built, workload: Workload, *, number: int) -> Conversations:
    config = config_of(built.setup.variant)
    return draw_conversations(config, stage=built.setup.stage, number=number, pairs=workload.pairs)


def _configure(built: Built, workload: Workload) -> None:
    choose_attention(built.model, workload.attention)
    blocks: Any = built.model.model.language_model.layers
    if blocks[0].gradient_checkpointing == workload.checkpointing:
        return
    if workload.checkpointing:
        built.model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        built.model.gradient_checkpointing_disable()
