"""What a preflight found, as verdicts and as text."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from locvlm.training.plan.verdicts import Verdict
from locvlm.training.preflight.check import Findings

_GB = 1e9
_MOST_WAITING = 0.2  # of a step, for data
_MOST_BEHIND = 0.8  # of the median rank's speed
_FULL = 0.95  # of a device's memory
_SAME_LOSS = 1e-3  # relative; on a CPU it is the same to the last bit, on a GPU sums vary in their order
_SHOWN = 1200  # characters of a batch


def judge(found: Findings) -> list[Verdict]:
    """What would go wrong in the run, failures first; at least one line."""
    checks = (_data, _learning, _memory, _reading, _disk, _ranks)
    verdicts = [verdict for check in checks for verdict in check(found)]
    if not any(verdict.level == "failure" for verdict in verdicts):
        verdicts.append(Verdict(level="ok", text="nothing was found that would stop the run"))
    order = ("failure", "warning", "ok")
    return sorted(verdicts, key=lambda verdict: order.index(verdict.level))


def _data(found: Findings) -> Iterator[Verdict]:
    survey, limits = found.survey, found.limits
    for problem in survey.problems[:3]:
        yield Verdict(level="failure", text=f"{problem} ({len(survey.problems)} such steps)")
    dropped = survey.num_dropped / max(survey.num_conversations, 1)
    failed = len(survey.image_problems) / max(survey.num_images, 1)
    for what, fraction, detail in (
        ("conversations that are malformed, too long or cut away", dropped, ""),
        ("images that cannot be read", failed, "; ".join(survey.image_problems[:2])),
    ):
        if fraction:
            level = "failure" if fraction > limits.max_dropped_fraction else "warning"
            text = (
                f"{fraction:.1%} of the {what}, data.max_dropped_fraction is "
                f"{limits.max_dropped_fraction:.1%}: {detail}"
            )
            yield Verdict(level=level, text=text)  # type: ignore[arg-type]
    if limits.missing_adapter:
        text = f"model.adapter is not there yet: {limits.missing_adapter}; tried with a fresh one"
        yield Verdict(level="failure", text=text)


def _learning(found: Findings) -> Iterator[Verdict]:
    trial = found.trial
    if not all(math.isfinite(loss) for loss in trial.losses):
        yield Verdict(level="failure", text=f"a loss is no number: {trial.losses}")
    before, again = trial.losses[-1], trial.repeated_loss
    if not math.isclose(before, again, rel_tol=_SAME_LOSS):
        text = f"the last step has loss {before:.6g}, and {again:.6g} when a checkpoint is resumed from"
        yield Verdict(level="failure", text=text)
    else:
        text = f"a checkpoint was saved and resumed from, the step after it has the same loss: {again:.6g}"
        yield Verdict(level="ok", text=text)


def _memory(found: Findings) -> Iterator[Verdict]:
    for peak in found.memory:
        if peak.total_bytes and peak.reserved_bytes > _FULL * peak.total_bytes:
            text = (
                f"rank {peak.rank} takes {peak.reserved_bytes / _GB:.1f} of {peak.total_bytes / _GB:.1f} GB: "
                f"a longer step may not fit"
            )
            yield Verdict(level="warning", text=text)
    tried, limits = max(facts.longest_row for facts in found.tried), found.limits
    if tried < 0.9 * limits.max_row_tokens:
        text = (
            f"the longest row that was met has {tried} tokens; packing allows {limits.max_row_tokens}, which "
            f"would take more memory than was measured"
        )
        yield Verdict(level="warning", text=text)


def _reading(found: Findings) -> Iterator[Verdict]:
    waiting = found.trial.data_wait_fraction
    if waiting > _MOST_WAITING:
        text = f"{waiting:.0%} of the time is spent waiting for data: raise data.num_workers"
        yield Verdict(level="warning", text=text)


def _disk(found: Findings) -> Iterator[Verdict]:
    needed, free = found.disk_bytes, found.limits.free_disk_bytes
    if needed > free:
        text = (
            f"the run needs {needed / _GB:.1f} GB of disk at its fullest and {free / _GB:.1f} GB are free: "
            f"lower training.save_total_limit or faults.max_checkpoints_gb, or take another output_dir"
        )
        yield Verdict(level="failure", text=text)


def _ranks(found: Findings) -> Iterator[Verdict]:
    speeds = sorted(found.speeds, key=lambda speed: speed.flops)
    slowest, usual = speeds[0], speeds[len(speeds) // 2]
    if slowest.flops < _MOST_BEHIND * usual.flops:
        text = (
            f"rank {slowest.rank} on {slowest.host} multiplies at {slowest.flops / usual.flops:.0%} of the "
            f"usual speed, and all ranks wait for it"
        )
        yield Verdict(level="warning", text=text)


def to_json(found: Findings, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All figures, in bytes, seconds and operations."""
    derived = {
        "hours": found.hours,
        "disk_bytes": found.disk_bytes,
        "flops_per_rank": found.flops_per_rank,
    }
    return {**asdict(found), "derived": derived, "verdicts": [asdict(verdict) for verdict in verdicts]}


def to_text(found: Findings, verdicts: Sequence[Verdict]) -> str:
    """What was measured, then the verdicts."""
    trial, limits, survey = found.trial, found.limits, found.survey
    slowest = min(found.speeds, key=lambda speed: speed.flops)
    peak = max(found.memory, key=lambda memory: memory.used_bytes)
    exchange = "one rank, nothing to exchange"
    if found.exchange is not None:
        exchange = (
            f"{found.exchange.num_bytes / 2**20:.0f} MiB summed over {len(found.speeds)} ranks in "
            f"{1e3 * found.exchange.seconds:.1f} ms: {found.exchange.bytes_per_s / _GB:.2f} GB/s"
        )
    lines = [
        "A batch, decoded",
        *(f"  {line}" for line in found.first_batch[:_SHOWN].splitlines()),
        "",
        "Measured",
        f"  {len(survey.steps)} of {limits.num_steps:,} steps looked at: rows of up to "
        f"{max(f.longest_row for f in survey.steps)} tokens (packing allows {limits.max_row_tokens}, the "
        f"model {limits.max_position}); {survey.num_images} images opened",
        f"  {len(trial.losses)} steps trained, losses {trial.losses[0]:.4f} to {trial.losses[-1]:.4f}; "
        f"{trial.step_s:.2f} s a step, {trial.tokens_per_s:,.0f} tokens/s, "
        f"{found.flops_per_rank / 1e12:.3g} TFLOP/s a rank; waited for data {trial.data_wait_fraction:.0%}",
        f"  memory: rank {peak.rank} used most, {peak.used_bytes / _GB:.2f} GB, and holds "
        f"{peak.reserved_bytes / _GB:.2f} GB",
        f"  exchange: {exchange}",
        f"  slowest by itself: rank {slowest.rank} on {slowest.host}, {slowest.flops / 1e12:.3g} TFLOP/s",
        f"  a checkpoint: {trial.checkpoint_bytes / _GB:.3f} GB, saved in {trial.save_s:.1f} s, everything "
        f"read again in {trial.reload_s:.1f} s; the run needs {found.disk_bytes / _GB:.2f} GB of disk, "
        f"{limits.free_disk_bytes / _GB:.1f} GB are free",
        f"  the whole run: {found.hours:.2f} hours",
        "",
        "Verdict",
        *(f"  {verdict.level:8} {verdict.text}" for verdict in verdicts),
    ]
    return "\n".join(lines)
