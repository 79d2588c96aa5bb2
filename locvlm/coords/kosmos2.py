"""Kosmos-2's location tokens: the patches of a 32 x 32 grid in which a box begins and ends.

Patches are numbered row by row. A box is written by the patch of its upper left corner and that of its lower
right one, and read as the box between their centres; where both are in one row or one column, as the whole
patches from the first to the last. So does transformers' Kosmos2Processor, which a test compares with.
Kosmos-2 writes no points: one is written here as the patch that holds it.
"""

import math
import re
from dataclasses import dataclass

from locvlm.coords.notation import ParseFailure, checked, on_canvas
from locvlm.geometry import Box, Location, Point
from locvlm.records import LocationKind

_OBJECT = re.compile(r"<object>((?:\s*<patch_index_\d{4}>)+)")
_INDEX = re.compile(r"<patch_index_(\d{4})>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kosmos2:
    """(10, 120, 30, 145) of 512 pixels <-> "<object><patch_index_0224><patch_index_0289></object>"."""

    grid: int = 32  # patches per side
    name: str = "kosmos2"

    @property
    def max_error(self) -> float:
        """A patch, for boxes in one row or column; half of one elsewhere."""
        return 1 / self.grid

    def encode(self, location: Location) -> str:
        """The patches that hold a box's corners, or a point."""
        location = on_canvas(location)
        if isinstance(location, Point):
            indices = [self._index(self._first(location.x), self._first(location.y))]
        else:
            left, top = self._first(location.x1), self._first(location.y1)
            right, bottom = self._last(location.x2, left), self._last(location.y2, top)
            indices = [self._index(left, top), self._index(right, bottom)]
        return f"<object>{''.join(f'<patch_index_{index:04d}>' for index in indices)}</object>"

    def decode(self, text: str, kind: LocationKind) -> Location | ParseFailure:
        """The first location in canvas fractions, or why there is none."""
        count = 1 if kind == "point" else 2
        problem: ParseFailure | None = None
        for match in _OBJECT.finditer(text):
            indices = [int(number) for number in _INDEX.findall(match[1])]
            shown = match[0][:80]
            if len(indices) != count:
                problem = problem or ParseFailure(
                    "wrong count", f"{shown} has {len(indices)} patches, not {count}"
                )
                continue
            location = self._location(indices)
            if not isinstance(location, str):
                return location
            problem = ParseFailure("out of range", f"{shown}: {location}")
        return problem or ParseFailure("no location", "no <object> with patches")

    def _location(self, indices: list[int]) -> Location | str:
        """A point for one patch, a box for two; or what is wrong with them."""
        if max(indices) >= self.grid**2:
            return f"the last patch is {self.grid**2 - 1}"
        (top, left), (bottom, right) = (divmod(index, self.grid) for index in (indices[0], indices[-1]))
        if len(indices) == 1:
            return Point((left + 0.5) / self.grid, (top + 0.5) / self.grid)
        # within one row or column the centres would leave no area
        reach = 0.5 if top == bottom or left == right else 0.0
        edges = (left - reach, top - reach, right + reach, bottom + reach)
        return checked(Box(*((edge + 0.5) / self.grid for edge in edges)))

    def _first(self, fraction: float) -> int:
        """The row or column that a coordinate is in; the far border belongs to the last."""
        return min(math.floor(round(fraction * self.grid, 7)), self.grid - 1)

    def _last(self, fraction: float, first: int) -> int:
        """The row or column that ends at or behind a coordinate, `first` at least."""
        return max(math.ceil(round(fraction * self.grid, 7)) - 1, first)

    def _index(self, column: int, row: int) -> int:
        return row * self.grid + column
