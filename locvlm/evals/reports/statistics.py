"""How far a score may be off: the bootstrap over images, and what a difference of two runs is worth.

Questions about one image are answered from one look at it, so they are no independent draws. Images are drawn
anew, with replacement, each with all of its questions. A score that is a ratio of two sums over questions (a
mean, precision, recall, F1), or a difference of two such ratios, needs only these sums per image: a resample
is a row of counts times the sums.

Q questions, U units (images), B resamples, K summed columns.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from locvlm.evals.judged import Judged
from locvlm.evals.measures.choices import groups, is_right
from locvlm.evals.metrics import CORPUS_METRICS, METRICS
from locvlm.evals.parse import YesNo

CONFIDENCE = 0.95
RESAMPLES = 2000
# Means over groups of questions, which may be about several images: (key in the question's source, members).
_GROUPED = {"pair_accuracy": ("group", 2), "set_accuracy": ("set", 4), "flip_consistency": ("group", 2)}
_CHUNK = 4_000_000  # draws held at a time


class Interval(NamedTuple):
    """Where a score lies with 95% confidence, in the score's own unit."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How a score changes from run A to run B on the same questions."""

    metric: str
    before: float  # of A
    after: float
    interval: Interval | None  # None where `bootstrap_interval` has none
    p_value: float | None  # two-sided, of no difference; at least 2 / (RESAMPLES + 1)

    @property
    def value(self) -> float:
        """B - A."""
        return self.after - self.before


