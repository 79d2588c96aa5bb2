"""What a score hides: which objects are hard, whether sides are guessed, what yes and no are taken for."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from locvlm.evals.judged import Judged, MetricUnavailable
from locvlm.evals.measures.choices import said_by
from locvlm.evals.metrics import BREAKDOWNS, CORPUS_METRICS, METRICS
from locvlm.evals.parse import OPPOSITE, Sides, Unanswered
from locvlm.evals.reports.results import Score, score_of
from locvlm.evals.reports.statistics import image_of, parts_of
from locvlm.evals.task import Task
from locvlm.objectives.spatial import QUESTION

MAX_ANSWERS = 8  # different ones, up to which what was said is counted for each
OF_BOXES = ("size", "distance")  # breakdowns of every task that is about a box
_ASKED = re.compile(re.escape(QUESTION).replace(r"\{reference\}", "(.+?)").replace(r"\{asked\}", "(.+?)"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The questions of one kind."""

    title: str
    score: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Flips:
    """Pairs of questions about the same two objects in both orders, whose true answers are opposites.

    both_right and both_inverted are consistent: the two answers are opposites. `same_word` counts pairs with
    one answer to both questions, which the words or the image's layout alone can give; `other` those with an
    answer that holds no side, or both.
    """

    pairs: int
    both_right: int
    both_inverted: int
    same_word: dict[str, int]
    other: int

    @property
    def consistent_fraction(self) -> float:
        """Of all pairs."""
        return (self.both_right + self.both_inverted) / self.pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """All that can be said about a task's answers; what does not apply is empty."""

    metric: str  # that groups are measured by
    breakdowns: dict[str, list[Group]]
    said: dict[str, dict[str, int]]  # true answer -> what was said -> how often; yes and no, sides, options
    flips: Flips | None


def diagnose(task: Task, rows: Sequence[Judged], *, seed: int = 0) -> Diagnosis:
    """Breakdowns by `first_metric`, and what was said where.

    Where the true box is known, its size and its distance from the image's centre are among the breakdowns.
    """
    metric = first_metric(task, rows)
    boxed = [row for row in rows if _has_box(row)]
    breakdowns = {name: breakdown(boxed, name, metric, seed=seed) for name in OF_BOXES}
    breakdowns |= {n: breakdown(rows, n, metric, seed=seed) for n in task.breakdowns if n not in OF_BOXES}
    return Diagnosis(
        metric=metric,
        breakdowns={name: groups for name, groups in breakdowns.items() if groups},
        said=confusion(rows),
        flips=flips(rows),
    )


def breakdown(rows: Sequence[Judged], name: str, metric: str, *, seed: int = 0) -> list[Group]:
    """The score of each group of a breakdown, in name order; none where the metric is unavailable here."""
    members: dict[str, list[Judged]] = {}
    for row in rows:
        members.setdefault(BREAKDOWNS[name](row), []).append(row)
    try:
        scores = {title: score_of(metric, found, seed=seed) for title, found in sorted(members.items())}
    except MetricUnavailable:
        return []
    return [Group(title=title, score=score) for title, score in scores.items() if score is not None]


def _has_box(row: Judged) -> bool:
    gold = row.prediction.gold
    return gold.get("box_px") is not None and gold["width"] > 0 and gold["height"] > 0


def first_metric(task: Task, rows: Sequence[Judged]) -> str:
    """The first metric of the task that single answers have and that can be computed here."""
    return next(iter(_of_answers(task, rows)), task.metrics[0])


def right_metric(task: Task, rows: Sequence[Judged]) -> str | None:
    """The metric that says whether a single answer is right: the first, if it is a mean over questions."""
    metric = first_metric(task, rows)
    if task.metrics[0] in CORPUS_METRICS or not rows:
        return None
    parts = parts_of(metric, rows)
    return metric if parts is not None and (parts[:, 1] == 1).all() else None


def _of_answers(task: Task, rows: Sequence[Judged]) -> Iterator[str]:
    for metric in task.metrics:
        if metric in CORPUS_METRICS:
            continue
        try:
            METRICS[metric](rows)
        except MetricUnavailable:
            continue
        yield metric


def is_right(metric: str, row: Judged) -> bool:
    """Whether an answer counts as right; one that is worth at least half does (VQAv2's accuracy)."""
    return METRICS[metric]([row]) >= 0.5


# ---- what was said


def confusion(rows: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """True answer -> what was said -> how often, for questions with few answers: sides, yes and no, options.

    Beside the true words there are "both", "unreadable" and "not asked", where they occur.
    """
    if len({row.prediction.gold["answer"] for row in rows}) > MAX_ANSWERS:
        return {}
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        said = _word(row)
        if said is None:
            return {}
        counts.setdefault(str(row.prediction.gold["answer"]), Counter())[said] += 1
    words = [*sorted(counts), *sorted({word for said in counts.values() for word in said} - set(counts))]
    return {true: {word: counts[true][word] for word in words} for true in sorted(counts)}


def _word(row: Judged) -> str | None:
    """What an answer says, in a word; None for a question with other answers than these."""
    gold = row.prediction.gold["answer"]
    if gold not in OPPOSITE and gold not in ("yes", "no") and "options" not in row.source:
        return None
    if isinstance(row.reading, Unanswered):
        return "not asked"
    said = said_by(row)
    if said is not None:
        return said
    words = sides_said(row)
    if len(words) == 1:
        return words.pop()
    return "both" if words else "unreadable"


def sides_said(row: Judged) -> set[str]:
    """The sides of the question's axis that its answer holds."""
    gold = row.prediction.gold["answer"]
    words = set(row.reading.words) if isinstance(row.reading, Sides) else set()
    return words & {gold, OPPOSITE.get(gold, "")}


# ---- both orders of a pair


def flips(rows: Sequence[Judged]) -> Flips | None:
    """How the two orders of each pair of objects are answered; None where no pair is asked in both."""
    pairs: dict[tuple[str, frozenset[str]], list[Judged]] = {}
    for row in rows:
        objects = objects_asked(row)
        if objects is not None and row.prediction.gold["answer"] in OPPOSITE:
            pairs.setdefault((image_of(row), frozenset(objects)), []).append(row)
    kinds: Counter[str] = Counter()
    same: Counter[str] = Counter()
    for pair in pairs.values():
        if not _are_opposite([row.prediction.gold["answer"] for row in pair]):
            continue
        said = [sides_said(row) for row in pair]
        words = [word for of_row in said for word in of_row]
        if any(len(of_row) != 1 for of_row in said):
            kinds["other"] += 1
        elif words[0] == words[1]:
            same[words[0]] += 1
        else:
            kinds["right" if words[0] == pair[0].prediction.gold["answer"] else "inverted"] += 1
    number = kinds.total() + same.total()
    if not number:
        return None
    return Flips(
        pairs=number,
        both_right=kinds["right"],
        both_inverted=kinds["inverted"],
        same_word=dict(sorted(same.items())),
        other=kinds["other"],
    )


def objects_asked(row: Judged) -> tuple[str, str] | None:
    """(reference, asked) of the last question that a prompt of COCO-Spatial holds; None for other prompts."""
    found = _ASKED.findall(row.prediction.question)
    return found[-1] if found else None


def _are_opposite(answers: Sequence[str]) -> bool:
    return len(answers) == 2 and OPPOSITE[answers[0]] == answers[1]
