"""COCO instances and captions (2014 and 2017 names, and any file of that form) -> ImageAnnotation.

A file that contradicts itself (an annotation of an image or category that is not there, an id twice, a
missing field) stops the program. A single unusable box or caption is dropped and counted in the ledger.

Files are decoded without their polygons (`locvlm.annotations.coco_structs`). A file that this refuses is
read again as plain JSON, which takes more time and memory and says what is wrong with which entry, or finds
that it can be read: NaN and Infinity are no JSON, but as part of a box they are a box to drop.
"""

import gc
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locvlm.annotations.coco_structs import CaptionsFile, InstancesFile, decode_captions, decode_instances
from locvlm.annotations.coco_structs import Image as ImageEntry
from locvlm.geometry import Box, Size, intersection
from locvlm.io import Ledger, read_json
from locvlm.records import ImageAnnotation, ObjectAnnotation

logger = logging.getLogger(__name__)
CLIPPED = "box clipped to the image"
_ROUNDING_PX = 1.0  # published boxes reach over the border by rounding; only more than this is worth a count


@dataclass(slots=True)
class _Image:
    """An entry of "images" with what the annotations add to it."""

    file_name: str
    width: int
    height: int
    objects: list[ObjectAnnotation] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)


def read_instances(
    path: str | Path, ledger: Ledger, *, repairs: Counter[str] | None = None, fast: bool = True
) -> Iterator[ImageAnnotation]:
    """`read_coco` of an instances file alone."""
    return read_coco(instances=path, ledger=ledger, repairs=repairs, fast=fast)


def read_captions(path: str | Path, ledger: Ledger) -> Iterator[ImageAnnotation]:
    """`read_coco` of a captions file alone."""
    return read_coco(captions=path, ledger=ledger)


def read_coco(
    *,
    instances: str | Path | None = None,
    captions: str | Path | None = None,
    ledger: Ledger,
    repairs: Counter[str] | None = None,
    fast: bool = True,
) -> Iterator[ImageAnnotation]:
    """Every image of the files, in their order, with its objects and captions; merged by image id.

    Images without any annotation come too. The ledger counts annotations: kept, or dropped because the
    box has no area or is no box, lies outside the image, or the caption is empty. Boxes are clipped to
    the image; `repairs` counts those that reached over its border by more than a pixel. Classes of dropped
    boxes stand in `unplaced`: they are no longer asked about, but are not absent. `fast=False` reads as plain
    JSON from the start, to the same result.

    Raises:
        ValueError: naming file and entry, for another kind of file, a missing or malformed field, an id
            twice, an unknown image or category id, or files that disagree about an image.
    """
    if instances is None and captions is None:
        raise ValueError("read_coco needs an instances file, a captions file or both, got neither")
    images: dict[int, _Image] = {}
    repairs = Counter() if repairs is None else repairs
    with _without_cycle_search():
        if instances is not None:
            _add_instances(images, Path(instances), ledger, repairs, fast=fast)
        if captions is not None:
            _add_captions(images, Path(captions), ledger, fast=fast)
    for image_id, image in images.items():
        yield ImageAnnotation(
            image_id=str(image_id),
            image=image.file_name,
            width=image.width,
            height=image.height,
            objects=tuple(image.objects),
            captions=tuple(image.captions),
            unplaced=tuple(image.unplaced),
        )


# ---- both ways of reading


