"""COCO instances and captions (2014 and 2017 names, and any file of that form) -> ImageAnnotation.

A file that contradicts itself (an annotation of an image or category that is not there, an id twice, a
missing field) stops the program. A single unusable box or caption is dropped and counted in the ledger.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locvlm.geometry import Box, intersection
from locvlm.io import Ledger, read_json
from locvlm.records import ImageAnnotation, ObjectAnnotation

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


def read_instances(
    path: str | Path, ledger: Ledger, *, repairs: Counter[str] | None = None
) -> Iterator[ImageAnnotation]:
    """`read_coco` of an instances file alone."""
    return read_coco(instances=path, ledger=ledger, repairs=repairs)


def read_captions(path: str | Path, ledger: Ledger) -> Iterator[ImageAnnotation]:
    """`read_coco` of a captions file alone."""
    return read_coco(captions=path, ledger=ledger)


def read_coco(
    *,
    instances: str | Path | None = None,
    captions: str | Path | None = None,
    ledger: Ledger,
    repairs: Counter[str] | None = None,
) -> Iterator[ImageAnnotation]:
    """Every image of the files, in their order, with its objects and captions; merged by image id.

    Images without any annotation come too. The ledger counts annotations: kept, or dropped because the
    box has no area or is no box, lies outside the image, or the caption is empty. Boxes are clipped to
    the image; `repairs` counts those that reached over its border by more than a pixel.

    Raises:
        ValueError: naming file and entry, for another kind of file, a missing or malformed field, an id
            twice, an unknown image or category id, or files that disagree about an image.
    """
    if instances is None and captions is None:
        raise ValueError("read_coco needs an instances file, a captions file or both, got neither")
    images: dict[int, _Image] = {}
    if instances is not None:
        _add_instances(images, Path(instances), ledger, Counter() if repairs is None else repairs)
    if captions is not None:
        _add_captions(images, Path(captions), ledger)
    for image_id, image in images.items():
        yield ImageAnnotation(
            image_id=str(image_id),
            image=image.file_name,
            width=image.width,
            height=image.height,
            objects=tuple(image.objects),
            captions=tuple(image.captions),
        )


def _add_instances(images: dict[int, _Image], path: Path, ledger: Ledger, repairs: Counter[str]) -> None:
    data = _load(path, ("images", "annotations", "categories"))
    here = _add_images(images, data["images"], path)
    categories: dict[int, str] = {}
    for where, entry in _entries(data["categories"], path, "categories"):
        name = _field(entry, "name", str, where)
        _add_new(categories, _field(entry, "id", int, where), name, where)
    for where, entry in _annotations(data["annotations"], here, path, "bbox", "an instances file"):
        category_id = _field(entry, "category_id", int, where)
        if category_id not in categories:
            raise ValueError(f"{where}: category_id {category_id} is not among the categories of the file")
        image = here[entry["image_id"]]
        box = _read_box(entry["bbox"], image, ledger, repairs, where)
        if box is None:
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


def _add_captions(images: dict[int, _Image], path: Path, ledger: Ledger) -> None:
    data = _load(path, ("images", "annotations"))
    here = _add_images(images, data["images"], path)
    for where, entry in _annotations(data["annotations"], here, path, "caption", "a captions file"):
        caption = " ".join(_field(entry, "caption", str, where).split())
        if caption:
            ledger.keep()
            here[entry["image_id"]].captions.append(caption)
        else:
            ledger.drop(entry["id"], "empty caption")


def _load(path: Path, sections: tuple[str, ...]) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a COCO file, one JSON object, got {type(data).__name__}")
    for section in sections:
        if not isinstance(data.get(section), list):
            raise ValueError(
                f"{path}: expected a COCO file with a list of {section!r}, "
                f"it has {', '.join(data) or 'nothing'}"
            )
    return data


def _add_images(images: dict[int, _Image], entries: list[Any], path: Path) -> dict[int, _Image]:
    """The images of this file by id, put into `images` where they are new."""
    here: dict[int, _Image] = {}
    for where, entry in _entries(entries, path, "images"):
        image = _Image(
            file_name=_field(entry, "file_name", str, where),
            width=_side(entry, "width", where),
            height=_side(entry, "height", where),
        )
        image_id = _field(entry, "id", int, where)
        known = images.get(image_id, image)
        got, expected = ((i.file_name, i.width, i.height) for i in (image, known))
        if got != expected:
            raise ValueError(f"{where}: image {image_id} is {got} here and {expected} in the other file")
        _add_new(here, image_id, known, where)
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
    value = entry.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or value != int(value) or value <= 0:
        raise ValueError(f"{where}: {name!r} must be a whole number of pixels above 0, got {value!r}")
    return int(value)


def _add_new(known: dict[int, Any], new_id: int, value: Any, where: str) -> None:
    if new_id in known:
        raise ValueError(f"{where}: the id {new_id} is there twice")
    known[new_id] = value


def _read_box(bbox: Any, image: _Image, ledger: Ledger, repairs: Counter[str], where: str) -> Box | None:
    """The box within its image, in source pixels; None, counted, if nothing usable is there."""
    is_box = isinstance(bbox, list) and len(bbox) == 4
    if not is_box or not all(isinstance(v, int | float) and math.isfinite(v) for v in bbox):
        ledger.drop(where, "bbox is not four finite numbers", f"{bbox}")
        return None
    box = Box.from_xywh(*bbox)
    if box.width <= 0 or box.height <= 0:
        ledger.drop(where, "box without area", f"{bbox}")
        return None
    inside = intersection(box, Box(0, 0, image.width, image.height))
    if inside is None:
        ledger.drop(where, "box outside the image", f"{bbox} of {image.width} x {image.height}")
        return None
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > _ROUNDING_PX:
        repairs[CLIPPED] += 1
    return inside
