"""Photographs with boxes over them, as HTML.

Boxes are drawn as SVG in source pixels, so they stay sharp at any size.
"""

import base64
import io
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from PIL import Image

from locvlm.data.image import UnreadableImage, load_image
from locvlm.data.video import UnreadableVideo, middle_frame
from locvlm.geometry import Box, Size
from locvlm.io import resolve_inside

MAX_IMAGE_SIDE = 448  # px; larger photographs are scaled down for the page
COLORS = ("#2bdc83", "#5b97ff", "#ffb648", "#ff6f91", "#b48cff", "#35d0d6", "#e8e04a", "#ff8a4c")
_NO_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


def framed_photograph(
    root: Path, image: str, size: Size, boxes: Sequence[tuple[str, Box]], *, is_video: bool = False
) -> str:
    """A photograph of `size` (width, height) with boxes of the kinds true, said and asked over it.

    Of a video, it is the frame in its middle.
    """
    rects = "".join(f'<rect class="halo" {shape(b)}/><rect class="{kind}" {shape(b)}/>' for kind, b in boxes)
    return _figure(root, image, size, rects, is_video=is_video)


def coloured_photograph(
    root: Path, image: str, size: Size, boxes: Sequence[tuple[str, str, Box]], *, is_video: bool = False
) -> str:
    """A photograph of `size` (width, height) with boxes over it: (colour, what is in it, box).

    Of a video, it is the frame in its middle.
    """
    rects = "".join(
        f'<rect class="halo" {shape(b)}/>'
        f'<rect {shape(b)} stroke="{color}"><title>{escape(name)}</title></rect>'
        for color, name, b in boxes
    )
    return _figure(root, image, size, rects, is_video=is_video)


def shape(box: Box) -> str:
    """A box as the attributes of an SVG rectangle."""
    return f'x="{box.x1:.2f}" y="{box.y1:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"'


def data_uri(picture: Image.Image, *, max_side: int, quality: int) -> str:
    """The picture as a JPEG in a data URI, scaled down to at most `max_side` pixels."""
    picture = picture.copy()
    picture.thumbnail((max_side, max_side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _figure(root: Path, image: str, size: Size, rects: str, *, is_video: bool = False) -> str:
    width, height = size
    photograph = f'<img src="{_embed(root, image, size, is_video)}" alt="{escape(image)}">'
    if not rects:  # and so, perhaps, no size
        return f'<figure class="shot">{photograph}</figure>'
    return (
        f'<figure class="shot" style="aspect-ratio:{width}/{height}">{photograph}'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{rects}</svg>'
        "</figure>"
    )


@cache
def _embed(root: Path, image: str, size: Size, is_video: bool) -> str:
    """The photograph as a data URI; an empty picture where it cannot be read."""
    path = resolve_inside(root, image)
    try:
        picture = middle_frame(path) if is_video else load_image(path, size)
    except (UnreadableImage, UnreadableVideo):
        return _NO_PICTURE
    return data_uri(picture, max_side=MAX_IMAGE_SIDE, quality=92)
