"""The pen that draws the things of the embedded world, and their colours.

Coordinates are fractions of the sprite, x to the right and y down. The pen turns and scales them, and marks
the *body* (what takes the object's pattern) apart from details.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
XY = tuple[float, float]

INK: RGB = (52, 44, 56)
WHITE: RGB = (252, 250, 244)
CREAM: RGB = (246, 226, 190)
WOOD: RGB = (150, 102, 62)
STEM: RGB = (74, 138, 62)
GOLD: RGB = (238, 190, 72)
GLASS: RGB = (196, 228, 240)

BODY_ALPHA = 254  # alpha of what takes the pattern; details are drawn with 255

COLORS: dict[str, RGB] = {
    "red": (216, 58, 52),
    "orange": (240, 140, 44),
    "yellow": (246, 208, 66),
    "green": (82, 168, 80),
    "teal": (52, 168, 166),
    "blue": (66, 116, 212),
    "purple": (142, 86, 196),
    "pink": (240, 134, 172),
    "brown": (146, 98, 62),
    "white": (240, 238, 232),
    "gray": (146, 148, 156),
    "black": (70, 66, 76),
}


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """`share` of `second` and the rest of `first`, per channel."""
    r, g, b = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return r, g, b


@dataclass(frozen=True, slots=True)
class Paint:
    """The colours of one object: its own, two shades of it, and a second colour for parts."""

    main: RGB
    accent: RGB

    @property
    def dark(self) -> RGB:
        """A shadow of the main colour."""
        return mix(self.main, (24, 16, 36), 0.38)

    @property
    def light(self) -> RGB:
        """A tint of the main colour."""
        return mix(self.main, (255, 252, 240), 0.5)


class Pen:
    """Draws filled outlines given in unit coordinates into a square RGBA image, turned by `tilt` radians."""

    def __init__(self, side: int, tilt: float, backdrop: RGB) -> None:
        self.image = Image.new("RGBA", (side, side), (*backdrop, 0))
        self._draw = ImageDraw.Draw(self.image)
        # the unit square, turned about its centre, must fit: 1.42 covers the diagonal
        self._scale = side / (abs(math.cos(tilt)) + abs(math.sin(tilt)) + 0.04)
        self._turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
        self._half = side / 2

    def _pixels(self, points: Sequence[XY] | np.ndarray) -> list[XY]:
        placed = (np.asarray(points, dtype=float) - 0.5) @ self._turn * self._scale + self._half  # (n, 2)
        return [(float(x), float(y)) for x, y in placed]

    def poly(self, points: Sequence[XY] | np.ndarray, color: RGB, *, body: bool = False) -> None:
        """A closed polygon."""
        self._draw.polygon(self._pixels(points), fill=(*color, BODY_ALPHA if body else 255))

    def blob(self, points: Sequence[XY], color: RGB, *, body: bool = False) -> None:
        """A smooth closed curve through the points (Catmull-Rom)."""
        p = np.asarray(points, dtype=float)
        before, after, later = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
        curve = []
        for t in (0.0, 0.2, 0.4, 0.6, 0.8):
            curve.append(
                0.5 * (2 * p + (after - before) * t + (2 * before - 5 * p + 4 * after - later) * t**2
                       + (3 * p - before - 3 * after + later) * t**3)
            )  # fmt: skip
        self.poly(np.stack(curve, 1).reshape(-1, 2), color, body=body)

    def oval(
        self, center: XY, radius: XY, color: RGB, *, arc: tuple[float, float] = (0, 360), body: bool = False
    ) -> None:
        """An ellipse, or the part of it between two angles in degrees (0 is right, 90 is down)."""
        angles = np.radians(np.linspace(arc[0], arc[1], 33))
        points = np.stack([center[0] + radius[0] * np.cos(angles), center[1] + radius[1] * np.sin(angles)], 1)
        self.poly(points, color, body=body)

    def line(self, points: Sequence[XY], width: float, color: RGB, *, body: bool = False) -> None:
        """A line with round joints and ends; `width` is in unit coordinates."""
        placed, px = self._pixels(points), max(1.0, width * self._scale)
        fill = (*color, BODY_ALPHA if body else 255)
        self._draw.line(placed, fill=fill, width=round(px))
        for x, y in placed:
            self._draw.ellipse((x - px / 2, y - px / 2, x + px / 2, y + px / 2), fill=fill)

    def curve(self, center: XY, radius: XY, arc: tuple[float, float], width: float, color: RGB) -> None:
        """A stroked arc of an ellipse, angles in degrees."""
        angles = np.radians(np.linspace(arc[0], arc[1], 15))
        points = [(center[0] + radius[0] * math.cos(a), center[1] + radius[1] * math.sin(a)) for a in angles]
        self.line(points, width, color, body=True)
