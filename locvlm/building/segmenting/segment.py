"""What a segmenter is asked and what it answers: segments with boxes in the image's own pixels.

    picture --Segmenter--> Segmented: its size, and segments with class, box and area

A picture of which nothing can be said (it cannot be opened, it is not in the file of segments) comes back as
failed, with the reason, so that a long run goes on and its journal knows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from PIL import Image

from locvlm.geometry import Box, Frame, Size
from locvlm.io import Ledger

UNREADABLE_IMAGE = "unreadable image"
UNLISTED = "pixels of an id that is not in segments_info"
WITHOUT_PIXELS = "segment without pixels"
BOX_DIFFERS = "bbox differs from the pixels"
AREA_DIFFERS = "area differs from the pixels"
_DROPS = (UNLISTED, WITHOUT_PIXELS)  # of what segments are lost by; the others are only counted


class Category(NamedTuple):
    """A class that a segmenter knows."""

    label: str  # as it is spoken of
    is_thing: bool  # countable objects; else stuff, such as sky, of which an image has one segment at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment of an image."""

    category: str
    is_thing: bool
    box_px: Box  # around its mask, in source pixels of the image
    area_px: float  # of its mask, in source pixels
    is_crowd: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmented:
    """What a segmenter says about a picture; where `failed` is set, nothing."""

    size: Size = (0, 0)  # (width, height) of the upright image
    segments: tuple[Segment, ...] = ()
    odd: Mapping[str, int] = field(default_factory=dict)  # what did not fit together -> how often
    failed: str = ""  # why there is no answer, one of a few fixed phrases
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "segments": [asdict(segment) for segment in self.segments]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Segmented":
        """The inverse of `to_json`."""
        segments = tuple(Segment(**{**s, "box_px": Box(*s["box_px"])}) for s in row["segments"])
        return cls(**{**row, "size": tuple(row["size"]), "segments": segments})


class Picture(NamedTuple):
    """One image to segment."""

    name: str  # path relative to the image root; files of segments know it by this
    load: Callable[[], Image.Image]  # upright, RGB; raises UnreadableImage


class Segmenter(Protocol):
    """Anything that finds segments in pictures."""

    @property
    def categories(self) -> Sequence[Category]:
        """All classes that it knows, in a fixed order."""

    def segment(self, pictures: Iterable[Picture]) -> Iterator[Segmented]:
        """An answer for each picture, in their order; pictures are loaded in order, once, or not at all."""


def to_source(segment: Segment, frame: Frame) -> Segment:
    """A segment found in a frame's canvas (a resized image), in source pixels of the image."""
    box = frame.to_source(segment.box_px)
    scale = box.area / segment.box_px.area
    return replace(segment, box_px=box, area_px=segment.area_px * scale)


def count_segments(answers: Iterable[Segmented], ledger: Ledger, odd: Counter[str]) -> None:
    """Count segments that were kept and lost in `ledger`, and what only differed in `odd`."""
    for answer in answers:
        ledger.keep(len(answer.segments))
        for reason, number in answer.odd.items():
            if reason not in _DROPS:
                odd[reason] += number
                continue
            for _ in range(number):
                ledger.drop("a segment", reason)
