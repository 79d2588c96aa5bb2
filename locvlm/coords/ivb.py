"""IVB, integer-valued binning (paper section 3.2): each coordinate as a whole number from 0 to num_bins.

Ferret and Qwen-VL write the same with 1000 bins.
"""

from dataclasses import dataclass

from locvlm.coords.notation import (
    Brackets,
    ParseFailure,
    checked,
    first_location,
    on_canvas,
    round_half_even,
    whole_numbers,
    write_numbers,
)
from locvlm.geometry import Box, Location, Point
from locvlm.records import LocationKind


@dataclass(frozen=True, kw_only=True, slots=True)
class IVB:
    """(10, 120, 30, 145) of 512 pixels <-> "(4, 52, 13, 63)" with 224 bins."""

    num_bins: int = 224  # the canvas side: 224 for LocVLM-B, 336 for LocVLM-L
    brackets: Brackets = "()"  # written; both are read
    name: str = "ivb"  # in configs and checkpoints

    @property
    def max_error(self) -> float:
        """Half a bin."""
        return 0.5 / self.num_bins

    def encode(self, location: Location) -> str:
        """Bins, rounded half to even."""
        bins = [str(round_half_even(v * self.num_bins)) for v in on_canvas(location)]
        return write_numbers(bins, self.brackets)

    def decode(self, text: str, kind: LocationKind) -> Location | ParseFailure:
        """The first location in canvas fractions, or why there is none."""
        if kind == "point":
            return first_location(text, 2, lambda bins: whole_numbers(bins) or checked(self._point(bins)))
        return first_location(text, 4, lambda bins: whole_numbers(bins) or checked(self._box(bins)))

    def _point(self, bins: list[float]) -> Point:
        return Point(*(v / self.num_bins for v in bins))

    def _box(self, bins: list[float]) -> Box:
        return Box(*(v / self.num_bins for v in bins))
