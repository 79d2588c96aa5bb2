"""Judged answers -> scores with their intervals, as tables and pages show them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from locvlm.evals.judged import Judged, MetricUnavailable
from locvlm.evals.metrics import BREAKDOWNS, METRICS
from locvlm.evals.reports.answers import Answers, Run
from locvlm.evals.reports.leakage import TrainedOn, split_by_training
from locvlm.evals.reports.statistics import Interval, bootstrap_interval, image_of
from locvlm.evals.reports.tables import Measure

Subset = Literal["all", "clean", "seen"]  # by whether the image was trained on
SUBSETS: tuple[Subset, ...] = ("all", "clean", "seen")


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A metric of some questions, and how far it may be off."""

    value: float
    interval: Interval | None  # 95%, over images; None for corpus metrics and single images
    questions: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """The scores of a run about all images, and apart about those that were trained on and all others.

    `clean` and `seen` ones are there for tasks that ask about images which are known to be trained on.
    """

    run: Run
    scores: dict[tuple[Subset, Measure], Score]
    num_seen: dict[str, int] = field(default_factory=dict)  # questions about images trained on, by task
    unavailable: dict[Measure, str] = field(default_factory=dict)  # why it cannot be computed here

    def score(self, measure: Measure | None, subset: Subset = "all") -> Score | None:
        """None where it was not run, or has no questions."""
        return None if measure is None else self.scores.get((subset, measure))


def measure_run(
    run: Run, measures: Iterable[Measure], *, trained_on: TrainedOn | None = None, seed: int = 0
) -> Results:
    """All of `measures` that the run's answers allow, and the metrics of every task that it answered."""
    answered = run.answers.values()
    own = [Measure(task=a.task.name, metric=metric) for a in answered for metric in a.task.metrics]
    wanted: dict[str, list[Measure]] = {}
    for measure in dict.fromkeys([*own, *measures]):
        wanted.setdefault(measure.task, []).append(measure)
    scores: dict[tuple[Subset, Measure], Score] = {}
    unavailable: dict[Measure, str] = {}
    num_seen = {}
    for name, answers in run.answers.items():
        subsets = _subsets(answers, trained_on)
        num_seen[name] = len(subsets.get("seen", []))
        if not num_seen[name]:
            subsets = {"all": answers.rows}
        for subset, rows in subsets.items():
            for measure in wanted.get(name, []):
                try:
                    score = score_of(measure.metric, in_group(rows, measure.group), seed=seed)
                except MetricUnavailable as error:
                    unavailable[measure] = str(error)
                    continue
                if score is not None:
                    scores[subset, measure] = score
    return Results(
        run=run,
        scores=scores,
        num_seen={} if trained_on is None else num_seen,
        unavailable=unavailable,
    )


def _subsets(answers: Answers, trained_on: TrainedOn | None) -> dict[Subset, list[Judged]]:
    if trained_on is None:
        return {"all": answers.rows}
    clean, seen = split_by_training(answers.rows, trained_on)
    return {"all": answers.rows, "clean": clean, "seen": seen}


def score_of(metric: str, rows: Sequence[Judged], *, seed: int = 0) -> Score | None:
    """The metric of `rows` with its interval; None of no rows."""
    if not rows:
        return None
    value = METRICS[metric](rows)
    return Score(
        value=value,
        interval=bootstrap_interval(metric, rows, value=value, seed=seed),
        questions=len(rows),
        images=len({image_of(row) for row in rows}),
    )


def in_group(rows: Sequence[Judged], group: str) -> Sequence[Judged]:
    """Those of one group of a breakdown, "side: left"; all for none."""
    if not group:
        return rows
    breakdown, _, name = group.partition(": ")
    return [row for row in rows if BREAKDOWNS[breakdown](row) == name]
