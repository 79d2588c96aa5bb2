"""A video as a strip of its frames, with boxes over each, as HTML."""

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

from locvlm.data.video import UnreadableVideo, probe_video, read_frames, uniform_indices
from locvlm.geometry import Box
from locvlm.io import resolve_inside
from locvlm.pages.photographs import data_uri, shape

MAX_FRAME_SIDE = 224  # px; larger frames are scaled down for the page


def film_strip(root: Path, video: str, num_frames: int, boxes: Sequence[tuple[str, Box]]) -> str:
    """Uniformly spaced frames side by side, with boxes of the kinds true, said and asked over all of them.

    Boxes are in source pixels of the upright frame. A video that cannot be read leaves its name.
    """
    try:
        (width, height), pictures = _pictures(root, video, num_frames)
    except UnreadableVideo as error:
        return f'<p class="empty">{escape(str(error))}</p>'
    rects = "".join(f'<rect class="halo" {shape(b)}/><rect class="{kind}" {shape(b)}/>' for kind, b in boxes)
    drawn = (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{rects}</svg>'
        if rects
        else ""
    )
    shots = "".join(
        f'<figure class="shot" style="aspect-ratio:{width}/{height}"><img src="{picture}" alt="frame {index} '
        f'of {escape(video)}">{drawn}</figure>'
        for index, picture in pictures
    )
    return f'<div class="strip">{shots}</div>'


@cache
def _pictures(root: Path, video: str, num_frames: int) -> tuple[tuple[int, int], list[tuple[int, str]]]:
    """(width, height) of the video, and (number, data URI) of each frame."""
    path = resolve_inside(root, video)
    info = probe_video(path)
    frames = read_frames(path, uniform_indices(info, num_frames), info=info)
    return info.size, [(f.index, data_uri(f.image, max_side=MAX_FRAME_SIDE, quality=88)) for f in frames]
