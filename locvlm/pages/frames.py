"""A page of photographs with their true boxes on the model canvas, one column per frame: does the geometry
hold?

The pixels are moved by the very steps, and the boxes by the very frames, that training and evaluation use.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from locvlm.data.image import UnreadableImage, apply_step, load_image
from locvlm.geometry import Box, Frame, FrameMode, frame_of, place_box, plan_steps
from locvlm.io import Ledger, resolve_inside
from locvlm.pages.photographs import COLORS, data_uri, shape
from locvlm.pages.shell import html_page
from locvlm.records import ImageAnnotation, ObjectAnnotation
from locvlm.spec import VisionSpec

MAX_SOURCE_SIDE = 480  # px; the photograph as it is, is scaled down for the page


def render_frames_page(
    images: Sequence[ImageAnnotation],
    root: Path,
    *,
    canvas: int,
    modes: Sequence[FrameMode],
    ledger: Ledger,
) -> str:
    """The page: per photograph a row, the photograph as it is and on the canvas of each mode.

    Images that cannot be read are counted in the ledger and named on the page.
    """
    rows = []
    for image in images:
        try:
            picture = load_image(resolve_inside(root, image.image), (image.width, image.height))
        except UnreadableImage as error:
            ledger.drop(image.image_id, "unreadable image", str(error))
            rows.append(f'<section><p class="empty">{escape(str(error))}</p></section>')
            continue
        rows.append(_row(picture, image, canvas=canvas, modes=modes))
    num_boxes = sum(len(image.objects) for image in images)
    return html_page(
        title="frames",
        headline="The same boxes in every frame.",
        lead=(
            f"{len(images)} photographs with {num_boxes:,} true boxes, as they are and on a canvas of "
            f"{canvas} × {canvas} pixels. Each box must lie on its object in every column. Dashed: a box of "
            f"which a "
            f"crop leaves less than half, and which is not asked about; of the others the visible part is."
        ),
        main="\n".join(rows),
    )


def _row(picture: Image.Image, image: ImageAnnotation, *, canvas: int, modes: Sequence[FrameMode]) -> str:
    source = frame_of((), picture.size)
    columns = [_column("as it is", picture, source, image.objects)]
    fill = tuple(int(mean * 255) for mean in VisionSpec(canvas=canvas, patch=canvas).image_mean)
    for mode in modes:
        steps = plan_steps(mode, picture.size, canvas)
        shown = picture
        for step in steps:
            shown = apply_step(shown, step, fill)
        columns.append(_column(mode, shown, frame_of(steps, picture.size), image.objects))
    names = "".join(
        f'<span style="color:{COLORS[i % len(COLORS)]}">{escape(thing.category)}</span>'
        for i, thing in enumerate(image.objects)
    )
    return (
        f'<section class="frames"><h3>{escape(image.image)} <span>{image.width} × {image.height}</span></h3>'
        f'<div class="four">{"".join(columns)}</div><p class="names">{names}</p></section>'
    )


def _column(title: str, shown: Image.Image, frame: Frame, objects: Sequence[ObjectAnnotation]) -> str:
    rects = "".join(_rect(frame, thing, COLORS[i % len(COLORS)]) for i, thing in enumerate(objects))
    width, height = shown.size
    picture = data_uri(shown, max_side=MAX_SOURCE_SIDE, quality=85)
    return (
        f'<figure><div class="shot" style="aspect-ratio:{width}/{height}"><img src="{picture}" '
        f'alt="">'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        f'aria-hidden="true">{rects}</svg></div>'
        f"<figcaption>{title}</figcaption></figure>"
    )


def _rect(frame: Frame, thing: ObjectAnnotation, color: str) -> str:
    placed = place_box(frame, thing.box_px)
    kept = isinstance(placed, Box)
    box = frame.to_canvas(placed if isinstance(placed, Box) else thing.box_px)
    dash = "" if kept and not thing.is_crowd else ' stroke-dasharray="5 5"'
    title = f"<title>{escape(thing.category)}{' (crowd)' if thing.is_crowd else ''}</title>"
    return f'<rect class="halo" {shape(box)}/><rect {shape(box)} stroke="{color}"{dash}>{title}</rect>'
