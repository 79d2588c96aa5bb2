"""Boxes and points, and the one affine map from source pixels to the model canvas.

Coordinates are continuous and refer to pixel *edges*: an image of w x h pixels spans [0, w] x [0, h], its
first pixel is [0, 1] x [0, 1]. So do COCO's boxes and Pillow's resize; no half pixels appear.

Every pixel operation is a `Step`, plain data from which both the pixels (`locvlm.data.image`) and the boxes
(`Step.frame`) are moved, so the two cannot disagree. Boxes stay in source pixels until text is written.

Source pixels of a JPEG with an EXIF turn: see `locvlm.data.image.load_image`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar, get_args

FrameMode = Literal["stretch", "pad", "crop"]
OnCut = Literal["clip", "drop", "negative"]
Size = tuple[int, int]  # (width, height) in pixels
Matrix = tuple[float, float, float, float, float, float]


class Point(NamedTuple):
    """A place; the frame (source px, canvas px, canvas fractions) is named where the value is."""

    x: float
    y: float


class Box(NamedTuple):
    """Corners of an axis-aligned box, x1 <= x2 and y1 <= y2; the frame is named where the value is."""

    x1: float
    y1: float
    x2: float
    y2: float

    @classmethod
    def from_xywh(cls, x: float, y: float, width: float, height: float) -> "Box":
        """The box of a COCO `bbox` (left, top, width, height)."""
        return cls(x, y, x + width, y + height)

    @property
    def width(self) -> float:
        """x2 - x1."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """y2 - y1."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """width * height, 0 for a box turned inside out."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def center(self) -> Point:
        """The middle of the box."""
        return Point((self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2)


Location = Box | Point
AnyLocation = TypeVar("AnyLocation", Box, Point, Location)


def intersection(a: Box, b: Box) -> Box | None:
    """The box that `a` and `b` share; None where they share no area."""
    x1, y1, x2, y2 = a
    left, top, right, bottom = b
    x1, y1, x2, y2 = max(x1, left), max(y1, top), min(x2, right), min(y2, bottom)
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def iou(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]; 0 where the boxes share no area."""
    shared = intersection(a, b)
    return 0.0 if shared is None else shared.area / (a.area + b.area - shared.area)


@dataclass(frozen=True, slots=True)
class Frame:
    """An invertible affine map from source pixels to canvas pixels.

    `matrix` (a, b, c, d, e, f) means x' = a x + b y + c and y' = d x + e y + f. Axes may swap (EXIF turns)
    and mirror, never shear. A crop leaves locations outside the canvas; nothing is clipped here.
    """

    source_size: Size
    canvas_size: Size
    matrix: Matrix

    def to_canvas(self, location_px: AnyLocation) -> AnyLocation:
        """Source pixels -> canvas pixels."""
        return _apply(self.matrix, location_px)

    def to_source(self, location_canvas_px: AnyLocation) -> AnyLocation:
        """Canvas pixels -> source pixels."""
        return _apply(_invert(self.matrix), location_canvas_px)

    def to_fraction(self, location_px: AnyLocation) -> AnyLocation:
        """Source pixels -> fractions of the canvas sides, [0, 1] where the canvas shows the location."""
        width, height = self.canvas_size
        return _apply((1 / width, 0, 0, 0, 1 / height, 0), self.to_canvas(location_px))

    def from_fraction(self, location: AnyLocation) -> AnyLocation:
        """Fractions of the canvas sides -> source pixels."""
        width, height = self.canvas_size
        return self.to_source(_apply((width, 0, 0, 0, height, 0), location))

    def then(self, other: "Frame") -> "Frame":
        """This map followed by `other`, which must start where this one ends.

        Raises:
            ValueError: if `other` does not start from this frame's canvas.
        """
        if other.source_size != self.canvas_size:
            raise ValueError(
                f"frames do not chain: the first ends at (width, height) {self.canvas_size}, the next starts "
                f"from {other.source_size}; build the next frame for the size that the first one gives"
            )
        return Frame(self.source_size, other.canvas_size, _chain(self.matrix, other.matrix))

    def visible_part(self, box_px: Box) -> Box | None:
        """What the canvas shows of a source-pixel box, in source pixels; None if nothing.

        The canvas border may lie outside the source image (padding): the image's own border clips as well.
        """
        inside = intersection(box_px, Box(0, 0, *self.source_size))
        return None if inside is None else intersection(inside, _window(self.matrix, self.canvas_size))

    def visible_fraction(self, box_px: Box) -> float:
        """The share of a source-pixel box's area that the canvas shows, in [0, 1]."""
        return _share(self.visible_part(box_px), box_px)


@lru_cache(maxsize=4096)  # the sizes of a data set's images are few, and every box asks
def _window(matrix: Matrix, canvas_size: Size) -> Box:
    """The canvas in source pixels."""
    return _apply(_invert(matrix), Box(0, 0, *canvas_size))


def _share(part: Box | None, box: Box) -> float:
    """Of the box's area, what a part of it has."""
    return 0.0 if part is None else min(part.area / box.area, 1.0)


def _apply(matrix: Matrix, location: AnyLocation) -> AnyLocation:
    """Move a point, or a box by its corners, put in order again."""
    a, b, c, d, e, f = matrix
    if isinstance(location, Point):
        return Point(a * location.x + b * location.y + c, d * location.x + e * location.y + f)
    left, top, right, bottom = location
    x1, y1 = a * left + b * top + c, d * left + e * top + f
    x2, y2 = a * right + b * bottom + c, d * right + e * bottom + f
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))


