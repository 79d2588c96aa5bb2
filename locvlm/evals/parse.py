"""Answer text -> what it says: a location, "not in the image", a class, yes or no, an option; or why it
cannot be read.

A parser never guesses. What it cannot read is `Unreadable`, counted as such and as wrong. The exception is
POPE's official reading, which takes every answer without a "no" for a "yes"; it says where it assumed so.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from locvlm.coords.contract import CoordinateContract
from locvlm.coords.notation import ParseFailure
from locvlm.geometry import Box, Location, Point
from locvlm.objectives.negpred import ABSENT_ANSWER

SIDES = (("left", "right"), ("above", "below"))  # the two axes of COCO-Spatial
OPPOSITE = {a: b for pair in SIDES for a, b in (pair, pair[::-1])}

# Words that say an option, beside the option itself. The longest phrase is taken first, so "on the left" says
# left and not on.
KEYWORDS = {
    "left": ("on the left",),
    "right": ("on the right",),
    "top": ("on the top", "on top"),
    "bottom": ("on the bottom",),
    "under": ("underneath",),
    "front": ("in front of", "in front"),
    "true": ("yes",),
    "false": ("no",),
}


# ---- what an answer can say


@dataclass(frozen=True, slots=True)
class Absent:
    """The answer says that the object is not in the image."""


@dataclass(frozen=True, slots=True)
class Named:
    """The answer names a class or description, normalised."""

    name: str


@dataclass(frozen=True, slots=True)
class Said:
    """A free answer, as it is; not empty."""

    text: str


@dataclass(frozen=True, slots=True)
class Sides:
    """The side words that the answer holds, in the order of `SIDES`; at least one."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class YesNo:
    """Yes or no."""

    says_yes: bool
    is_assumed: bool = False  # the answer holds neither word: a reading that takes a side all the same

    @property
    def word(self) -> str:
        """ "yes" or "no"."""
        return "yes" if self.says_yes else "no"


@dataclass(frozen=True, slots=True)
class Chosen:
    """One of the options that the question gave, as it is written there."""

    option: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The answer says nothing that the question asked for."""

    kind: str  # the same for all answers of which the same is wrong: they are counted by it
    detail: str = ""

    @property
    def reason(self) -> str:
        """Both."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There is no answer, because the question could not be asked (an unreadable image)."""

    reason: str


