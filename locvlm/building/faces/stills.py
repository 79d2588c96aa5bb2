"""An image file -> the same file with its faces blurred.

What is kept: format, size, and the raster as it is stored, so that boxes of annotation files still fit; the
EXIF orientation and the colour profile, so that a viewer shows it as before; of a JPEG the quantisation
tables and the subsampling. Outside of its faces a JPEG moves by the rounding of one more encoding, a
lossless format not at all.

What is left out: whatever may hold a small copy of the face. EXIF's thumbnail and its maker note, XMP, text
of a PNG, further pictures of a phone's JPEG (MPO). An image without a face is not touched, and keeps all
this.

A palette becomes true colour, but in a GIF; PNGs of 16 bits keep these if they are gray, and have 8 if they
are not, which is what Pillow, and so training, reads of them.
"""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import ExifTags, Image, ImageSequence, JpegImagePlugin

from locvlm.building.faces.blur import Shape, blur_faces
from locvlm.building.faces.detect import Face, FaceDetector
from locvlm.building.faces.spread import spread_faces
from locvlm.data.image import EXIF_ORIENTATION, READ_ERRORS, UnreadableImage, apply_step, to_rgb
from locvlm.geometry import Box, Size, Turn

logger = logging.getLogger(__name__)

_MAKER_NOTE = 0x927C
_BACK = {6: 8, 8: 6}  # the turn that undoes a quarter turn; the others undo themselves
_WEBP_QUALITY = 90  # a lossy WebP does not say its own
_LOSSLESS_WEBP = b"VP8L"
_MAX_EXIF_BYTES = 65_533  # that a JPEG has room for
_EDITABLE = ("L", "LA", "RGB", "RGBA", "CMYK")


