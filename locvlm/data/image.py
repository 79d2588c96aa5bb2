"""Image files -> RGB -> pixels on the model canvas, by the steps that also make the boxes' frame.

Which raster the boxes of a record live in: a JPEG may be stored sideways with an EXIF tag that says how to
turn it. Annotation tools nearly always show, and so annotate, the *upright* image: that is the default, and
what servers (transformers' `load_image`) feed to a model. Where a record's width and height fit only the
stored raster, the boxes were drawn there, and `load_image` returns that raster unturned. Either way what it
returns are the source pixels that the record speaks of, so frames are built from the record's size with
exif=1. (Who wants stored-raster boxes on an upright picture reads `load_stored` and puts its turn into
`plan_steps`.) A size that fits neither is an error: such boxes belong to another picture.
"""

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from locvlm.data.archive import locate
from locvlm.geometry import Crop, Flip, FrameMode, Pad, Resize, Size, Step, Turn, plan_steps
from locvlm.spec import VisionSpec

EXIF_ORIENTATION = 0x0112
MAX_INTERMEDIATE_PIXELS = (
    2**28
)  # 0.8 GB of RGB; only a photograph a thousand times wider than high gets there

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,  # Pillow counts counter-clockwise
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# what Pillow's readers raise on broken files
READ_ERRORS = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadableImage(ValueError):
    """An image file that is missing, broken, not an image, or not the one the record speaks of."""


class SizeMismatch(UnreadableImage):
    """An image whose size differs from what its record says, upright and as stored."""


def load_image(path: str | Path, size: Size | None = None) -> Image.Image:
    """The image in RGB, in the raster that its record's boxes live in (see above).

    Args:
        path: a file, or one in a zip or shard (`archive.py`), of any format that Pillow reads; gray, palette,
            CMYK and 16 bit become RGB, transparency turns white.
        size: (width, height) that the record says; None or (0, 0) if it says none: then the upright image.

    Raises:
        UnreadableImage: missing, truncated or corrupt file.
        SizeMismatch: `size` fits neither the upright image nor the stored raster.
    """
    stored, exif = load_stored(path)
    upright = apply_step(stored, Turn(exif))
    if size is None or tuple(size) in ((0, 0), upright.size):
        return upright
    if tuple(size) == stored.size:
        return stored
    also = "" if upright.size == stored.size else f" (stored as {stored.size}, turned by its EXIF tag)"
    raise SizeMismatch(
        f"{path}: got an image of (width, height) {upright.size}{also}, expected {tuple(size)} "
        f"from its record, whose boxes would be off; "
        f"use the images that the annotations were made on, or rebuild the records"
    )


def load_stored(path: str | Path) -> tuple[Image.Image, int]:
    """The stored raster in RGB and its EXIF orientation (1..8, 1 where there is none).

    Raises:
        UnreadableImage: missing, truncated or corrupt file.
    """
    try:
        with Image.open(locate(path)) as image:
            image.load()  # the whole file, so that a truncated one shows; TIFF is turned by Pillow in here
            exif = image.getexif().get(EXIF_ORIENTATION, 1)
            return to_rgb(image), exif if exif in _TURNS else 1
    except FileNotFoundError:
        raise UnreadableImage(f"{path}: no such image; check the image root and the file name") from None
    except READ_ERRORS as error:
        raise UnreadableImage(
            f"{path}: cannot be read as an image ({type(error).__name__}: {error}); "
            f"fetch it again or drop its record"
        ) from error


