"""NFP, normalised floating point (paper section 3.2): each coordinate as a fraction with four decimals.

Shikra and LLaVA-1.5 write the same with three and two decimals in square brackets.
"""

from dataclasses import dataclass

from locvlm.coords.notation import (
    Brackets,
    ParseFailure,
    checked,
    first_location,
    on_canvas,
    round_half_even,
    write_numbers,
)
from locvlm.geometry import Box, Location, Point
from locvlm.records import LocationKind


@dataclass(frozen=True, kw_only=True, slots=True)
class NFP:
    """(10, 120, 30, 145) of 512 pixels <-> "(0.0195, 0.2344, 0.0586, 0.2832)"."""

    decimals: int = 4
    brackets: Brackets = "()"  # written; both are read
    name: str = "nfp"  # in configs and checkpoints

    @property
    def max_error(self) -> float:
        """Half of the last decimal."""
        return 0.5 / float(10**self.decimals)

    def encode(self, location: Location) -> str:
        """Fractions of the canvas sides, rounded half to even."""
        scale = 10.0**self.decimals
        values = [round_half_even(v * scale) / scale for v in on_canvas(location)]
        return write_numbers([f"{v:.{self.decimals}f}" for v in values], self.brackets)

    def decode(self, text: str, kind: LocationKind) -> Location | ParseFailure:
        """The first location in canvas fractions, or why there is none."""
        if kind == "point":
            return first_location(text, 2, lambda numbers: checked(Point(*numbers)))
        return first_location(text, 4, lambda numbers: checked(Box(*numbers)))
