"""What is odd about a task's answers, each kind by its name and how often: beside every score."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from locvlm.evals.judged import Judged
from locvlm.evals.parse import Unanswered, Unreadable


def remarks(rows: Sequence[Judged]) -> dict[str, int]:
    """Kind -> number of questions, in the order of names. One question may be several kinds.

    "unreadable: ..." add up to the unreadable answers and "failed: ..." to the failed questions.
    """
    found = Counter(kind for row in rows for kind in _kinds(row))
    return dict(sorted(found.items()))


def describe_remarks(found: Mapping[str, int]) -> str:
    """As words, the most frequent first: "3 unreadable: out of range; 1 without an image"; or nothing."""
    most_first = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{number:,} {kind}" for kind, number in most_first)


def _kinds(row: Judged) -> Iterator[str]:
    reading, prediction = row.reading, row.prediction
    if isinstance(reading, Unanswered):
        yield f"failed: {reading.reason.partition(': ')[0]}"
    elif isinstance(reading, Unreadable):
        yield f"unreadable: {reading.kind}"
    elif not prediction.answer.strip():
        yield "empty, and read all the same"  # POPE's official reading
    if row.says_several:
        yield "several locations, the first read"
    if prediction.image is None:
        yield "without an image"
