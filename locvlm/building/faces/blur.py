"""Faces blurred as ImageNet did it, in an ellipse instead of a box.

The box of a face is grown by a tenth of its longer side. A Gaussian, whose sigma is a tenth of the longest
side of all faces of the image, blurs the image, and the mask of the grown boxes too, so that the edge is
soft; the two images are laid over each other by that mask. What is left of a face is the colour of skin.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from locvlm.geometry import Box

Shape = Literal["ellipse", "box"]
_GROWN_BY = 0.1  # of the longer side, on every side
_SIGMA = 0.1  # of the longest side of all faces
_PREMULTIPLIED = {"RGBA": "RGBa", "LA": "La"}  # so that what is transparent does not bleed into what is not


def blur_faces(image: Image.Image, boxes_px: Sequence[Box], *, shape: Shape = "ellipse") -> Image.Image:
    """The image, in its mode (L, LA, RGB, RGBA, CMYK, I;16), with what is inside the boxes blurred.

    Args:
        boxes_px: faces, in pixels of this raster.
        shape: "ellipse" blurs the ellipse in the grown box, "box" all of it, as ImageNet did.
    """
    if not boxes_px:
        return image
    sigma = _SIGMA * max(max(box.width, box.height) for box in boxes_px)
    blur = ImageFilter.GaussianBlur(sigma)
    mask = _mask(image.size, boxes_px, shape).filter(blur)  # 255 where the image is to be blurred
    if image.mode.startswith("I;16"):
        return _blur_16_bits(image, mask, blur)
    if image.mode in _PREMULTIPLIED:
        whole = image.convert(_PREMULTIPLIED[image.mode])
        return Image.composite(whole.filter(blur), whole, mask).convert(image.mode)
    return Image.composite(image.filter(blur), image, mask)


def _mask(size: tuple[int, int], boxes_px: Sequence[Box], shape: Shape) -> Image.Image:
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    for box in boxes_px:
        by = _GROWN_BY * max(box.width, box.height)
        grown = (box.x1 - by, box.y1 - by, box.x2 + by, box.y2 + by)
        if shape == "ellipse":
            draw.ellipse(grown, fill=255)
        else:
            draw.rectangle(grown, fill=255)
    return mask


def _blur_16_bits(image: Image.Image, mask: Image.Image, blur: ImageFilter.Filter) -> Image.Image:
    """Pillow blurs 8 bits: those are enough for what is to be unrecognisable, the rest keeps its 16."""
    sharp = np.asarray(image).astype(np.float32)
    coarse = Image.fromarray(np.round(sharp / 257).astype(np.uint8)).filter(blur)
    share = np.asarray(mask, dtype=np.float32) / 255
    mixed = sharp * (1 - share) + np.asarray(coarse, dtype=np.float32) * 257 * share
    return Image.fromarray(np.round(mixed).astype(np.uint16))
