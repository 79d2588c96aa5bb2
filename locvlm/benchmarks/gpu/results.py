"""What a benchmark found, as JSON that is written after every case, and as lines to read."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from locvlm.benchmarks.result import TIMES_AS_FAST, Headline
from locvlm.io import write_json
from locvlm.training.plan.measured import FORMAT

Status = Literal["ok", "failed", "wrong", "not here", "does not fit", "not started"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """What a workload's steps took, and what they did."""

    step_s: tuple[float, ...]  # of every round
    parts_s: dict[str, float]  # of a step, the mean
    loss: float  # the same in every step: nothing learns
    rows_per_pass: int
    passes: int  # in a step
    conversations: int
    pairs: int
    tokens: float  # without padding
    useful_flops: float  # of a step: shared prefixes once, nothing twice, no padding
    executed_flops: float  # as scripts/plan.py counts, with padding, dense masks and recomputation
    peak_memory_bytes: int | None  # None on a CPU

    @property
    def seconds(self) -> float:
        """Of a step, the median."""
        return median(self.step_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseResult:
    """One case: what it was, and what came of it."""

    name: str
    stage: str
    variant: str
    setup: dict[str, Any]
    workload: dict[str, Any]
    status: Status
    reason: str = ""  # where it is not ok
    timed: Timed | None = None
    largest_rows: int | None = None  # of a search: rows in a pass that fit
    estimated_largest_rows: int | None = None
    estimated_bytes: float | None = None  # with the rows that were used, or with one

    def to_json(self, peak_flops: float) -> dict[str, Any]:
        """All of it, and the rates that follow."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "timed"}
        if self.timed is None:
            return values
        timed = {name: getattr(self.timed, name) for name in self.timed.__dataclass_fields__}
        return {**values, **timed, **rates(self.timed, peak_flops)}


def rates(timed: Timed, peak_flops: float) -> dict[str, float]:
    """By the median step."""
    seconds = timed.seconds
    return {
        "median_step_s": seconds,
        "tokens_per_s": timed.tokens / seconds,
        "pairs_per_s": timed.pairs / seconds,
        "images_per_s": timed.conversations / seconds,
        "mfu": timed.useful_flops / seconds / peak_flops,
        "executed_share": timed.executed_flops / seconds / peak_flops,
    }


@dataclass
class Report:
    """All results so far. Every change is on disk at once, so that a killed run loses one case."""

    out: Path | None
    machine: dict[str, Any]
    settings: dict[str, Any]
    peak_flops: float
    correctness: list[dict[str, Any]] = field(default_factory=list)
    cases: dict[str, CaseResult] = field(default_factory=dict)

    def put(self, result: CaseResult) -> None:
        """Add a case, or replace what is known of it."""
        self.cases[result.name] = result
        self.save()

    def save(self) -> None:
        """Write the file, if there is to be one."""
        if self.out is not None:
            write_json(self.out, _plain(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        found = goals(list(self.cases.values()), self.peak_flops)
        return {
            "format": FORMAT,
            "machine": self.machine,
            "settings": self.settings,
            "peak_tflops": self.peak_flops / 1e12,
            "headline": [asdict(one) for one in headline(found)],
            "goals": [asdict(goal) for goal in found],
            "correctness": self.correctness,
            "loss_spread": loss_spread(list(self.cases.values())),
            "cases": [case.to_json(self.peak_flops) for case in self.cases.values()],
        }


def loss_spread(cases: Sequence[CaseResult]) -> dict[str, float]:
    """Of one model and number of pairs, the largest relative difference of the losses that its cases gave.

    The pairs are the same, only computed in other ways: in bf16 they differ by some 1e-4.
    """
    losses: dict[str, list[float]] = {}
    for case in cases:
        if case.timed is not None:
            key = f"{case.name.partition('/')[0]}/k{case.workload['pairs']}"
            losses.setdefault(key, []).append(case.timed.loss)
    return {
        key: (max(values) - min(values)) / min(values) for key, values in losses.items() if len(values) > 1
    }


def _plain(value: Any) -> Any:
    """What JSON can hold: a number that is none becomes null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- goals


@dataclass(frozen=True)
class Goal:
    """What was to be reached, and what was."""

    what: str
    wanted: float
    reached: float | None  # None: not measured
    by: str = ""  # the case
    unit: str = "of the peak"


def goals(cases: Sequence[CaseResult], peak_flops: float) -> list[Goal]:
    """Those of the project, for the variants that were measured."""
    timed = [case for case in cases if case.timed is not None]
    found = []
    for variant in dict.fromkeys(case.variant for case in cases):
        own = [case for case in timed if case.variant == variant]
        full = [case for case in own if case.stage == "stage2" and _is_full(case)]
        shared = [case for case in full if case.workload["mode"] == "shared_prefix"]
        found.append(_best(f"{variant}: stage 2, MFU without checkpointing", 0.55, shared, "mfu", peak_flops))
        if variant in (wanted := {"l": 4.7, "b": 3.7}):
            found.append(_gain(variant, wanted[variant], full))
        if variant == "l":
            captions = [case for case in own if case.stage == "stage1"]
            best = _best("l: stage 1, images/s", 30.0, captions, "images_per_s", peak_flops)
            found.append(replace(best, unit="images/s"))
    return found


def _is_full(case: CaseResult) -> bool:
    """Whether all weights train, and nothing is computed twice."""
    return case.setup["lora"] is None and not case.workload["checkpointing"]


def _best(what: str, wanted: float, cases: Sequence[CaseResult], rate: str, peak_flops: float) -> Goal:
    reached = [(rates(case.timed, peak_flops)[rate], case.name) for case in cases if case.timed is not None]
    return Goal(what, wanted, *max(reached)) if reached else Goal(what, wanted, None)


def _gain(variant: str, wanted: float, cases: Sequence[CaseResult]) -> Goal:
    """Shared prefixes over separate samples at 8 pairs, with one model, each by its fastest kernel."""
    what = f"{variant}: shared prefix over separate, 8 pairs"
    gains = []
    for setup in {case.name.partition("/")[0] for case in cases}:
        seconds: dict[str, dict[float, str]] = {"shared_prefix": {}, "separate": {}}
        for case in cases:
            if case.name.startswith(f"{setup}/") and case.workload["pairs"] == 8 and case.timed is not None:
                seconds[case.workload["mode"]][case.timed.seconds] = case.name
        if seconds["shared_prefix"] and seconds["separate"]:
            shared, separate = min(seconds["shared_prefix"]), min(seconds["separate"])
            names = f"{seconds['shared_prefix'][shared]} against {seconds['separate'][separate]}"
            gains.append((separate / shared, names))
    best = Goal(what, wanted, *max(gains)) if gains else Goal(what, wanted, None)
    return replace(best, unit=TIMES_AS_FAST)


def headline(found: Sequence[Goal]) -> list[Headline]:
    """What is to be quoted: the goals, as far as they were measured."""
    return [
        Headline(what=f"one GPU, {goal.what}", figure=goal.reached, unit=goal.unit, goal=goal.wanted)
        for goal in found
        if goal.reached is not None
    ]


# ---- lines


def line_of(case: CaseResult, peak_flops: float) -> str:
    """One line about a case."""
    if case.largest_rows is not None:
        return f"{case.name:58} {case.largest_rows} rows fit, estimated {case.estimated_largest_rows}"
    if case.timed is None:
        return f"{case.name:58} {case.status}: {case.reason}"
    found, timed = rates(case.timed, peak_flops), case.timed
    memory = "" if timed.peak_memory_bytes is None else f", {timed.peak_memory_bytes / 1e9:5.1f} GB"
    return (
        f"{case.name:58} {timed.seconds:8.3f} s a step of {timed.passes} x {timed.rows_per_pass} rows, "
        f"{found['tokens_per_s']:8.0f} tokens/s, {found['pairs_per_s']:7.1f} pairs/s, "
        f"{found['images_per_s']:6.1f} images/s, MFU {found['mfu']:5.1%}{memory}"
    )


def spread_lines(cases: Sequence[CaseResult]) -> list[str]:
    """One line about each model and number of pairs."""
    return [f"losses of {key} agree within {spread:.1e}" for key, spread in loss_spread(cases).items()]


def goal_lines(cases: Sequence[CaseResult], peak_flops: float) -> list[str]:
    """One line about each goal."""
    lines = []
    for goal in goals(cases, peak_flops):
        reached = "not measured" if goal.reached is None else f"{goal.reached:.3g} ({goal.by})"
        lines.append(f"goal {goal.what}: {goal.wanted:g}; reached: {reached}")
    return lines