Reading = Box | Point | Absent | Named | Said | Sides | YesNo | Chosen | Unreadable | Unanswered


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What an answer is read with: the gold of its question, and how the model writes locations."""

    gold: Mapping[str, Any]
    contract: CoordinateContract | None  # None: it writes none

    def locate(self, answer: str) -> Location | ParseFailure:
        """The location in an answer, in pixels of the image that was asked about.

        Raises:
            ValueError: if the model writes no locations.
        """
        if self.contract is None:
            raise ValueError(
                "the answers are of a model that writes no locations, and are read as such; take another "
                "`parse`, or a model with a coordinate contract"
            )
        return self.contract.read(answer, self.contract.frame_for((self.gold["width"], self.gold["height"])))

    @property
    def options(self) -> tuple[str, ...]:
        """What there is to choose from.

        Raises:
            ValueError: if the question gives no options.
        """
        options = self.gold.get("source", {}).get("options")
        if not options:
            raise ValueError(
                f"the question gives no options to choose from, got {dict(self.gold)}; take another `parse`, "
                f"or a reader that gives them"
            )
        return tuple(options)


def normalise(text: str) -> str:
    """Lower case, one space between words, no punctuation at the ends, no leading article.

    Example: "  A Striped  cup. " -> "striped cup".
    """
    words = " ".join(text.lower().split()).strip(" .,!?;:\"'")
    return re.sub(r"^(a|an|the) ", "", words)


# ---- parsers


def read_location(answer: str, about: About) -> Reading:
    """The box or point in source pixels, or `Absent` for the absent sentence.

    An answer that says both is not readable: it takes no stand.
    """
    says_absent = normalise(ABSENT_ANSWER) in normalise(answer)
    location = about.locate(answer)
    if isinstance(location, ParseFailure):
        return Absent() if says_absent else Unreadable(location.reason, location.detail)
    if says_absent:
        return Unreadable("a location and the absent sentence in one answer")
    return location


def read_description(answer: str, about: About) -> Reading:
    """The class named by "There is a {class}.", normalised.

    Only the sentence of the RevLoc target is read (paper section 3.3); anything else is unreadable.
    """
    match = re.fullmatch(r"there is (?:an?|the) (\w.*)", " ".join(answer.lower().split()))
    if match is None:
        return Unreadable("no description", f"expected 'There is a ...', got {answer!r}")
    return Named(normalise(match[1]))


def read_side(answer: str, about: About) -> Reading:
    """The side keywords present in the answer (paper appendix E), as whole words: "leftover" holds none."""
    words = set(re.findall(r"[a-z]+", answer.lower()))
    found = tuple(side for pair in SIDES for side in pair if side in words)
    return Sides(found) if found else Unreadable("no side", f"got {answer!r}")


def read_text(answer: str, about: About) -> Reading:
    """Whatever was said, for metrics that compare texts; an empty answer is unreadable."""
    text = answer.strip()
    return Said(text) if text else Unreadable("empty answer")


def read_yes_no(answer: str, about: About) -> Reading:
    """Yes or no by whole words: "yes"; or "no", "not". An answer with both, or neither, takes no stand."""
    words = set(re.findall(r"[a-z']+", answer.lower()))
    says_yes, says_no = "yes" in words, bool(words & {"no", "not"})
    if says_yes == says_no:
        return Unreadable("both yes and no" if says_yes else "neither yes nor no", f"got {answer!r}")
    return YesNo(says_yes)


def read_yes_no_pope(answer: str, about: About) -> Reading:
    """POPE's official reading: "No", "no" or "not" as a word of the first sentence is a no, all else a yes.

    The first sentence ends at the first full stop; commas are removed, nothing else is, so "No!" is a yes.
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    if {"No", "not", "no"}.intersection(words):
        return YesNo(False)
    return YesNo(True, is_assumed="yes" not in re.findall(r"[a-z]+", answer.lower()))


def read_yes_no_lmms(answer: str, about: About) -> Reading:
    """lmms-eval's reading of POPE: the whole answer is "yes" or "no" in any case; "Yes." is neither."""
    text = answer.lower().strip()
    if text not in ("yes", "no"):
        return Unreadable("neither yes nor no", f"got {answer!r}")
    return YesNo(text == "yes")


def read_choice(answer: str, about: About) -> Reading:
    """The one option of the question that the answer is, or else holds, by whole words (see `KEYWORDS`)."""
    options = about.options
    said = [option for option in options if normalise(option) == normalise(answer)]
    if not said:
        said = _options_in(answer, options)
    if len(said) != 1:
        found = " and ".join(said) or f"none of {', '.join(options)}"
        return Unreadable("several options" if said else "no option", f"{found} in {answer!r}")
    return Chosen(said[0])


def _options_in(answer: str, options: tuple[str, ...]) -> list[str]:
    """The options of which a keyword is in the answer; a part of a longer keyword counts as that one."""
    said_by = {word: option for option in options for word in (option.lower(), *KEYWORDS.get(option, ()))}
    longest_first = sorted(said_by, key=len, reverse=True)
    pattern = "|".join(rf"\b{re.escape(word)}\b" for word in longest_first)
    found = {said_by[word] for word in re.findall(pattern, " ".join(answer.lower().split()))}
    return [option for option in options if option in found]


PARSERS: dict[str, Callable[[str, About], Reading]] = {
    "location": read_location,
    "description": read_description,
    "side": read_side,
    "text": read_text,
    "yes_no": read_yes_no,
    "yes_no_pope": read_yes_no_pope,
    "yes_no_lmms": read_yes_no_lmms,
    "choice": read_choice,
}
