"""Segments of many images as one COCO instances file, written piece by piece; and such files put together.

    image id = its place among all images, from 1; annotation id = 1000 image id + its place in the image

So the files of shards hold different ids, and putting them together is writing one after another.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from locvlm.building.segmenting.segment import Category, Segment, Segmented
from locvlm.io import atomic_writer

_IDS_PER_IMAGE = 1000
_DECIMALS = 2  # of pixels
_HEAD = '{"categories": '  # a file starts with it; one line each for the categories, an image, an annotation


class Found(NamedTuple):
    """An image with its segments."""

    place: int  # among all images, from 0
    name: str  # path relative to the image root
    answer: Segmented


def write_coco_file(
    path: Path,
    categories: Sequence[Category],
    found: Callable[[], Iterable[Found]],
    *,
    with_stuff: bool = False,
    min_area_px: float = 0.0,
) -> tuple[int, int]:
    """Write images and their objects, atomically; returns the number of each.

    Segments below `min_area_px` (of the mask, source pixels) are marked as crowds: they are not to be asked
    about, but must not count as absent either.

    Args:
        found: gives the images anew at each call; it is called twice.
    """
    ids = {c.label: k for k, c in enumerate(categories, start=1) if c.is_thing or with_stuff}

    def images() -> Iterator[dict[str, Any]]:
        for image in found():
            width, height = image.answer.size
            yield {"id": image.place + 1, "file_name": image.name, "width": width, "height": height}

    def annotations() -> Iterator[dict[str, Any]]:
        for image in found():
            segments = [s for s in image.answer.segments if s.category in ids]
            if len(segments) >= _IDS_PER_IMAGE:
                raise ValueError(
                    f"{image.name} has {len(segments)} segments, more than there are ids for one image"
                )
            for k, segment in enumerate(segments):
                annotation_id = (image.place + 1) * _IDS_PER_IMAGE + k
                yield {
                    "id": annotation_id,
                    "image_id": image.place + 1,
                    **_annotation(segment, ids, min_area_px),
                }

    names = [{"id": ids[c.label], "name": c.label} for c in categories if c.label in ids]
    with atomic_writer(path) as file:
        return _write(file, names, images(), annotations())


def _annotation(segment: Segment, ids: dict[str, int], min_area_px: float) -> dict[str, Any]:
    box = segment.box_px
    return {
        "category_id": ids[segment.category],
        "bbox": [round(v, _DECIMALS) for v in (box.x1, box.y1, box.width, box.height)],
        "area": round(segment.area_px, _DECIMALS),
        "iscrowd": int(segment.is_crowd or segment.area_px < min_area_px),
    }


def join_coco_files(path: Path, parts: Sequence[Path]) -> tuple[int, int]:
    """Write the images and annotations of all parts, in their order, as one file; returns the number of each.

    Lines are copied as they are, so memory does not grow with the files.

    Raises:
        ValueError: if a part was not written by `write_coco_file`, or has other categories than the first.
    """
    heads = [_head(part) for part in parts]
    for part, head in zip(parts, heads, strict=True):
        if head != heads[0]:
            raise ValueError(f"{part} has other categories than {parts[0]}; build the shards alike")

    def rows(section: str) -> Iterator[str]:
        return (row for part in parts for row in _read_rows(part, section))

    with atomic_writer(path) as file:
        file.write(heads[0])
        return _write_sections(file, rows("images"), rows("annotations"))


def _write(
    file: IO[str], categories: Any, images: Iterable[dict[str, Any]], annotations: Iterable[dict[str, Any]]
) -> tuple[int, int]:
    file.write(_HEAD + _to_line(categories) + ",\n")
    return _write_sections(file, map(_to_line, images), map(_to_line, annotations))


def _write_sections(file: IO[str], images: Iterable[str], annotations: Iterable[str]) -> tuple[int, int]:
    file.write('"images": [\n')
    num_images = _write_rows(file, images)
    file.write('],\n"annotations": [\n')
    num_annotations = _write_rows(file, annotations)
    file.write("]}\n")
    return num_images, num_annotations


def _write_rows(file: IO[str], rows: Iterable[str]) -> int:
    count = 0
    for count, row in enumerate(rows, start=1):
        file.write((",\n" if count > 1 else "") + row)
    file.write("\n" if count else "")
    return count


def _to_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _head(part: Path) -> str:
    with open(part, encoding="utf-8") as file:
        head = file.readline()
    if not head.startswith(_HEAD):
        raise ValueError(f"{part} was not written by pseudo_boxes; name the files that its shards gave")
    return head


def _read_rows(part: Path, section: str) -> Iterator[str]:
    """The rows of a section, as text, of a file that `_write` wrote."""
    with open(part, encoding="utf-8") as file:
        for line in file:
            if line == f'"{section}": [\n':
                break
        for line in file:
            if line.startswith("]"):
                return
            yield line.rstrip("\n").removesuffix(",")
