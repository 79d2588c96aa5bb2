"""Which option is right, alone and in groups: accuracy, pairs and sets (What'sUp), the pull of the order.

A reader says which questions belong together: `source["group"]` names the pair of a question, `source["set"]`
the set of four, `source["options"]` what there is to choose from, in the order in which it was asked.
"""

from collections.abc import Iterable, Sequence

from locvlm.evals.judged import Judged, MetricUnavailable, share
from locvlm.evals.parse import Chosen, YesNo


def is_right(row: Judged) -> bool:
    """Whether yes, no or an option was said as it is true."""
    said = said_by(row)
    return said is not None and said == row.prediction.gold["answer"]


def said_by(row: Judged) -> str | None:
    """The option that an answer takes, "yes" and "no" included; None if it takes none."""
    if isinstance(row.reading, YesNo):
        return row.reading.word
    return row.reading.option if isinstance(row.reading, Chosen) else None


def accuracy(rows: Sequence[Judged]) -> float:
    """Share of questions answered with the right option, or the right one of yes and no."""
    return share(rows, is_right)


def pair_accuracy(rows: Sequence[Judged]) -> float:
    """Share of pairs of which both questions are answered rightly."""
    return _mean(all(map(is_right, pair)) for pair in groups(rows, "group", size=2))


def set_accuracy(rows: Sequence[Judged]) -> float:
    """Share of sets of which all four questions are answered rightly."""
    return _mean(all(map(is_right, four)) for four in groups(rows, "set", size=4))


def flip_consistency(rows: Sequence[Judged]) -> float:
    """Share of pairs that are answered alike in truth: both rightly, or both readably and wrongly.

    A pair's questions have opposite answers, so an answer that is always the same is never consistent, and
    one that takes every left for a right is.
    """
    return _mean(
        None not in {said_by(row) for row in pair} and len({is_right(row) for row in pair}) == 1
        for pair in groups(rows, "group", size=2)
    )


def first_option_fraction(rows: Sequence[Judged]) -> float:
    """Share of answers that take the option named first in the question."""
    return share(rows, lambda row: said_by(row) == row.source["options"][0])


def order_gap(rows: Sequence[Judged]) -> float:
    """Accuracy where the right option was named first, less that where it was not; 0 without a pull.

    Positive: what is named first is preferred. 0 as well if all right options have the same place.
    """
    first = [row for row in rows if row.source["options"][0] == row.prediction.gold["answer"]]
    later = [row for row in rows if row.source["options"][0] != row.prediction.gold["answer"]]
    return accuracy(first) - accuracy(later) if first and later else 0.0


def groups(rows: Sequence[Judged], key: str, *, size: int) -> list[list[Judged]]:
    """The rows that belong together, in order of appearance; only groups that were asked whole.

    Raises:
        MetricUnavailable: if there are rows, but no whole group.
        ValueError: if a group has more members.
    """
    members: dict[str, list[Judged]] = {}
    for row in rows:
        if row.source.get(key) is not None:
            members.setdefault(str(row.source[key]), []).append(row)
    for name, found in members.items():
        if len(found) > size:
            raise ValueError(
                f"{len(found)} questions have the {key} {name!r}, expected {size}; repair the data file"
            )
    whole = [found for found in members.values() if len(found) == size]
    if rows and not whole:
        raise MetricUnavailable(f"no {key} of {size} questions was asked whole")
    return whole


def _mean(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
