"""Yes or no: accuracy, precision, recall, F1 for "yes", and how often "yes" is said at all (POPE).

Every question that was asked counts: an answer that cannot be read, and a question that could not be asked,
are wrong, and where the truth is "yes" they are missed.
"""

from collections.abc import Sequence

from locvlm.evals.judged import Judged, share
from locvlm.evals.parse import YesNo


def precision(rows: Sequence[Judged]) -> float:
    """Of the answers "yes", the share that is true; 0 if there is none."""
    return share([row for row in rows if _says_yes(row)], _is_yes)


def recall(rows: Sequence[Judged]) -> float:
    """Of the questions whose answer is "yes", the share answered so."""
    return share([row for row in rows if _is_yes(row)], _says_yes)


def f1(rows: Sequence[Judged]) -> float:
    """The harmonic mean of precision and recall."""
    return _harmonic_mean(precision(rows), recall(rows))


def yes_fraction(rows: Sequence[Judged]) -> float:
    """Share of answers that say "yes", right or wrong; one half is right where questions are balanced."""
    return share(rows, _says_yes)


def assumed_fraction(rows: Sequence[Judged]) -> float:
    """Share of answers taken for "yes" only because they hold no "no" (POPE's official reading)."""
    return share(rows, lambda row: isinstance(row.reading, YesNo) and row.reading.is_assumed)


def recall_lmms(rows: Sequence[Judged]) -> float:
    """lmms-eval's recall: of the questions whose answer is "yes", only those answered "yes" or "no" count."""
    return recall([row for row in rows if isinstance(row.reading, YesNo)])


def f1_lmms(rows: Sequence[Judged]) -> float:
    """The harmonic mean of precision and lmms-eval's recall."""
    return _harmonic_mean(precision(rows), recall_lmms(rows))


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _says_yes(row: Judged) -> bool:
    return isinstance(row.reading, YesNo) and row.reading.says_yes


def _is_yes(row: Judged) -> bool:
    return row.prediction.gold["answer"] == "yes"
