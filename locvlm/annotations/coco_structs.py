"""COCO files decoded without what nobody asks for: no polygons, no addresses, no licences.

With them, a file of COCO's size takes 2.5 times as long and 3.5 times the memory (benchmarks/results).
Nothing is explained here: for a file that is in any way not as it should be there is no answer, and the plain
reader of `locvlm.annotations.coco` says what is wrong with it.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

File = TypeVar("File")


class Image(msgspec.Struct, gc=False):
    """An entry of "images"."""

    id: int
    file_name: str
    width: int | float
    height: int | float


class Category(msgspec.Struct, gc=False):
    """An entry of "categories"."""

    id: int
    name: str


class Instance(msgspec.Struct, gc=False):
    """An annotation of an instances file; `bbox` is whatever stands there, mostly [x, y, width, height]."""

    id: int
    image_id: int
    category_id: int
    bbox: Any
    iscrowd: Any = 0


class Caption(msgspec.Struct, gc=False):
    """An annotation of a captions file."""

    id: int
    image_id: int
    caption: str


class InstancesFile(msgspec.Struct):
    """What is read of an instances file."""

    images: list[Image]
    annotations: list[Instance]
    categories: list[Category]


class CaptionsFile(msgspec.Struct):
    """What is read of a captions file."""

    images: list[Image]
    annotations: list[Caption]


def decode_instances(path: Path) -> InstancesFile | None:
    """The file, if it is as it should be: ids unique, images and categories of annotations there."""
    file = _decode(path, InstancesFile)
    if file is None or not _are_ids_new(file.categories) or not _fits(file.images, file.annotations):
        return None
    known = {category.id for category in file.categories}
    return file if known.issuperset({entry.category_id for entry in file.annotations}) else None


def decode_captions(path: Path) -> CaptionsFile | None:
    """The file, if it is as it should be: ids unique, images of annotations there."""
    file = _decode(path, CaptionsFile)
    return file if file is not None and _fits(file.images, file.annotations) else None


def _decode(path: Path, kind: type[File]) -> File | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # NaN, a field of another type, not JSON at all
        return None


def _fits(images: Sequence[Image], annotations: Sequence[Instance] | Sequence[Caption]) -> bool:
    is_whole = all(side > 0 and side == int(side) for image in images for side in (image.width, image.height))
    known = {image.id for image in images}
    return (
        is_whole
        and len(known) == len(images)
        and _are_ids_new(annotations)
        and known.issuperset({entry.image_id for entry in annotations})
    )


def _are_ids_new(entries: Collection[Any]) -> bool:
    return len({entry.id for entry in entries}) == len(entries)
