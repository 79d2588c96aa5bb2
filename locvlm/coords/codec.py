"""Location codecs: a box or a point in canvas fractions <-> the text that a language model reads and writes.

Paper section 3.2 and appendix A. Below, the box (10, 120, 30, 145) of a 512 x 512 image on a canvas of 224:

    name  bbox                               point (the centre)  see
    nfp   (0.0195, 0.2344, 0.0586, 0.2832)   (0.0391, 0.2588)    coords/nfp.py
    ivb   (4, 52, 13, 63)                    (9, 58)             coords/ivb.py
    diga  (0, 4, 3, 11, 6, 0)                (0, 4, 2, -5)       coords/diga.py

All write "(a, b, c, d)" and read both brackets, any spacing and surrounding text. Reading never guesses: it
returns the first well-formed location of the text or a `ParseFailure` that says why there is none.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from locvlm.geometry import AnyLocation, Box, Location
from locvlm.records import LocationKind

CODECS = ("nfp", "ivb", "diga")
FailureReason = Literal["no location", "wrong count", "out of range"]

_TOLERANCE = 1e-6  # canvas fractions: what floating point may add to a location on the border
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_GROUP = re.compile(rf"\(\s*({_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*\)|\[\s*({_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*\]")


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """Why a text holds no location: no bracketed numbers, a wrong count, or values that no encoder writes."""

    reason: FailureReason
    detail: str


class Codec(Protocol):
    """Locations as text. Numbers are fractions of the canvas sides, [0, 1], on the number side."""

    @property
    def name(self) -> str:
        """One of `CODECS`."""

    @property
    def max_error(self) -> float:
        """Largest |decode(encode(v)) - v| of any coordinate, in fractions of the canvas side."""

    def encode(self, location: Location) -> str:
        """A box as bbox text, a point as point text. ValueError for a location that leaves the canvas."""

    def decode(self, text: str, kind: LocationKind) -> Location | ParseFailure:
        """The first well-formed location of `kind` in `text`, or why there is none."""


def build_codec(name: str, *, canvas: int, patch: int) -> Codec:
    """The codec called `name` for a square canvas of `canvas` pixels in patches of `patch` pixels.

    Raises:
        ValueError: unknown name, or a canvas that is not a whole number of patches.
    """
    # imported here because each codec reads text with this file's functions
    from locvlm.coords.diga import DIGA
    from locvlm.coords.ivb import IVB
    from locvlm.coords.nfp import NFP

    if name == "nfp":
        return NFP()
    if name == "ivb":
        return IVB(num_bins=canvas)
    if name == "diga":
        return DIGA(canvas=canvas, patch=patch)
    raise ValueError(f"unknown codec {name!r}; choose one of {', '.join(CODECS)}")


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


def write_numbers(numbers: list[str]) -> str:
    """Numbers as location text: ["4", "52"] -> "(4, 52)"."""
    return f"({', '.join(numbers)})"


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
