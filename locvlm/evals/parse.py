"""Answer text -> what it says: a location, "not in the image", a class, a side; or why it cannot be read.

A parser never guesses. What it cannot read is `Unreadable`, counted as such and as wrong.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from locvlm.coords.contract import CoordinateContract
from locvlm.coords.notation import ParseFailure
from locvlm.geometry import Box, Frame, Point
from locvlm.objectives.negpred import ABSENT_ANSWER

SIDES = (("left", "right"), ("above", "below"))  # the two axes of COCO-Spatial
OPPOSITE = {a: b for pair in SIDES for a, b in (pair, pair[::-1])}


@dataclass(frozen=True, slots=True)
class Absent:
    """The answer says that the object is not in the image."""


@dataclass(frozen=True, slots=True)
class Named:
    """The answer names a class or description, normalised."""

    name: str


@dataclass(frozen=True, slots=True)
class Sides:
    """The side words that the answer holds, in the order of `SIDES`; at least one."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The answer says nothing that the question asked for."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There is no answer, because the question could not be asked (an unreadable image)."""

    reason: str


Reading = Box | Point | Absent | Named | Sides | Unreadable | Unanswered


def normalise(text: str) -> str:
    """Lower case, one space between words, no punctuation at the ends, no leading article.

    Example: "  A Striped  cup. " -> "striped cup".
    """
    words = " ".join(text.lower().split()).strip(" .,!?;:\"'")
    return re.sub(r"^(a|an|the) ", "", words)


def read_location(answer: str, contract: CoordinateContract, frame: Frame) -> Reading:
    """The box or point in source pixels, or `Absent` for the absent sentence.

    An answer that says both is not readable: it takes no stand.
    """
    says_absent = normalise(ABSENT_ANSWER) in normalise(answer)
    location = contract.read(answer, frame)
    if isinstance(location, ParseFailure):
        return Absent() if says_absent else Unreadable(f"{location.reason}: {location.detail}")
    if says_absent:
        return Unreadable("a location and the absent sentence in one answer")
    return location


def read_description(answer: str, contract: CoordinateContract, frame: Frame) -> Reading:
    """The class named by "There is a {class}.", normalised.

    Only the sentence of the RevLoc target is read (paper section 3.3); anything else is unreadable.
    """
    match = re.fullmatch(r"there is (?:an?|the) (\w.*)", " ".join(answer.lower().split()))
    if match is None:
        return Unreadable(f"expected 'There is a ...', got {answer!r}")
    return Named(normalise(match[1]))


def read_side(answer: str, contract: CoordinateContract, frame: Frame) -> Reading:
    """The side keywords present in the answer (paper appendix E), as whole words: "leftover" holds none."""
    words = set(re.findall(r"[a-z]+", answer.lower()))
    found = tuple(side for pair in SIDES for side in pair if side in words)
    return Sides(found) if found else Unreadable(f"none of left, right, above, below in {answer!r}")


PARSERS: dict[str, Callable[[str, CoordinateContract, Frame], Reading]] = {
    "location": read_location,
    "description": read_description,
    "side": read_side,
}
