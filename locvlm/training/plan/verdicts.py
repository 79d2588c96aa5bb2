"""What of a plan will not work, or will work badly, and what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from locvlm.training.plan.planner import Plan
from locvlm.training.plan.settings import RunConfig
from locvlm.training.plan.steps import best_division

_TIGHT = 0.93  # of the usable memory
_CORES_PER_GPU = 8  # that a node is taken to have for loading data


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One thing to know before the start."""

    level: Literal["failure", "warning", "ok"]
    text: str


def verdicts(plan: Plan, config: RunConfig) -> list[Verdict]:
    """Failures first."""
    found = [*_settings(plan, config), *_rows(plan), *_memory(plan), *_time(plan), *_disk(plan)]
    order = ("failure", "warning", "ok")
    return sorted(found, key=lambda verdict: order.index(verdict.level))


def _settings(plan: Plan, config: RunConfig) -> Iterator[Verdict]:
    settings, packing, shape = plan.run.settings, plan.run.packing, plan.run.shape
    for problem in settings.problems:
        yield Verdict(level="failure", text=problem)
    if packing.max_row_tokens > shape.max_position:
        text = (
            f"packing.max_row_tokens is {packing.max_row_tokens}, more than the model's {shape.max_position} "
            f"positions"
        )
        yield Verdict(level="failure", text=text)
    if config.optimizer.matrices == "muon":
        level: Literal["failure", "warning"] = "failure" if settings.zero.stage else "warning"
        text = "optimizer.matrices is muon: ZeRO refuses it, and memory is planned as for AdamW"
        yield Verdict(level=level, text=text)
    if settings.precision == "fp32":
        text = "training.bf16 is off: fp32 products are several times slower than the planned bf16 ones"
        yield Verdict(level="warning", text=text)


def _rows(plan: Plan) -> Iterator[Verdict]:
    run, needed = plan.run, plan.run.rows_needed
    division = run.division
    if division.rows < needed:
        passes = best_division(needed, division.ranks, division.rows_per_pass).passes
        text = (
            f"a step needs about {needed} rows and is divided into {division.rows}: with "
            f"{division.rows_per_pass} rows in a pass, set training.gradient_accumulation_steps to {passes}"
        )
        yield Verdict(level="failure", text=text)
    elif division.rows >= 1.5 * needed:
        text = (
            f"the {division.rows} rows of a step are filled to {needed / division.rows:.0%}: fewer passes "
            f"would sum gradients less often"
        )
        yield Verdict(level="warning", text=text)
    if division.ranks > run.conversations_per_step:
        text = (
            f"{division.ranks} ranks share {run.conversations_per_step} conversations a step: some stay idle"
        )
        yield Verdict(level="warning", text=text)


def _memory(plan: Plan) -> Iterator[Verdict]:
    memory, run = plan.memory, plan.run
    share = memory.used / memory.usable
    rows = run.division.rows_per_pass
    if memory.fits:
        level: Literal["warning", "ok"] = "warning" if share > _TIGHT else "ok"
        yield Verdict(level=level, text=f"{rows} rows in a pass fill {share:.0%} of the usable memory")
    else:
        yield Verdict(
            level="failure",
            text=f"{rows} rows in a pass need {memory.used / 1e9:.1f} GB of the {memory.usable / 1e9:.1f} GB "
            f"that are usable: {_remedy(plan)}",
        )
    host = memory.states.host * run.machine.gpus
    if host:
        text = f"states in host memory take {host / 1e9:.0f} GB of each node, pinned"
        yield Verdict(level="warning", text=text)


def _remedy(plan: Plan) -> str:
    memory = plan.memory
    if memory.largest_pass:
        return f"at most {memory.largest_pass} fit, see training.per_device_train_batch_size"
    if memory.largest_checkpointed_pass:
        return (
            f"with training.gradient_checkpointing at most {memory.largest_checkpointed_pass} fit, at a "
            f"third more operations"
        )
    fitting = [name for name, states in plan.states.items() if states.device < 0.8 * memory.usable]
    advice = f"states alone would leave room under {', '.join(fitting)}" if fitting else "take more GPUs"
    return f"not one row fits, even with training.gradient_checkpointing; {advice}"


def _time(plan: Plan) -> Iterator[Verdict]:
    cost, run = plan.cost, plan.run
    if cost.communication_s > cost.compute_s:
        remedy = "a faster network (--node-gb-per-s) would help"
        if run.division.passes > 1 and run.settings.zero.stage >= 2:
            remedy = "take more rows in a pass and fewer passes, or ZeRO-1, which exchanges once a step"
        text = (
            f"ranks exchange for {cost.communication_s:.1f} s a step, at {run.machine.bytes_per_s / 1e9:g} "
            f"GB/s, and compute for {cost.compute_s:.1f} s: {remedy}"
        )
        yield Verdict(level="warning", text=text)
    videos = plan.videos
    if videos is not None and not videos.is_kept and videos.cores_needed > _CORES_PER_GPU * run.machine.ranks:
        text = (
            f"steps wait for videos: {videos.cores_needed:,.0f} cores would have to decode; set "
            f"data.video_cache, and make it ahead with scripts/cache_video_features.py"
        )
        yield Verdict(level="warning", text=text)


def _disk(plan: Plan) -> Iterator[Verdict]:
    cost = plan.cost
    if plan.run.settings.save_total_limit is None and cost.num_checkpoints > 3:
        text = (
            f"{cost.num_checkpoints} checkpoints of {cost.checkpoint_bytes / 1e9:.1f} GB stay on disk: set "
            f"training.save_total_limit"
        )
        yield Verdict(level="warning", text=text)