@contextmanager
def _without_cycle_search() -> Iterator[None]:
    """No search for reference cycles: among millions of new objects without any it takes half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _add_instances(
    images: dict[int, _Image], path: Path, ledger: Ledger, repairs: Counter[str], *, fast: bool
) -> None:
    if not fast:
        _add_plain_instances(images, path, ledger, repairs)
    elif file := decode_instances(path):
        _add_decoded_instances(images, file, path, ledger, repairs)
    else:
        logger.info("%s: not all of it is as it should be, so it is read entry by entry", path)
        _add_plain_instances(images, path, ledger, repairs)


def _add_captions(images: dict[int, _Image], path: Path, ledger: Ledger, *, fast: bool) -> None:
    file = decode_captions(path) if fast else None
    if file is None:
        _add_plain_captions(images, path, ledger)
    else:
        _add_decoded_captions(images, file, path, ledger)


def _add_image(
    images: Mapping[int, _Image], here: dict[int, _Image], image_id: int, image: _Image, where: str
) -> None:
    """Put an image into those of this file, as the one that another file began, if it is there."""
    known = images.get(image_id, image)
    got, expected = ((i.file_name, i.width, i.height) for i in (image, known))
    if got != expected:
        raise ValueError(f"{where}: image {image_id} is {got} here and {expected} in the other file")
    _add_new(here, image_id, known, where)


def _add_caption(image: _Image, caption: str, annotation_id: int, ledger: Ledger) -> None:
    if text := " ".join(caption.split()):
        ledger.keep()
        image.captions.append(text)
    else:
        ledger.drop(str(annotation_id), "empty caption")


def read_box(bbox: Any, size: Size, ledger: Ledger, repairs: Counter[str], where: str) -> Box | None:
    """The box of an xywh within an image of `size`, in source pixels; None, counted, if it is not usable."""
    is_box = isinstance(bbox, list) and len(bbox) == 4
    if not is_box or not all(isinstance(v, int | float) and math.isfinite(v) for v in bbox):
        ledger.drop(where, "bbox is not four finite numbers", f"{bbox}")
        return None
    box = Box.from_xywh(*bbox)
    if box.width <= 0 or box.height <= 0:
        ledger.drop(where, "box without area", f"{bbox}")
        return None
    inside = intersection(box, Box(0, 0, *size))
    if inside is None:
        ledger.drop(where, "box outside the image", f"{bbox} of {size[0]} x {size[1]}")
        return None
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > _ROUNDING_PX:
        repairs[CLIPPED] += 1
    return inside


# ---- decoded without polygons: what is left to look at are boxes


def _add_decoded_instances(
    images: dict[int, _Image], file: InstancesFile, path: Path, ledger: Ledger, repairs: Counter[str]
) -> None:
    here = _add_decoded_images(images, file.images, path)
    categories = {category.id: category.name for category in file.categories}
    for index, entry in enumerate(file.annotations):
        image = here[entry.image_id]
        box = _box_inside(entry.bbox, image)
        if box is None:
            where = f"{path}: annotations[{index}]"
            box = read_box(entry.bbox, (image.width, image.height), ledger, repairs, where)
            if box is None:
                image.unplaced.append(categories[entry.category_id])
                continue
        ledger.keep()
        image.objects.append(
            ObjectAnnotation(
                category=categories[entry.category_id],
                box_px=box,
                is_crowd=bool(entry.iscrowd),
                annotation_id=str(entry.id),
            )
        )


def _add_decoded_captions(images: dict[int, _Image], file: CaptionsFile, path: Path, ledger: Ledger) -> None:
    here = _add_decoded_images(images, file.images, path)
    for entry in file.annotations:
        _add_caption(here[entry.image_id], entry.caption, entry.id, ledger)


def _add_decoded_images(
    images: dict[int, _Image], entries: Iterable[ImageEntry], path: Path
) -> dict[int, _Image]:
    here: dict[int, _Image] = {}
    for index, entry in enumerate(entries):
        image = _Image(file_name=entry.file_name, width=int(entry.width), height=int(entry.height))
        _add_image(images, here, entry.id, image, f"{path}: images[{index}]")
    images.update(here)
    return here


def _box_inside(bbox: Any, image: _Image) -> Box | None:
    """What `read_box` gives for a box that lies within its image, as most do; None for others."""
    if type(bbox) is not list or len(bbox) != 4:
        return None
    x, y, width, height = bbox
    if not all(type(v) is float or type(v) is int for v in (x, y, width, height)):
        return None
    box = Box(x, y, x + width, y + height)
    is_inside = 0 <= x < box.x2 <= image.width and 0 <= y < box.y2 <= image.height
    return box if is_inside else None


# ---- plain JSON: every entry is looked at, and what is wrong with it is said


def _add_plain_instances(
    images: dict[int, _Image], path: Path, ledger: Ledger, repairs: Counter[str]
) -> None:
    data = _load(path, ("images", "annotations", "categories"))
    here = _add_plain_images(images, data["images"], path)
    categories: dict[int, str] = {}
    for where, entry in _entries(data["categories"], path, "categories"):
        name = _field(entry, "name", str, where)
        _add_new(categories, _field(entry, "id", int, where), name, where)
    for where, entry in _annotations(data["annotations"], here, path, "bbox", "an instances file"):
        category_id = _field(entry, "category_id", int, where)
        if category_id not in categories:
            raise ValueError(f"{where}: category_id {category_id} is not among the categories of the file")
        image = here[entry["image_id"]]
        box = read_box(entry["bbox"], (image.width, image.height), ledger, repairs, where)
        if box is None:
            image.unplaced.append(categories[category_id])
            continue
        ledger.keep()
        image.objects.append(
            ObjectAnnotation(
                category=categories[category_id],
                box_px=box,
                is_crowd=bool(entry.get("iscrowd", 0)),
                annotation_id=str(entry["id"]),
            )
        )


def _add_plain_captions(images: dict[int, _Image], path: Path, ledger: Ledger) -> None:
    data = _load(path, ("images", "annotations"))
    here = _add_plain_images(images, data["images"], path)
    for where, entry in _annotations(data["annotations"], here, path, "caption", "a captions file"):
        caption = _field(entry, "caption", str, where)
        _add_caption(here[entry["image_id"]], caption, entry["id"], ledger)


def _load(path: Path, sections: tuple[str, ...]) -> dict[str, Any]:
    data = read_json(path, allow_nan=True)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a COCO file, one JSON object, got {type(data).__name__}")
    for section in sections:
        if not isinstance(data.get(section), list):
            raise ValueError(
                f"{path}: expected a COCO file with a list of {section!r}, "
                f"it has {', '.join(data) or 'nothing'}"
            )
    return data


def _add_plain_images(images: dict[int, _Image], entries: list[Any], path: Path) -> dict[int, _Image]:
    """The images of this file by id, put into `images` where they are new."""
    here: dict[int, _Image] = {}
    for where, entry in _entries(entries, path, "images"):
        image = _Image(
            file_name=_field(entry, "file_name", str, where),
            width=_side(entry, "width", where),
            height=_side(entry, "height", where),
        )
        _add_image(images, here, _field(entry, "id", int, where), image, where)
    images.update(here)
    return here


def _annotations(
    entries: list[Any], here: dict[int, _Image], path: Path, needed: str, kind: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, entry) of every annotation, its ids checked and `needed` present."""
    seen: dict[int, None] = {}
    for where, entry in _entries(entries, path, "annotations"):
        if needed not in entry:
            raise ValueError(
                f"{where}: no {needed!r}; expected {kind}, got one with the fields {', '.join(entry)}"
            )
        _add_new(seen, _field(entry, "id", int, where), None, where)
        if _field(entry, "image_id", int, where) not in here:
            raise ValueError(f"{where}: image_id {entry['image_id']} is not among the images of the file")
        yield where, entry


def _entries(entries: Iterable[Any], path: Path, section: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, entry in enumerate(entries):
        where = f"{path}: {section}[{index}]"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: expected an object, got {entry!r}")
        yield where, entry


def _field(entry: dict[str, Any], name: str, kind: type, where: str) -> Any:
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{where}: {name!r} must be {kind.__name__}, got {value!r}")
    return value


def _side(entry: dict[str, Any], name: str, where: str) -> int:
    value: Any = entry.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value != int(value) or value <= 0:
        raise ValueError(f"{where}: {name!r} must be a whole number of pixels above 0, got {value!r}")
    return int(value)


def _add_new(known: dict[int, Any], new_id: int, value: Any, where: str) -> None:
    if new_id in known:
        raise ValueError(f"{where}: the id {new_id} is there twice")
    known[new_id] = value
