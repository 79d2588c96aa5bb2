"""A run, described -> what it will need: operations, memory, time, disk, money."""

from dataclasses import dataclass, replace
from typing import Any

from locvlm.training.plan.cost import Cost, cost_of
from locvlm.training.plan.flops import flops_by_direction, total_flops
from locvlm.training.plan.memory import (
    ActivationBytes,
    StateBytes,
    Zero,
    activation_bytes,
    state_bytes,
    usable_bytes,
)
from locvlm.training.plan.run import Run
from locvlm.training.plan.settings import zero_of
from locvlm.training.plan.shapes import ModelShape
from locvlm.training.plan.steps import Division, best_division, full_rows, rows_needed, step_load
from locvlm.training.plan.videos import VideoCost, video_cost

_MOST_ROWS = 64  # in a pass: more save nothing
_SHOWN_ROWS = (1, 2, 4, 8, 16)
_IN_HOST = {"device": "cpu"}
_ZERO1 = {"stage": 1, "reduce_bucket_size": 5e8}  # as in ds_configs
_ZERO2 = {"stage": 2, "overlap_comm": True, "reduce_bucket_size": 5e8}
_ZERO3 = {"stage": 3, "overlap_comm": True, "reduce_bucket_size": "auto", "stage3_max_live_parameters": 1e9}
MODES: dict[str, dict[str, Any]] = {
    "no DeepSpeed": {"stage": 0},
    "ZeRO-1": _ZERO1,
    "ZeRO-2": _ZERO2,
    "ZeRO-2, optimizer in host memory": {**_ZERO2, "offload_optimizer": _IN_HOST},
    "ZeRO-3": _ZERO3,
    "ZeRO-3, optimizer in host memory": {**_ZERO3, "offload_optimizer": _IN_HOST},
    "ZeRO-3, all in host memory": {**_ZERO3, "offload_optimizer": _IN_HOST, "offload_param": _IN_HOST},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Of one rank, when rows are full."""

    states: StateBytes
    activations: ActivationBytes
    usable: float
    largest_pass: int  # rows in a pass that fit; 0: not even one
    largest_checkpointed_pass: int  # the same with training.gradient_checkpointing
    peaks: dict[int, tuple[float, float]]  # rows in a pass -> activations without and with checkpointing

    @property
    def used(self) -> float:
        """At the worst moment of a pass."""
        return self.states.device + self.activations.peak

    @property
    def fits(self) -> bool:
        """Whether the configured rows fit."""
        return self.used <= self.usable


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `scripts/plan.py` prints."""

    run: Run
    flops: dict[str, dict[str, float]]  # of a step: forward, backward, recomputed -> part -> operations
    separate_flops: float  # of a step, were each branch a sample of its own
    states: dict[str, StateBytes]  # by way of dividing them
    memory: Memory
    cost: Cost
    suggested: Division  # as few passes as fit
    suggested_cost: Cost
    videos: VideoCost | None  # None where there are none

    @property
    def step_flops(self) -> float:
        """Executed in a step."""
        return total_flops(self.flops)


def make_plan(run: Run, *, decode_s: float | None = None) -> Plan:
    """The plan of a run.

    Args:
        decode_s: of one core, for the frames of one video; left out, as assumed.

    Raises:
        ValueError: if a mean conversation is longer than a row.
    """
    memory = memory_of(run)
    flops = flops_by_direction(run.shape, run.load, run.scope, checkpointing=run.settings.checkpointing)
    suggested = best_division(run.rows_needed, run.machine.ranks, memory.largest_pass)
    cost = cost_of(run, total_flops(flops))
    return Plan(
        run=run,
        flops=flops,
        separate_flops=_separate_flops(run),
        states=states_by_mode(run),
        memory=memory,
        cost=cost,
        suggested=suggested,
        suggested_cost=cost_of(replace(run, division=suggested), total_flops(flops)),
        videos=video_cost(run, step_s=max(cost.compute_s, cost.communication_s), decode_s=decode_s),
    )


# ---- memory


def memory_of(run: Run) -> Memory:
    """What a pass of the configured rows takes, and the most rows that a pass can have."""
    states, usable = _states(run, run.settings.zero), usable_bytes(run.machine.gpu.memory_bytes)

    def largest(checkpointing: bool) -> int:
        rows = range(1, _MOST_ROWS + 1)
        fitting = [n for n in rows if states.device + _activations(run, n, checkpointing).peak <= usable]
        return max(fitting, default=0)

    return Memory(
        states=states,
        activations=_activations(run, run.division.rows_per_pass, run.settings.checkpointing),
        usable=usable,
        largest_pass=largest(run.settings.checkpointing),
        largest_checkpointed_pass=largest(True),
        peaks={
            rows: (_activations(run, rows, False).peak, _activations(run, rows, True).peak)
            for rows in _SHOWN_ROWS
        },
    )


def _activations(run: Run, rows: int, checkpointing: bool) -> ActivationBytes:
    return activation_bytes(
        run.shape,
        full_rows(rows, run.data.lengths, run.shape, run.packing),
        scope=run.scope,
        precision=run.settings.precision,
        attention=run.packing.attention,
        checkpointing=checkpointing,
    )


def _states(run: Run, zero: Zero) -> StateBytes:
    """States under another way of dividing them; without DeepSpeed, bf16 means autocast."""
    precision = run.settings.precision
    if precision != "fp32":
        precision = "bf16" if zero.stage else "autocast"
    return state_bytes(run.parameters, zero, precision, run.machine.ranks, is_4bit=run.is_4bit)


def states_by_mode(run: Run) -> dict[str, StateBytes]:
    """States under every way of dividing them."""
    return {name: _states(run, mode_settings(name, run.shape)) for name in MODES}


def mode_settings(name: str, shape: ModelShape) -> Zero:
    """One of `MODES`, with gradients summed in fp32 as in ds_configs."""
    fp32 = {"data_types": {"grad_accum_dtype": "fp32"}, "communication_data_type": "fp32"}
    return zero_of({"zero_optimization": MODES[name], **fp32}, shape)


def _separate_flops(run: Run) -> float:
    """Of a step whose branches each have their own copy of the image, with the same attention."""
    packing = replace(run.packing, mode="separate")
    lengths = run.data.lengths
    rows = rows_needed(run.conversations_per_step, lengths, run.shape, packing)
    load = run.as_seen(step_load(run.conversations_per_step, rows, lengths, run.shape, packing))
    checkpointing = run.settings.checkpointing
    return total_flops(flops_by_direction(run.shape, load, run.scope, checkpointing=checkpointing))