class UnwritableImage(ValueError):
    """An image with faces in a format that we do not write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlurredStill:
    """What became of an image file.

    data   the new file; None if there is no face in it, and the old one can stay
    size   (width, height), upright: the frame of the faces
    faces  of every frame; an image that does not move has one
    """

    data: bytes | None
    size: Size
    faces: tuple[tuple[Face, ...], ...]


def blur_still(data: bytes, detector: FaceDetector, *, shape: Shape = "ellipse") -> BlurredStill:
    """The image file `data` with its faces blurred.

    Raises:
        UnreadableImage: truncated, corrupt, or no image.
        UnwritableImage: it has faces, and is of a format other than JPEG, PNG, WebP, BMP, TIFF and GIF.
    """
    with _reading():
        image = Image.open(io.BytesIO(data))
    with image:
        frames, turn = _read(image)
        faces = tuple(tuple(detector.find(frame.upright)) for frame in frames)
        size = frames[0].upright.size
        if not any(faces):
            return BlurredStill(data=None, size=size, faces=faces)
        if image.format == "MPO":  # further pictures are the same in another size or exposure
            frames, faces = frames[:1], faces[:1]
        boxes_px = spread_faces(faces, reach=0 if image.format == "TIFF" else 1)
        first, *others = (
            _blur_raster(frame.stored, turn, boxes, shape)
            for frame, boxes in zip(frames, boxes_px, strict=True)
        )
        more = _options_of_frames(image, frames, others) if others else {}
        return BlurredStill(data=_encode(first, image, data, **more), size=size, faces=faces)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except READ_ERRORS as error:
        raise UnreadableImage(f"cannot be read as an image ({type(error).__name__}: {error})") from error


class _Frame(NamedTuple):
    upright: Image.Image  # RGB, to look at
    stored: Image.Image  # to blur
    duration_ms: float


def _read(image: Image.Image) -> tuple[list[_Frame], Turn]:
    """Every frame of the image, mostly one, and how they are turned to stand upright."""
    with _reading():
        image.load()
        exif = image.getexif().get(EXIF_ORIENTATION, 1)
        turn = Turn(exif if exif in range(1, 9) else 1)
        frames = [
            _Frame(
                upright=apply_step(to_rgb(frame), turn),
                stored=_editable(frame).copy(),
                duration_ms=frame.info.get("duration", 0),
            )
            for frame in ImageSequence.Iterator(image)
        ]
        image.seek(0)
    return frames, turn


def _blur_raster(stored: Image.Image, turn: Turn, boxes_px: Sequence[Box], shape: Shape) -> Image.Image:
    """The stored raster with upright boxes blurred."""
    blurred = blur_faces(apply_step(stored, turn), boxes_px, shape=shape)
    return apply_step(blurred, Turn(_BACK.get(turn.exif, turn.exif)))


def _editable(image: Image.Image) -> Image.Image:
    """The image in a mode that can be blurred; a palette has no colours between its own."""
    is_16_bits = image.mode.startswith("I;16")
    if is_16_bits or (image.mode in _EDITABLE and image.info.get("transparency") is None):
        return image
    has_alpha = "A" in image.getbands() or image.info.get("transparency") is not None
    return image.convert("RGBA" if has_alpha else "RGB")


# ---- files


def _encode(raster: Image.Image, original: Image.Image, data: bytes, **frames: Any) -> bytes:
    """The raster as a file of the format of the image that it was made from."""
    encoders: dict[str | None, Callable[[], dict[str, Any]]] = {
        "JPEG": lambda: _jpeg_options(original),
        "MPO": lambda: _jpeg_options(original),
        "PNG": dict,
        "WEBP": lambda: _webp_options(data),
        "BMP": dict,
        "GIF": lambda: {"disposal": 2} if frames else {},
        "TIFF": lambda: {"compression": "tiff_deflate"},
    }
    if original.format not in encoders:
        raise UnwritableImage(f"an image of format {original.format} with faces in it")
    options = {**encoders[original.format](), **frames}
    if icc := original.info.get("icc_profile"):
        options["icc_profile"] = icc
    if original.format != "TIFF" and (exif := _exif_without_pictures(original)):
        options["exif"] = exif  # those of a TIFF tell of its own strips, and Pillow has turned it already
    bare = Image.frombytes(raster.mode, raster.size, raster.tobytes())  # nothing of the file it came from
    out = io.BytesIO()
    try:
        bare.save(out, "JPEG" if original.format == "MPO" else original.format, **options)
    except (OSError, ValueError) as error:
        raise UnwritableImage(f"a {original.format} with faces cannot be written anew ({error})") from error
    return out.getvalue()


def _options_of_frames(
    image: Image.Image, frames: Sequence[_Frame], others: list[Image.Image]
) -> dict[str, Any]:
    """How the frames after the first are written, and for how long each is shown."""
    options: dict[str, Any] = {"save_all": True, "append_images": others}
    if image.format != "TIFF":
        options |= {"duration": [frame.duration_ms for frame in frames], "loop": image.info.get("loop", 0)}
    return options


def _jpeg_options(image: Image.Image) -> dict[str, Any]:
    return {
        "qtables": image.quantization,  # type: ignore[attr-defined]
        "subsampling": JpegImagePlugin.get_sampling(image),
        "progressive": bool(image.info.get("progressive")),
    }


def _webp_options(data: bytes) -> dict[str, Any]:
    is_lossless = _LOSSLESS_WEBP in data[:4096]
    return {"lossless": True} if is_lossless else {"quality": _WEBP_QUALITY}


def _exif_without_pictures(image: Image.Image) -> bytes:
    """EXIF with its orientation, without thumbnail and maker note; empty if there is none."""
    exif = image.getexif()
    if not exif:
        return b""
    try:
        exif.get_ifd(ExifTags.IFD.Exif).pop(_MAKER_NOTE, None)
        if len(written := exif.tobytes()) <= _MAX_EXIF_BYTES:
            return written
    except READ_ERRORS as error:
        logger.debug("EXIF that cannot be copied (%s); its orientation is kept", error)
    only = Image.Exif()
    only[EXIF_ORIENTATION] = exif.get(EXIF_ORIENTATION, 1)
    return only.tobytes()
