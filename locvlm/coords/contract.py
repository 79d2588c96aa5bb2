"""The coordinate contract: what a checkpoint's locations mean. Saved with it, read back by all who use it."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from locvlm.coords.codec import CODECS, Codec, build_codec
from locvlm.coords.notation import ParseFailure
from locvlm.geometry import Box, Frame, FrameMode, Location, Size, build_frame
from locvlm.records import LocationKind

REPRESENTATIONS: dict[LocationKind, str] = {"bbox": "(x1,y1,x2,y2) bbox", "point": "(cx,cy) point"}
_BEGINNINGS = re.compile(r"(?=[(\[]|<object>)")  # of a location, whatever the codec


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinateContract:
    """Codec, frame and location kind of every location that a model reads and writes.

    It lives in the checkpoint's config.json as locvlm.contract. Between source pixels and text there is no
    other way than `write` and `read`.

    Raises:
        ValueError: a field with an unknown value, or a canvas that is not a whole number of patches.
    """

    codec: str = "ivb"
    frame: FrameMode = "stretch"  # makes the paper's "divided by width and height" exact
    location: LocationKind = "bbox"
    canvas: int  # side of the square model input, in pixels
    patch: int  # side of one patch, in pixels

    def __post_init__(self) -> None:
        choices = {
            "codec": CODECS,
            "frame": get_args(FrameMode),
            "location": get_args(LocationKind),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"coordinate contract: unknown {field} {getattr(self, field)!r}; "
                    f"choose one of {', '.join(allowed)}"
                )
        for side in (self.canvas, self.patch):
            if not isinstance(side, int) or isinstance(side, bool) or side <= 0:
                raise ValueError(
                    f"coordinate contract: canvas and patch are whole pixels above 0, got {side!r}"
                )
        if self.canvas % self.patch:
            raise ValueError(
                f"coordinate contract: the canvas must be a whole number of patches, "
                f"got canvas {self.canvas} and patch {self.patch}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CoordinateContract":
        """The contract that `to_dict` wrote. ValueError for missing or unknown keys: nothing is assumed."""
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            raise ValueError(
                f"coordinate contract: expected the keys {sorted(expected)}, got {sorted(values)}; "
                f"the checkpoint was written by another version or by hand"
            )
        return cls(**values)

    @property
    def representation(self) -> str:
        """How prompts name the form of a location."""
        return REPRESENTATIONS[self.location]

    def build_codec(self) -> Codec:
        """The codec with this contract's sizes."""
        return build_codec(self.codec, canvas=self.canvas, patch=self.patch)

    def frame_for(self, size: Size, *, exif: int = 1, flip: bool = False) -> Frame:
        """The frame of a source image of `size` (width, height)."""
        return build_frame(self.frame, size, self.canvas, exif=exif, flip=flip)

    def write(self, location_px: Box, frame: Frame) -> str:
        """A box in source pixels as text: the box itself, or its centre where locations are points.

        What a crop (or the image border) cuts off is left out; whether enough remains to ask about is for
        `geometry.place_box` to say, before.

        Raises:
            ValueError: if the canvas shows nothing of the box.
        """
        visible = frame.visible_part(location_px)
        if visible is None:
            raise ValueError(
                f"box {tuple(location_px)} has no area on the canvas of a {frame.source_size} image; "
                f"leave it out (geometry.place_box tells)"
            )
        box = self._checked(frame).to_fraction(visible)
        return self.build_codec().encode(box if self.location == "bbox" else box.center)

    def read(self, text: str, frame: Frame) -> Location | ParseFailure:
        """The first location in `text`, in source pixels (outside the image where it lies on padding)."""
        location = self.build_codec().decode(text, self.location)
        return (
            location if isinstance(location, ParseFailure) else self._checked(frame).from_fraction(location)
        )

    def count(self, text: str) -> int:
        """How many different locations `text` holds; `read` takes the first."""
        codec = self.build_codec()
        parts = (codec.decode(part, self.location) for part in _BEGINNINGS.split(text))
        return len({part for part in parts if not isinstance(part, ParseFailure)})

    def _checked(self, frame: Frame) -> Frame:
        if frame.canvas_size != (self.canvas, self.canvas):
            raise ValueError(
                f"the frame ends on a canvas of {frame.canvas_size} pixels, the contract has "
                f"{(self.canvas, self.canvas)}; build it with contract.frame_for"
            )
        return frame


def require_same(got: CoordinateContract, expected: CoordinateContract) -> None:
    """Nothing, if the two are equal.

    Raises:
        ValueError: naming every field that differs, with both values and what to do.
    """
    differing = [f.name for f in fields(got) if getattr(got, f.name) != getattr(expected, f.name)]
    if differing:
        shown = "; ".join(
            f"{name}: got {getattr(got, name)!r}, expected {getattr(expected, name)!r}" for name in differing
        )
        raise ValueError(
            f"coordinate contracts differ ({shown}): every box would be read wrong without any error; "
            f"set {', '.join(differing)} to the expected values, or use a checkpoint made with yours"
        )
