"""Short answers to questions about videos, compared without a judge.

The measure of ActivityNet-QA's authors (evaluation/eval.py of https://github.com/MILVLG/activitynet-qa) is
the share of answers that are the gold one to the letter, by question type. (Their mean over "free" questions
divides by the numbers of other types; ours does not.) It suits models that choose among answers. Models that
speak say more: for them there are `exact_match`, lenient about case and full stops, and `contains_answer`.
"""

import re
from collections.abc import Sequence

from locvlm.evals.judged import Judged, share
from locvlm.evals.parse import Said


def exact_match_verbatim(rows: Sequence[Judged]) -> float:
    """Share of answers that are the gold one to the letter, white space at the ends left aside."""
    return share(
        rows,
        lambda row: isinstance(row.reading, Said) and row.reading.text == row.prediction.gold["answer"],
    )


def contains_answer(rows: Sequence[Judged]) -> float:
    """Share of answers in which the words of the gold one stand side by side, in any case.

    Ours, and generous: "it is not red" contains "red".
    """
    return share(
        rows,
        lambda row: (
            isinstance(row.reading, Said)
            and _words(row.prediction.gold["answer"]) in _words(row.reading.text)
        ),
    )


def _words(text: str) -> str:
    """The words in lower case, each between spaces."""
    words = re.findall(r"\w+", text.lower())
    return f" {' '.join(words)} "
