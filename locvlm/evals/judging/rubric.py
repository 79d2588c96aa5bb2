"""What a judge is told, and what its reply says; rubrics are declared in `eval/rubrics/*.yaml`.

name: video_qa
version: 1            # bump when a verdict may change
system: "You check answers ..."
user: "Question: {question}\\nCorrect Answer: {answer}\\nPredicted Answer: {prediction} ..."
"""

import ast
import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from locvlm.chat_server import Question
from locvlm.config import read_declared

MAX_SCORE = 5
_DIGEST_CHARACTERS = 8
_DICTIONARY = re.compile(r"\{[^{}]*\}")
_LONGEST_DICTIONARY = 1000  # characters that are worth reading; deep brackets would cost the parser its stack


class Pair(NamedTuple):
    """What is judged."""

    question: str
    answer: str  # the correct one
    prediction: str


_SLOTS = re.compile("|".join(f"{{{name}}}" for name in Pair._fields))


class Grade(NamedTuple):
    """What a judge says of a prediction."""

    says_yes: bool
    score: int  # 0 to 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Rubric:
    """The words that a judge gets.

    Raises:
        ValueError: if `user` lacks a place for the question, the answer or the prediction.
    """

    name: str
    version: int
    system: str
    user: str  # with {question}, {answer} and {prediction}

    def __post_init__(self) -> None:
        for name in Pair._fields:
            if f"{{{name}}}" not in self.user:
                raise ValueError(f"rubric {self.name}: user must hold {{{name}}}, got {self.user!r}")

    @property
    def label(self) -> str:
        """Name, version and a digest of the words, for where a version was forgotten."""
        words = f"{self.system}\0{self.user}".encode()
        return f"{self.name} {self.version} ({hashlib.sha256(words).hexdigest()[:_DIGEST_CHARACTERS]})"

    def ask(self, pair: Pair) -> Question:
        """The question to the judge; braces in what is judged are left alone."""
        texts = {f"{{{name}}}": text for name, text in pair._asdict().items()}
        return Question(text=_SLOTS.sub(lambda slot: texts[slot[0]], self.user), system=self.system)


def load_rubric(path: Path) -> Rubric:
    """The rubric declared in a yaml file.

    Raises:
        ValueError: for unknown keys, wrong types, or a text without place for what is judged.
    """
    return read_declared(Rubric, path)


@functools.lru_cache(maxsize=1024)  # judges say few different things, a hundred thousand times
def read_reply(text: str) -> Grade | None:
    """The grade in a judge's reply; None if there is none that can be read without guessing.

    It is the first dictionary, in Python's notation or JSON's, whatever the judge says around it. "pred" is
    yes or no in any case, "score" a number from 0 to 5 or its digits; a fraction is cut off, as Video-ChatGPT
    does.

    Example: "{'pred': 'Yes', 'score': 4.8}" -> Grade(True, 4).
    """
    found = _DICTIONARY.search(text)
    if found is None or len(found[0]) > _LONGEST_DICTIONARY:
        return None
    try:
        value = ast.literal_eval(found[0])  # reads literals and runs nothing
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if not isinstance(value, dict):  # {1, 2} is a set
        return None
    word, score = _word(value.get("pred")), _number(value.get("score"))
    if word not in ("yes", "no") or score is None or not 0 <= score <= MAX_SCORE:
        return None
    return Grade(word == "yes", int(score))


def _word(value: object) -> str:
    return value.strip(" .,!").lower() if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