def _invert(matrix: Matrix) -> Matrix:
    """The matrix of the way back."""
    a, b, c, d, e, f = matrix
    det = a * e - b * d
    return (e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det)


def _chain(first: Matrix, second: Matrix) -> Matrix:
    """The matrix of `first`, then `second`."""
    a, b, c, d, e, f = first
    p, q, r, s, t, u = second
    return (
        *(p * a + q * d, p * b + q * e, p * c + q * f + r),
        *(s * a + t * d, s * b + t * e, s * c + t * f + u),
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn or mirroring that a JPEG's EXIF orientation tag (1..8) asks for; 1 is none."""

    exif: int

    def frame(self, size: Size) -> Frame:
        """Stored raster -> upright image."""
        w, h = size
        matrices: dict[int, Matrix] = {
            1: (1, 0, 0, 0, 1, 0),
            2: (-1, 0, w, 0, 1, 0),  # mirrored
            3: (-1, 0, w, 0, -1, h),  # upside down
            4: (1, 0, 0, 0, -1, h),  # mirrored top to bottom
            5: (0, 1, 0, 1, 0, 0),  # mirrored along the main diagonal
            6: (0, -1, h, 1, 0, 0),  # to be turned clockwise
            7: (0, -1, h, -1, 0, w),  # mirrored along the other diagonal
            8: (0, 1, 0, -1, 0, w),  # to be turned counter-clockwise
        }
        if self.exif not in matrices:
            raise ValueError(f"an EXIF orientation is 1..8, got {self.exif}; use 1 for an upright image")
        return Frame(size, size if self.exif <= 4 else (h, w), matrices[self.exif])


@dataclass(frozen=True, slots=True)
class Flip:
    """Mirror left to right."""

    def frame(self, size: Size) -> Frame:
        """Image -> its mirror image."""
        return Frame(size, size, (-1, 0, size[0], 0, 1, 0))


@dataclass(frozen=True, slots=True)
class Resize:
    """Scale to width x height pixels, each side by its own factor."""

    width: int
    height: int

    def frame(self, size: Size) -> Frame:
        """Edges map to edges, as in Pillow's resize."""
        return Frame(
            size, (self.width, self.height), (self.width / size[0], 0, 0, 0, self.height / size[1], 0)
        )


@dataclass(frozen=True, slots=True)
class Pad:
    """Put the image at (left, top) of a larger width x height area."""

    left: int
    top: int
    width: int
    height: int

    def frame(self, size: Size) -> Frame:
        """A shift."""
        return Frame(size, (self.width, self.height), (1, 0, self.left, 0, 1, self.top))


@dataclass(frozen=True, slots=True)
class Crop:
    """Keep the width x height pixels from (left, top) on."""

    left: int
    top: int
    width: int
    height: int

    def frame(self, size: Size) -> Frame:
        """A shift; what lies outside lands outside [0, width] x [0, height]."""
        return Frame(size, (self.width, self.height), (1, 0, -self.left, 0, 1, -self.top))


Step = Turn | Flip | Resize | Pad | Crop


def plan_steps(
    mode: FrameMode, size: Size, canvas: int, *, exif: int = 1, flip: bool = False
) -> tuple[Step, ...]:
    """The pixel operations that bring a source image of `size` (width, height) onto the square canvas.

    First the EXIF turn (for pixels that are still in their stored raster), then the mirroring, then
    stretch  resize both sides to the canvas;
    pad      LLaVA-1.5: centre on a square of the mean colour (the odd pixel goes right or down), resize;
    crop     CLIP: resize the shorter side to the canvas (the longer one rounded down), cut out the centre.

    Raises:
        ValueError: unknown mode, or a size that is not positive.
    """
    if min(size) <= 0 or canvas <= 0:
        raise ValueError(f"sizes must be positive, got image (width, height) {size} and canvas {canvas}")
    steps: list[Step] = []
    if exif != 1:
        steps.append(Turn(exif))
        size = Turn(exif).frame(size).canvas_size
    if flip:
        steps.append(Flip())
    width, height = size
    if mode == "stretch":
        steps.append(Resize(canvas, canvas))
    elif mode == "pad":
        side = max(size)
        if width != height:
            steps.append(Pad((side - width) // 2, (side - height) // 2, side, side))
        steps.append(Resize(canvas, canvas))
    elif mode == "crop":
        long_side = int(canvas * max(size) / min(size))  # rounded down, as CLIP's processor does
        new_width, new_height = (canvas, long_side) if width <= height else (long_side, canvas)
        steps.append(Resize(new_width, new_height))
        steps.append(Crop((new_width - canvas) // 2, (new_height - canvas) // 2, canvas, canvas))
    else:
        raise ValueError(f"unknown frame mode {mode!r}; choose one of {', '.join(get_args(FrameMode))}")
    return tuple(steps)


def frame_of(steps: Iterable[Step], size: Size) -> Frame:
    """The exact frame of `steps` applied to an image of `size` (width, height); the identity for no steps."""
    frame = Frame(size, size, (1, 0, 0, 0, 1, 0))
    for step in steps:
        frame = frame.then(step.frame(frame.canvas_size))
    return frame


def build_frame(mode: FrameMode, size: Size, canvas: int, *, exif: int = 1, flip: bool = False) -> Frame:
    """The frame of `plan_steps` with the same arguments."""
    return frame_of(plan_steps(mode, size, canvas, exif=exif, flip=flip), size)


class Cut(Enum):
    """What becomes of an object whose box is not kept."""

    DROP = "drop"  # do not ask about it
    NEGATIVE = "negative"  # nothing of it is on the canvas: it may be asked about as absent


@dataclass(frozen=True, kw_only=True, slots=True)
class CutPolicy:
    """What to do with a box that a crop cuts.

    clip      keep the visible part if it is at least `min_visible_fraction` of the box, else drop the box;
    drop      keep whole boxes only;
    negative  like clip, but a box of which nothing is visible is reported as absent instead of dropped.
    """

    min_visible_fraction: float = 0.5  # of a box's area, within the canvas
    on_cut: OnCut = "clip"  # keep what is visible; keep whole boxes only; or call what is cut away absent

    def __post_init__(self) -> None:
        if not 0 < self.min_visible_fraction <= 1:
            raise ValueError(f"min_visible_fraction must be in (0, 1], got {self.min_visible_fraction}")
        if self.on_cut not in get_args(OnCut):
            raise ValueError(f"on_cut must be one of {', '.join(get_args(OnCut))}, got {self.on_cut!r}")


_CLIP = CutPolicy()


def place_box(frame: Frame, box_px: Box, policy: CutPolicy | None = None) -> Box | Cut:
    """The part of a source-pixel box to ask about, in source pixels, or why there is none (`CutPolicy`)."""
    policy = policy or _CLIP
    part = frame.visible_part(box_px)
    visible = _share(part, box_px)
    if part is None:
        return Cut.NEGATIVE if policy.on_cut == "negative" else Cut.DROP
    if math.isclose(visible, 1.0, abs_tol=1e-9):
        return box_px
    if policy.on_cut == "drop" or visible < policy.min_visible_fraction:
        return Cut.DROP
    return part


_SIDES = {"left": "right", "right": "left"}
_SIDE_WORD = re.compile(r"\b(left|right)(?=(?:most|wards?|hand|handed|side)?\b)", re.IGNORECASE)
_NOT_A_SIDE = re.compile(
    r"\b(?:all right|right (?:now|away|after|before|angles?)|left(?: |-)?(?:over|behind)s?)\b", re.IGNORECASE
)


def has_left_right(text: str) -> bool:
    """Whether `text` holds left or right in any sense; as it stands it does not fit a mirrored image."""
    return _SIDE_WORD.search(text) is not None


def swap_left_right(text: str) -> str:
    """`text` for the mirrored image: "The man on the Left" -> "The man on the Right".

    For phrases that name or place objects. Fixed expressions ("right now", "left over") stay. Where the sense
    cannot be vouched for (conversations as they come), refuse the flip by `has_left_right` instead.
    """
    kept = [match.span() for match in _NOT_A_SIDE.finditer(text)]

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        if any(start <= match.start() < end for start, end in kept):
            return word
        other = _SIDES[word.lower()]
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return _SIDE_WORD.sub(swap, text)