def prepare_image(image: Image.Image, steps: Sequence[Step], vision: VisionSpec) -> NDArray[np.float32]:
    """Normalised pixels, float32 (3, canvas, canvas), of an RGB image after `steps` (`geometry.plan_steps`).

    Bit-equal to transformers' PIL processors: "stretch" and "crop" to CLIPImageProcessorPil, "pad" to
    LlavaImageProcessorPil with do_pad (the square is filled with the mean colour, before resizing).

    Raises:
        UnreadableImage: an image so elongated that a step would need more than 2^28 pixels.
        ValueError: steps that do not end on the canvas of `vision`.
    """
    levels = on_canvas(image, steps, vision)  # (H, W, 3)
    pixels = np.empty((3, *levels.shape[:2]), dtype=np.float32)  # (3, H, W)
    for channel, table in enumerate(normalised_levels(vision)):
        # there is nothing to clip: 256 levels; numpy takes in blocks only where it need not raise
        np.take(table, levels[..., channel], out=pixels[channel], mode="clip")
    return pixels


def on_canvas(image: Image.Image, steps: Sequence[Step], vision: VisionSpec) -> NDArray[np.uint8]:
    """The image after `steps`, not normalised, (canvas, canvas, 3). Raises as `prepare_image`."""
    fill = tuple(int(mean * 255) for mean in vision.image_mean)
    for step in steps:
        image = apply_step(image, step, fill)
    if image.size != (vision.canvas, vision.canvas):
        raise ValueError(
            f"the steps end at (width, height) {image.size}, the vision tower expects "
            f"{(vision.canvas, vision.canvas)}; make them with plan_steps(..., canvas={vision.canvas})"
        )
    return np.asarray(image)


@lru_cache(maxsize=16)
def normalised_levels(vision: VisionSpec) -> NDArray[np.float32]:
    """`normalise` of every level, (3, 256): looking up is a quarter of the work, bit for bit the same."""
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)  # (256, 3)
    table = np.ascontiguousarray(normalise(levels, vision).T)
    table.flags.writeable = False
    return table


def normalise(levels: NDArray[np.uint8], vision: VisionSpec) -> NDArray[np.float32]:
    """Pixels of 0..255 as the tower takes them; (..., 3), channels last."""
    # multiplied in float64, normalised in float32: the processors' arithmetic
    pixels = (levels.astype(np.float64) * (1 / 255)).astype(np.float32)
    mean = np.asarray(vision.image_mean, dtype=np.float32)
    std = np.asarray(vision.image_std, dtype=np.float32)
    return (pixels - mean) / std


def read_pixels(
    path: str | Path, *, mode: FrameMode, vision: VisionSpec, size: Size | None = None, flip: bool = False
) -> NDArray[np.float32]:
    """Pixels of an image file on the canvas, float32 (3, canvas, canvas): load, check the size, prepare."""
    image = load_image(path, size)
    return prepare_image(image, plan_steps(mode, image.size, vision.canvas, flip=flip), vision)


def apply_step(image: Image.Image, step: Step, fill: tuple[int, ...] = (0, 0, 0)) -> Image.Image:
    """The image after one step; `fill` is the RGB colour that padding shows."""
    width, height = step.frame(image.size).canvas_size
    if width * height > MAX_INTERMEDIATE_PIXELS:
        raise UnreadableImage(
            f"an image of (width, height) {image.size} would need {width} x {height} pixels on its way to "
            f"the canvas; drop it, or use the frame 'stretch'"
        )
    if isinstance(step, Turn):
        return image if step.exif == 1 else image.transpose(_TURNS[step.exif])
    if isinstance(step, Flip):
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if isinstance(step, Resize):
        return image.resize((step.width, step.height), resample=Image.Resampling.BICUBIC)
    if isinstance(step, Crop):
        return image.crop((step.left, step.top, step.left + step.width, step.top + step.height))
    assert isinstance(step, Pad)
    padded = Image.new("RGB", (step.width, step.height), fill)
    padded.paste(image, (step.left, step.top))
    return padded


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; transparency is laid on white, as transformers' processors do."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow's own conversion clips 16-bit gray at 255, which leaves a white picture
        gray = np.asarray(image).astype(np.uint32) + 128
        return Image.fromarray((gray // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(
            f"samples of 32 bits (mode {image.mode}) have no agreed white; save it with 8 or 16 bits"
        )
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
    return image.convert("RGB")
