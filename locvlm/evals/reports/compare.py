"""Two runs on the same questions: what changed, by how much, and whether that can be chance.

Two tests, which answer different questions. The bootstrap draws images anew and scores both runs on them:
would the difference hold on other images? McNemar's test looks at the questions that went from right to wrong
or back as if each were drawn alone; where an image is asked about many times, it is too sure of itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from locvlm.evals.judged import Judged, MetricUnavailable
from locvlm.evals.judging.attach import of_one_judge
from locvlm.evals.reports.answers import Answers, Run
from locvlm.evals.reports.diagnoses import is_right, right_metric
from locvlm.evals.reports.grid import scale_of
from locvlm.evals.reports.statistics import Difference, mcnemar, paired_difference
from locvlm.evals.task import Task

Pair = tuple[Judged, Judged]  # one question, answered by run A and by run B
_COMPARED = ("objective", "phrase", "answer", "box_px")  # of the gold


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskComparison:
    """The questions of a task that both runs were asked."""

    task: Task
    before: Answers
    after: Answers
    pairs: list[Pair]
    changes: list[Difference]  # by metric
    right_by: str | None  # the metric that calls an answer right; None where nothing does
    lost: list[Pair]  # right in A, wrong in B
    won: list[Pair]  # wrong in A, right in B

    @property
    def mcnemar_p(self) -> float | None:
        """Of McNemar's exact test; None where answers are not right or wrong."""
        return None if self.right_by is None else mcnemar(len(self.lost), len(self.won))

    @property
    def num_only_before(self) -> int:
        """Questions that only run A was asked."""
        return len(self.before.rows) - len(self.pairs)

    @property
    def num_only_after(self) -> int:
        """Questions that only run B was asked."""
        return len(self.after.rows) - len(self.pairs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All tasks that two runs have in common."""

    before: Run
    after: Run
    tasks: list[TaskComparison]
    seed: int

    @property
    def only_in_one(self) -> list[str]:
        """Tasks that one of the two was not asked."""
        return sorted(set(self.before.answers) ^ set(self.after.answers))


def compare_runs(before: Run, after: Run, *, seed: int = 0) -> Comparison:
    """Every task of both, on the questions that both were asked.

    Raises:
        ValueError: if they have no task in common, or a question means different things in the two.
    """
    common = [name for name in before.answers if name in after.answers]
    if not common:
        raise ValueError(
            f"{before.folder} and {after.folder} have no task in common: {', '.join(before.answers)} and "
            f"{', '.join(after.answers)}; ask both the same with eval/run.py"
        )
    tasks = [compare_answers(before.answers[name], after.answers[name], seed=seed) for name in common]
    return Comparison(before=before, after=after, tasks=tasks, seed=seed)


def compare_answers(before: Answers, after: Answers, *, seed: int = 0) -> TaskComparison:
    """One task under both runs.

    Raises:
        ValueError: if they share no question, or one has another gold answer in the two.
    """
    task = before.task
    pairs = of_one_judge(_paired(before, after))
    lost: list[Pair] = []
    won: list[Pair] = []
    right_by = right_metric(task, [first for first, _ in pairs])
    if right_by is not None:
        for pair in pairs:
            was_right, is_now = (is_right(right_by, row) for row in pair)
            if was_right != is_now:
                (lost if was_right else won).append(pair)
    return TaskComparison(
        task=task,
        before=before,
        after=after,
        pairs=pairs,
        changes=_changes(task, pairs, seed),
        right_by=right_by,
        lost=lost,
        won=won,
    )


def _changes(task: Task, pairs: Sequence[Pair], seed: int) -> list[Difference]:
    before, after = [first for first, _ in pairs], [second for _, second in pairs]
    changes = []
    for metric in task.metrics:
        try:
            changes.append(paired_difference(metric, before, after, seed=seed))
        except MetricUnavailable:
            continue
    return changes


def _paired(before: Answers, after: Answers) -> list[Pair]:
    """The questions of both, in the order of the first."""
    theirs = {row.prediction.id: row for row in after.rows}
    pairs = [(row, theirs[row.prediction.id]) for row in before.rows if row.prediction.id in theirs]
    name = before.task.name
    if not pairs:
        raise ValueError(
            f"task {name}: no question was asked of both runs; got those of {before.meta.records} and of "
            f"{after.meta.records}"
        )
    for first, second in pairs:
        golds = [[row.prediction.gold.get(key) for key in _COMPARED] for row in (first, second)]
        if golds[0] != golds[1] or first.prediction.image != second.prediction.image:
            raise ValueError(
                f"task {name}: question {first.prediction.id!r} is not the same in both runs, got "
                f"{first.prediction.image} {golds[0]} and {second.prediction.image} {golds[1]}; ask both "
                f"the questions of one file"
            )
    return pairs


def to_json(comparison: Comparison) -> dict[str, Any]:
    """All figures as plain values, and the ids of the questions that changed."""
    return {
        "before": str(comparison.before.folder),
        "after": str(comparison.after.folder),
        "seed": comparison.seed,
        "only_in_one": comparison.only_in_one,
        "tasks": {compared.task.name: _task_json(compared) for compared in comparison.tasks},
    }


def _task_json(compared: TaskComparison) -> dict[str, Any]:
    return {
        "questions": len(compared.pairs),
        "only_before": compared.num_only_before,
        "only_after": compared.num_only_after,
        "before": _asked_json(compared.before),
        "after": _asked_json(compared.after),
        "metrics": {c.metric: {**asdict(c), "difference": c.value} for c in compared.changes},
        "right_by": compared.right_by,
        "mcnemar_p": compared.mcnemar_p,
        "lost": [first.prediction.id for first, _ in compared.lost],
        "won": [first.prediction.id for first, _ in compared.won],
    }


def _asked_json(answers: Answers) -> dict[str, Any]:
    return {**answers.facts(), **answers.counts(), "remarks": answers.remarks()}


def terminal_table(comparison: Comparison) -> str:
    """What changed, as text: percent, then the 95% interval of the difference and the p values."""
    lines = [
        f"{'task':<32}{'metric':<22}{'A':>7}{'B':>7}{'B - A':>8}{'95% interval':>17}{'p':>8}"
        f"{'lost':>7}{'won':>7}{'McNemar p':>11}"
    ]
    for compared in comparison.tasks:
        for place, change in enumerate(compared.changes):
            interval, p_value = change.interval, change.p_value
            scale = scale_of(change.metric)
            between = (
                "" if interval is None else f"{scale * interval.low:+.1f} to {scale * interval.high:+.1f}"
            )
            flipped = ""
            if place == 0 and compared.mcnemar_p is not None:
                p_text = p_value_text(compared.mcnemar_p)
                flipped = f"{len(compared.lost):>7}{len(compared.won):>7}{p_text:>11}"
            lines.append(
                f"{compared.task.name if place == 0 else '':<32}{change.metric:<22}"
                f"{scale * change.before:>7.1f}{scale * change.after:>7.1f}"
                f"{scale * change.value:>+8.1f}"
                f"{between:>17}{'' if p_value is None else p_value_text(p_value):>8}{flipped}"
            )
    return "\n".join(line.rstrip() for line in lines)


def p_value_text(p_value: float) -> str:
    """0.0004 -> "< .001"; 0.037 -> ".037"."""
    return "< .001" if p_value < 0.001 else f"{p_value:.3f}".lstrip("0")
