"""Short answers: VQAv2's official accuracy and normalisation, GQA's exact match.

The rules of VQAv2 are those of its authors' evaluation (`vqaEval.py` of GT-Vision-Lab/VQA, its last version),
oddities included, since published figures rest on them.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from locvlm.evals.judged import Judged, share
from locvlm.evals.parse import Said

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_MAX_FULL_STOPS = 32  # the official code passes a flag of this value where the count belongs
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(value) for value, word in enumerate(_NUMBERS)}
_ARTICLES = ("a", "an", "the")
# fmt: off
_CONTRACTIONS = (
    "'ow's'at", "'twas", "ain't", "aren't", "can't", "could've", "couldn't", "couldn't've", "didn't",
    "doesn't", "don't", "hadn't", "hadn't've", "hasn't", "haven't", "he'd", "he'd've", "he's", "how'd",
    "how'll", "how's", "isn't", "it'd", "it'd've", "it'll", "ma'am", "might've", "mightn't", "mightn't've",
    "must've", "mustn't", "needn't", "not've", "o'clock", "oughtn't", "shan't", "she'd've", "should've",
    "shouldn't", "shouldn't've", "somebody'd've", "somebody'll", "somebody's", "someone'd", "someone'd've",
    "someone'll", "someone's", "something'd", "something'd've", "something'll", "that's", "there'd",
    "there'd've", "there're", "there's", "they'd", "they'd've", "they'll", "they're", "they've", "wasn't",
    "we'd've", "we've", "weren't", "what'll", "what're", "what's", "what've", "when's", "where'd",
    "where's", "where've", "who'd", "who'd've", "who'll", "who's", "who've", "why'll", "why're", "why's",
    "won't", "would've", "wouldn't", "wouldn't've", "y'all", "y'all'd've", "y'all'll", "you'd", "you'd've",
    "you'll", "you're", "you've",
)
# fmt: on
# what is written with one apostrophe too few -> what it should be; and one oddity
_REPAIRED = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}


@lru_cache(maxsize=2**16)  # ten answers a question, most of them given before
def normalise_vqa(answer: str) -> str:
    """VQAv2's official normalisation: punctuation, case, number words, articles, contractions.

    Example: "The two dogs, isnt it?" -> "2 dogs isn't it".
    """
    return _without_articles(_without_punctuation(answer))


def _without_punctuation(text: str) -> str:
    """A mark beside a space goes, another becomes a space; all go if a comma stands between digits."""
    drops_all = _DIGIT_COMMA.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        is_dropped = drops_all or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if is_dropped else " ")
    return _FULL_STOP.sub("", result, count=_MAX_FULL_STOPS)


def _without_articles(text: str) -> str:
    words = (_DIGITS.get(word, word) for word in text.lower().split())
    return " ".join(_REPAIRED.get(word, word) for word in words if word not in _ARTICLES)


def vqa_score(answer: str, humans: Sequence[str]) -> float:
    """The official accuracy of one answer, 0 to 1: the mean of min(n / 3, 1) over leaving out each of the
    humans, where n of the others said the same. Both are normalised, unless all humans said the same.
    """
    answer, humans = _clean(answer), [_clean(human) for human in humans]
    if len(set(humans)) > 1:
        answer, humans = normalise_vqa(answer), [normalise_vqa(human) for human in humans]
    same = [human == answer for human in humans]
    return sum(min((sum(same) - left_out) / 3, 1.0) for left_out in same) / len(same)


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(rows: Sequence[Judged]) -> float:
    """Mean official accuracy of answers as they are."""
    return _mean_vqa(rows, [row.reading.text if isinstance(row.reading, Said) else None for row in rows])


def vqa_accuracy_normalised(rows: Sequence[Judged]) -> float:
    """The same after the official normalisation of every answer, as LLaVA does before it submits.

    It differs where all ten humans agree: there the official rule compares as it is, and "Yes" is not "yes".
    """
    answers = [normalise_vqa(_clean(r.reading.text)) if isinstance(r.reading, Said) else None for r in rows]
    return _mean_vqa(rows, answers)


def _mean_vqa(rows: Sequence[Judged], answers: Sequence[str | None]) -> float:
    scores = [
        0.0 if answer is None else vqa_score(answer, row.source["answers"])
        for row, answer in zip(rows, answers, strict=True)
    ]
    return sum(scores) / len(scores) if scores else 0.0


def exact_match(rows: Sequence[Judged]) -> float:
    """Share of answers that are the gold one, in lower case and without full stops at the end (GQA)."""

    def is_right(row: Judged) -> bool:
        gold = row.prediction.gold["answer"]
        return isinstance(row.reading, Said) and _bare(row.reading.text) == _bare(gold)

    return share(rows, is_right)


def _bare(text: str) -> str:
    return text.strip().strip(".").strip().lower()