def bootstrap_interval(
    metric: str,
    rows: Sequence[Judged],
    *,
    value: float | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """The percentile interval of METRICS[metric](rows) when images are drawn anew.

    Args:
        value: METRICS[metric](rows), where it is known already.

    Returns:
        None for a score that is no ratio of sums over questions, for fewer than two images, and where they
        all score alike: drawn anew they show no spread, which does not mean that there is none.
    """
    parts = parts_of(metric, rows, value=value)
    if parts is None:
        return None
    sums = sums_by_unit(parts, units_of(metric, rows))
    if len(sums) < 2:
        return None
    return _interval(combined(resampled(sums, seed=seed, resamples=resamples)))


def paired_difference(
    metric: str,
    before: Sequence[Judged],
    after: Sequence[Judged],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """How METRICS[metric] changes from `before` to `after`, which answer the same questions in one order.

    Both runs are scored on the same drawn images. The p value is twice the share of resamples in which the
    difference is not on its side of zero.
    """
    runs = (before, after)
    values = [METRICS[metric](rows) for rows in runs]
    unknown = Difference(metric=metric, before=values[0], after=values[1], interval=None, p_value=None)
    parts = [parts_of(metric, rows, value=value) for rows, value in zip(runs, values, strict=True)]
    if parts[0] is None or parts[1] is None:
        return unknown
    sums = sums_by_unit(np.hstack([parts[0], parts[1]]), units_of(metric, before))  # (U, 2 K)
    if len(sums) < 2:
        return unknown
    drawn_before, drawn_after = np.hsplit(resampled(sums, seed=seed, resamples=resamples), 2)  # (B, K) each
    differences = combined(drawn_after) - combined(drawn_before)
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p_value = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    return replace(unknown, interval=_interval(differences), p_value=p_value)


def mcnemar(num_lost: int, num_won: int) -> float:
    """McNemar's exact test: how likely questions that changed between right and wrong are split so unevenly.

    Args:
        num_lost: questions that were right and are wrong now.
        num_won: questions that were wrong and are right now.

    Returns:
        The two-sided binomial p value at 1/2; 1 where nothing changed.
    """
    number, fewer = num_lost + num_won, min(num_lost, num_won)
    logs = [
        math.lgamma(number + 1) - math.lgamma(k + 1) - math.lgamma(number - k + 1) - number * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def parts_of(metric: str, rows: Sequence[Judged], *, value: float | None = None) -> np.ndarray | None:
    """What each question adds to a score's numerator and denominator, (Q, 2); or to those of two ratios whose
    difference it is, (Q, 4).

    Returns:
        None if the score is not made of such sums.
    """
    if metric in CORPUS_METRICS or not rows:
        return None
    score = METRICS[metric]
    if metric in _GROUPED:
        parts = np.zeros((len(rows), 2))
        places = {row.prediction.id: place for place, row in enumerate(rows)}
        for group in _groups_of(metric, rows):
            parts[places[group[0].prediction.id]] = (score(group), 1.0)
    elif metric in _RATIOS:
        parts = np.array([_RATIOS[metric](row) for row in rows], dtype=float)
    else:
        parts = np.array([(score([row]), 1.0) for row in rows])
    found = float(combined(parts.sum(axis=0, keepdims=True))[0])
    return parts if math.isclose(found, score(rows) if value is None else value, abs_tol=1e-9) else None


def units_of(metric: str, rows: Sequence[Judged]) -> np.ndarray:
    """The number of each question's image, (Q,), from 0; images that a group joins are drawn together."""
    numbers: dict[str, int] = {}
    images = np.array([numbers.setdefault(image_of(row), len(numbers)) for row in rows], dtype=np.int64)
    if metric not in _GROUPED:
        return images
    joined = list(range(len(numbers)))

    def first_of(number: int) -> int:
        while joined[number] != number:
            number = joined[number]
        return number

    for group in _groups_of(metric, rows):
        members = [first_of(numbers[image_of(row)]) for row in group]
        for member in members:
            joined[member] = min(members)
    roots = np.array([first_of(number) for number in range(len(numbers))])
    return np.unique(roots, return_inverse=True)[1][images]


def _groups_of(metric: str, rows: Sequence[Judged]) -> list[list[Judged]]:
    key, size = _GROUPED[metric]
    return groups(rows, key, size=size)


def image_of(row: Judged) -> str:
    """What tells the image of a question from others; the record, where there is no image."""
    prediction = row.prediction
    return prediction.record_id if prediction.image is None else f"image {prediction.image}"


def sums_by_unit(parts: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Rows of `parts` (Q, K) added up per unit, (U, K)."""
    number = int(units.max()) + 1
    return np.column_stack([np.bincount(units, weights=column, minlength=number) for column in parts.T])


def resampled(sums: np.ndarray, *, seed: int, resamples: int) -> np.ndarray:
    """The sums (U, K) added up over U units drawn with replacement, `resamples` times: (B, K)."""
    return np.vstack([counts @ sums for counts in _drawn_counts(len(sums), seed, resamples)])


def _drawn_counts(number: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each of `number` units is drawn in each resample, some resamples at a time."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _CHUNK // number)
    for first in range(0, resamples, at_once):
        size = min(at_once, resamples - first)
        drawn = rng.integers(number, size=(size, number)) + number * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * number)
        yield counts.reshape(size, number).astype(float)


def combined(sums: np.ndarray) -> np.ndarray:
    """Numerators over denominators, (B, 2) -> (B,), 0 where nothing is counted; of (B, 4) the first ratio
    less the second, 0 where one of them counts nothing.
    """
    numerators, denominators = sums[:, ::2], sums[:, 1::2]
    ratios = np.divide(numerators, denominators, out=np.zeros_like(sums[:, ::2]), where=denominators > 0)
    if ratios.shape[1] == 1:
        return ratios[:, 0]
    return np.where((denominators > 0).all(axis=1), ratios[:, 0] - ratios[:, 1], 0.0)


def _interval(values: np.ndarray) -> Interval | None:
    if np.ptp(values) == 0:
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return Interval(float(low), float(high))


def _says_yes(row: Judged) -> bool:
    return isinstance(row.reading, YesNo) and row.reading.says_yes


def _is_yes(row: Judged) -> bool:
    return bool(row.prediction.gold["answer"] == "yes")


def _order_gap(row: Judged) -> tuple[float, float, float, float]:
    is_first = row.source["options"][0] == row.prediction.gold["answer"]
    right = float(is_right(row))
    return (right, 1.0, 0.0, 0.0) if is_first else (0.0, 0.0, right, 1.0)


# Scores that are no mean over questions: what a question adds to (numerator, denominator), or to two of them.
_RATIOS: dict[str, Callable[[Judged], tuple[float, ...]]] = {
    "order_gap": _order_gap,
    "precision": lambda row: (_says_yes(row) and _is_yes(row), _says_yes(row)),
    "recall": lambda row: (_says_yes(row) and _is_yes(row), _is_yes(row)),
    "f1": lambda row: (2 * (_says_yes(row) and _is_yes(row)), _says_yes(row) + _is_yes(row)),
}
