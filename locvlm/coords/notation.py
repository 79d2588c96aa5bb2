"""What all codecs share: how locations are bracketed in text, found in it, and refused.

Locations are written "(a, b, c, d)" and read in both brackets, with any spacing and any text around them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from locvlm.geometry import AnyLocation, Box, Location

FailureReason = Literal["no location", "wrong count", "out of range"]
Brackets = Literal["()", "[]"]

_TOLERANCE = 1e-6  # canvas fractions: what floating point may add to a location on the border
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_GROUP = re.compile(rf"\(\s*({_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*\)|\[\s*({_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*\]")


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """Why a text holds no location: no bracketed numbers, a wrong count, or values that no encoder writes."""

    reason: FailureReason
    detail: str


def on_canvas(location: AnyLocation) -> AnyLocation:
    """`location` with what floating point added at the border taken off.

    Raises:
        ValueError: if it leaves the canvas by more than that, or is a box turned inside out.
    """
    problem = range_problem(location)
    if problem:
        raise ValueError(
            f"cannot write {tuple(location)} as text: {problem}; "
            f"give canvas fractions (Frame.to_fraction), cut to the canvas (geometry.place_box)"
        )
    return type(location)(*(min(max(v, 0.0), 1.0) for v in location))


def range_problem(location: Location) -> str:
    """What is wrong with a location in canvas fractions; empty if nothing is."""
    for value in location:
        if not -_TOLERANCE <= value <= 1 + _TOLERANCE:
            return f"{value:.6g} of the canvas side is not between 0 and 1"
    if isinstance(location, Box) and (location.x1 > location.x2 or location.y1 > location.y2):
        return "the second corner is left of or above the first"
    return ""


def round_half_even(value: float) -> int:
    """The nearest integer, halves to the even one: 52.5 -> 52, as the paper writes it.

    Noise far below any coordinate's precision is taken off first, so that a half stays a half whichever way
    the value was computed (90 * (224 / 640) is 31.499999999999996).
    """
    return round(round(value, 7))


def write_numbers(numbers: list[str], brackets: Brackets = "()") -> str:
    """Numbers as location text: ["4", "52"] -> "(4, 52)"."""
    return f"{brackets[0]}{', '.join(numbers)}{brackets[1]}"


def first_location(
    text: str, count: int, to_location: Callable[[list[float]], AnyLocation | str]
) -> AnyLocation | ParseFailure:
    """The first bracketed group of `count` numbers that `to_location` accepts (else it returns why not)."""
    out_of_range: ParseFailure | None = None
    wrong_count: ParseFailure | None = None
    for match in _GROUP.finditer(text):
        numbers = [float(number) for number in (match[1] or match[2]).split(",")]
        shown = match[0] if len(match[0]) <= 80 else match[0][:80] + "..."
        if len(numbers) != count:
            wrong_count = wrong_count or ParseFailure(
                "wrong count", f"{shown} has {len(numbers)} numbers, not {count}"
            )
            continue
        location = to_location(numbers)
        if not isinstance(location, str):
            return location
        out_of_range = out_of_range or ParseFailure("out of range", f"{shown}: {location}")
    return out_of_range or wrong_count or ParseFailure("no location", "no numbers in () or []")


def whole_numbers(numbers: list[float]) -> str:
    """What is wrong with numbers that should be whole; empty if nothing is."""
    return next((f"{v:g} is not a whole number" for v in numbers if not v.is_integer()), "")


def checked(location: AnyLocation) -> AnyLocation | str:
    """A location that was read, or what is wrong with it."""
    return range_problem(location) or location
