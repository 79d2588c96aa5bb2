"""Before anything is built: the bytes and the seconds that a case will take, by the planner's arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from locvlm.benchmarks.gpu.cases import Group, Setup, Sizes, Workload, config_of
from locvlm.benchmarks.gpu.optimizers import STATE_BYTES
from locvlm.training.plan.data import ASSUMED
from locvlm.training.plan.flops import Load, flops_by_direction, total_flops
from locvlm.training.plan.memory import Precision, activation_bytes, usable_bytes, weight_bytes
from locvlm.training.plan.shapes import PartSize, Scope, count_parameters, shape_of
from locvlm.training.plan.steps import Packing, full_rows, rows_needed, step_load

_ASSUMED_SHARE = 0.35  # of the peak, for estimates of time
_BUILD_S = 8.0  # a 7B model and its optimizer on the device
_COMPILE_S = {"no": 0.0, "blocks": 40.0, "model": 90.0}
_FLEX_S = 15.0  # its kernels are compiled at first use
_SEARCH_STEPS = 6  # passes until the largest is found, counted in passes of the largest


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Of one case."""

    flops: float  # of a step, executed
    needed_bytes: float  # with one row in a pass
    largest_rows: int  # in a pass that fit; 0: not one
    seconds: float  # of all that the case takes, without building the model


def estimate(
    setup: Setup,
    workload: Workload,
    sizes: Sizes,
    *,
    memory_bytes: int,
    rounds: int,
    peak_flops: float,
) -> Estimate:
    """On a device with so much memory (0: no limit) and such a peak."""
    shape, lengths = (
        shape_of(config_of(setup.variant)),
        replace(ASSUMED[setup.stage], branches=workload.pairs),
    )
    packing = Packing(mode=workload.mode, max_row_tokens=sizes.row_tokens, attention=workload.attention)
    conversations = sizes.conversations[setup.stage]
    rows = rows_needed(conversations, lengths, shape, packing)
    load = step_load(conversations, rows, lengths, shape, packing)
    flops = total_flops(flops_by_direction(shape, load, setup.scope, checkpointing=workload.checkpointing))

    def needed(rows_per_pass: int) -> float:
        return needed_bytes(setup, workload, full_rows(rows_per_pass, lengths, shape, packing))

    most = 64 if workload.is_search else sizes.most_rows
    usable = usable_bytes(memory_bytes) if memory_bytes else float("inf")
    largest = max((n for n in range(1, most + 1) if needed(n) <= usable), default=0)
    num_steps = rounds + 1
    if workload.is_search:
        num_steps, flops = _SEARCH_STEPS, flops * largest / rows
    seconds = num_steps * flops / (peak_flops * _ASSUMED_SHARE)
    seconds += _FLEX_S if workload.attention == "flex_attention" else 0.0
    return Estimate(flops=flops, needed_bytes=needed(1), largest_rows=largest, seconds=seconds)


def needed_bytes(setup: Setup, workload: Workload, load: Load) -> float:
    """States, and what a pass of such a load keeps."""
    kept = activation_bytes(
        shape_of(config_of(setup.variant)),
        load,
        scope=setup.scope,
        precision=precision_of(setup),
        attention=workload.attention,
        checkpointing=workload.checkpointing,
    )
    return state_bytes(setup) + kept.peak


def build_seconds(setup: Setup) -> float:
    """To make the model, and compile it."""
    return _BUILD_S + _COMPILE_S[setup.compiled]


def state_bytes(setup: Setup) -> float:
    """Weights, bf16 gradients (fp32 where weights are) and the optimizer's states."""
    parts = parameters_of(setup)
    trained = sum(part.trained for part in parts.values())
    size = 2 if precision_of(setup) == "bf16" else 4
    optimizer = 8 if size == 4 else STATE_BYTES[setup.optimizer]  # fp32 weights are their own masters
    return weight_bytes(parts, size, is_4bit=setup.quantize is not None) + trained * (size + optimizer)


def precision_of(setup: Setup) -> Precision:
    """How weights and products are kept, in the planner's word."""
    return "autocast" if setup.quantize else "bf16"


def parameters_of(setup: Setup) -> dict[str, PartSize]:
    """Parameters by part."""
    return _parameters(setup.variant, setup.scope)


@lru_cache
def _parameters(variant: str, scope: Scope) -> dict[str, PartSize]:
    return count_parameters(config_of(variant), scope)  # type: ignore[arg-type]


def plan_lines(
    groups: Sequence[Group], sizes: Sizes, *, memory_bytes: int, rounds: int, peak_flops: float
) -> list[str]:
    """Every case with its estimated seconds and bytes, as they would be run; the sum last."""
    lines, total = [], 0.0
    for setup, workloads in groups:
        guesses = {
            workload: estimate(
                setup, workload, sizes, memory_bytes=memory_bytes, rounds=rounds, peak_flops=peak_flops
            )
            for workload in workloads
        }
        fitting = [guess for guess in guesses.values() if guess.largest_rows]
        built_s = build_seconds(setup) if fitting else 0.0
        total += built_s + sum(guess.seconds for guess in fitting)
        lines.append(f"{setup.name}: the model, {built_s:.0f} s")
        for workload, guess in guesses.items():
            name, needed = f"  {setup.name}/{workload.name}", f"{guess.needed_bytes / 1e9:6.1f} GB"
            if guess.largest_rows:
                lines.append(f"{name:60} {guess.seconds:5.0f} s  {needed}, {guess.largest_rows} rows fit")
            else:
                lines.append(f"{name:60} does not fit: {needed} with one row")
    return [*lines, f"about {total:.0f} s in all, at {_ASSUMED_SHARE:.0%} of the peak"]
