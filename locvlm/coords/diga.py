"""DIGA, deviation from image-grid anchors (paper section 3.2): a patch, then distances from its centre.

Distances count in canvas pixels, as IVB's bins do, and point outwards for a box: a box smaller than its patch
has negative ones. The paper leaves the point undefined; it is written as (p, q, cx - ax, cy - ay).
"""

from dataclasses import dataclass

from locvlm.coords.notation import (
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
class DIGA:
    """(10, 120, 30, 145) of 512 pixels <-> "(0, 4, 3, 11, 6, 0)": column 0, row 4, anchor centre (7, 63)."""

    canvas: int = 224
    patch: int = 14

    def __post_init__(self) -> None:
        if self.patch <= 0 or self.canvas <= 0 or self.canvas % self.patch:
            raise ValueError(
                f"DIGA needs a canvas of whole patches, got canvas {self.canvas} and patch {self.patch}; "
                f"CLIP ViT-L/14 has 224 or 336 and 14"
            )

    @property
    def name(self) -> str:
        """Its name in configs and checkpoints."""
        return "diga"

    @property
    def max_error(self) -> float:
        """Half a canvas pixel."""
        return 0.5 / self.canvas

    @property
    def grid(self) -> int:
        """Patches per side: anchors are numbered 0..grid - 1."""
        return self.canvas // self.patch

    def encode(self, location: Location) -> str:
        """Anchor column and row, then deviations, in canvas pixels rounded half to even beforehand."""
        location = on_canvas(location)
        center = location if isinstance(location, Point) else location.center
        p, q = self._patch_of(center.x), self._patch_of(center.y)
        ax, ay = self._anchor(p), self._anchor(q)
        pixels = [round_half_even(v * self.canvas) for v in location]
        if isinstance(location, Point):
            numbers = [p, q, pixels[0] - ax, pixels[1] - ay]
        else:
            x1, y1, x2, y2 = pixels
            numbers = [p, q, ax - x1, ay - y1, x2 - ax, y2 - ay]
        return write_numbers([str(n) for n in numbers])

    def decode(self, text: str, kind: LocationKind) -> Location | ParseFailure:
        """The first location in canvas fractions, or why there is none."""
        if kind == "point":
            return first_location(
                text, 4, lambda numbers: self._problem(numbers) or checked(self._point(numbers))
            )
        return first_location(text, 6, lambda numbers: self._problem(numbers) or checked(self._box(numbers)))

    def _patch_of(self, fraction: float) -> int:
        """The patch that holds a coordinate; the far border belongs to the last patch."""
        return min(int(round(fraction * self.canvas, 7)) // self.patch, self.grid - 1)

    def _anchor(self, index: int) -> int:
        """The centre of a patch in canvas pixels, 14 p + 7 for patches of 14; odd patches round down."""
        return index * self.patch + self.patch // 2

    def _problem(self, numbers: list[float]) -> str:
        if not all(0 <= index < self.grid for index in numbers[:2]):
            return f"the anchor is not within 0..{self.grid - 1}"
        return whole_numbers(numbers)

    def _point(self, numbers: list[float]) -> Point:
        p, q, dx, dy = numbers
        ax, ay = self._anchor(int(p)), self._anchor(int(q))
        return Point((ax + dx) / self.canvas, (ay + dy) / self.canvas)

    def _box(self, numbers: list[float]) -> Box:
        p, q, left, up, right, down = numbers
        ax, ay = self._anchor(int(p)), self._anchor(int(q))
        c = self.canvas
        return Box((ax - left) / c, (ay - up) / c, (ax + right) / c, (ay + down) / c)
