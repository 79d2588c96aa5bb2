"""The forms in which RefCOCO, RefCOCO+ and RefCOCOg go round -> Referent. The content tells the form.

refs   UNC's list of refs, as the published pickle (`refs(unc).p`, `refs(umd).p`, `refs(google).p`) or as
       JSON. Boxes and image sizes are in the `instances.json` beside it.
mdetr  MDETR's JSON (`finetune_refcocog_train.json`): COCO's sections, an image entry per expression, its text
       under "caption". One file per split.
rows   a list with a row per expression: img_id, sents, bbox, width, height. One file per split.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from locvlm.annotations.refcoco_pickle import read_plain_pickle
from locvlm.geometry import Size
from locvlm.io import read_json

_EXPECTED = (
    "UNC's refs (refs(unc).p, or the same list as JSON: ann_id, image_id, split, sentences), MDETR's "
    'JSON (finetune_refcoco_train.json: images with a "caption", annotations, categories), or a list of rows '
    "(img_id, sents, bbox, width, height)"
)
# COCO_train2014_000000581857_16: the image's name, which ends in its id, and a number for the object
_ROW_NAME = re.compile(r"(?P<image>(?:.+_)?(?P<id>\d+))_\d+")
_Shape = TypeVar("_Shape")


@dataclass(frozen=True, kw_only=True, slots=True)
class Referent:
    """An object and what it is called, as the file says it: nothing is checked yet but the types."""

    where: str  # file and entry, for messages
    image_id: str  # COCO's, without leading zeros
    image: str  # file name; "" where the file does not tell
    size: Size | None  # (width, height) in source pixels; None where the file does not tell
    annotation_id: str  # COCO's, or the name of the row where the file does not tell
    is_coco_id: bool  # which of the two it is
    bbox: Any  # COCO's xywh in source pixels, if it is one; None in UNC's refs
    category: str  # "" where the file does not tell
    split: str  # "" where the file does not tell
    sentences: tuple[str, ...]


def load_referents(path: str | Path) -> list[Referent]:
    """The referents of a file in its order, each once, with all its sentences.

    Raises:
        ValueError: for a file of another form (saying what was found and what is expected), a damaged one, a
            field that is missing or of the wrong type, or a pickle that holds more than plain data.
    """
    path = Path(path)
    data = _load(path)
    if isinstance(data, dict):
        referents = _from_mdetr(_mdetr_sections(data, path), path)
    else:
        referents = _form_of_list(data, path)(data, path)
    return list(_merge(referents))


def _load(path: Path) -> Any:
    with open(path, "rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    # no pickle begins with one of these
    return read_json(path, allow_nan=True) if start[:1] in (b"[", b"{") else read_plain_pickle(path)


def _form_of_list(data: Any, path: Path) -> Callable[[Any, Path], Iterator[Referent]]:
    if not isinstance(data, list):
        raise ValueError(f"{path}: expected {_EXPECTED}; found {type(data).__name__}")
    fields = set(data[0]) if data and isinstance(data[0], dict) else set()
    if {"ann_id", "sentences"} <= fields:
        return _from_refs
    if {"img_id", "sents"} <= fields:
        return _from_rows
    found = f"entries with the fields {', '.join(sorted(map(str, fields)))}" if fields else "no entries"
    raise ValueError(f"{path}: expected {_EXPECTED}; found a list of {found}")


def _merge(referents: Iterable[Referent]) -> Iterator[Referent]:
    """One referent for all of the same object in the same split, sentences in their order."""
    merged: dict[tuple[object, ...], list[Referent]] = {}
    for item in referents:
        key = (item.split, item.image_id, item.size, item.annotation_id, str(item.bbox))
        merged.setdefault(key, []).append(item)
    for same in merged.values():
        if len(same) == 1:
            yield same[0]
        else:
            yield replace(same[0], sentences=tuple(text for item in same for text in item.sentences))


# ---- UNC's refs


class _Sentence(msgspec.Struct):
    sent: str


class _Ref(msgspec.Struct):
    # the file name here has a number put in; the real one is in instances.json
    ann_id: int
    image_id: int
    split: str
    sentences: list[_Sentence]


def _from_refs(data: Any, path: Path) -> Iterator[Referent]:
    for index, ref in enumerate(_convert(data, list[_Ref], path)):
        yield Referent(
            where=f"{path}: refs[{index}]",
            image_id=str(ref.image_id),
            image="",
            size=None,
            annotation_id=str(ref.ann_id),
            is_coco_id=True,
            bbox=None,
            category="",
            split=ref.split,
            sentences=tuple(sentence.sent for sentence in ref.sentences),
        )


# ---- MDETR's JSON


class _MdetrImage(msgspec.Struct):
    id: int
    file_name: str
    caption: str
    original_id: int  # COCO's; `id` counts the expressions
    width: int | None = None
    height: int | None = None


class _MdetrAnnotation(msgspec.Struct):
    image_id: int
    category_id: int
    original_id: int  # COCO's
    bbox: Any


class _Category(msgspec.Struct):
    id: int
    name: str


class _Mdetr(msgspec.Struct):
    images: list[_MdetrImage]
    annotations: list[_MdetrAnnotation]
    categories: list[_Category]


def _mdetr_sections(data: dict[str, Any], path: Path) -> _Mdetr:
    images = data.get("images")
    first = images[0] if isinstance(images, list) and images and isinstance(images[0], dict) else {}
    if "caption" not in first:
        sections = ", ".join(map(str, data)) or "nothing"
        about = f", and images with the fields {', '.join(map(str, first))}" if first else ""
        raise ValueError(f"{path}: expected {_EXPECTED}; found an object that holds {sections}{about}")
    return _convert(data, _Mdetr, path)


def _from_mdetr(data: _Mdetr, path: Path) -> Iterator[Referent]:
    names = {category.id: category.name for category in data.categories}
    annotation_of: dict[int, tuple[int, _MdetrAnnotation]] = {}
    for index, annotation in enumerate(data.annotations):
        where = f"{path}: annotations[{index}]"
        if annotation.category_id not in names:
            raise ValueError(
                f"{where}: category_id {annotation.category_id} is not among the categories of the file"
            )
        if annotation.image_id in annotation_of:
            raise ValueError(
                f"{where}: image entry {annotation.image_id} has a second annotation; expected one, the "
                f"object that its caption refers to, as in finetune_refcoco_*.json"
            )
        annotation_of[annotation.image_id] = (index, annotation)
    for index, image in enumerate(data.images):
        if image.id not in annotation_of:
            raise ValueError(f"{path}: images[{index}]: no annotation has its id {image.id}")
        place, annotation = annotation_of.pop(image.id)
        yield Referent(
            where=f"{path}: annotations[{place}]",
            image_id=str(image.original_id),
            image=image.file_name,
            size=_size(image.width, image.height),
            annotation_id=str(annotation.original_id),
            is_coco_id=True,
            bbox=annotation.bbox,
            category=names[annotation.category_id],
            split="",
            sentences=(image.caption,),
        )
    if annotation_of:
        left = next(iter(annotation_of))
        raise ValueError(f"{path}: image_id {left} of an annotation is not among the images of the file")


# ---- rows


class _Row(msgspec.Struct):
    img_id: str
    sents: str | list[str]
    bbox: Any
    width: int | None = None
    height: int | None = None


def _from_rows(data: Any, path: Path) -> Iterator[Referent]:
    for index, row in enumerate(_convert(data, list[_Row], path)):
        where = f"{path}: row {index}"
        name = _ROW_NAME.fullmatch(row.img_id)
        if name is None:
            raise ValueError(
                f"{where}: img_id must be the name of an image and a number for the object, such as "
                f"COCO_train2014_000000581857_16, got {row.img_id!r}"
            )
        yield Referent(
            where=where,
            image_id=str(int(name["id"])),
            image=f"{name['image']}.jpg",
            size=_size(row.width, row.height),
            annotation_id=row.img_id,  # its number is COCO's in RefCOCOg only
            is_coco_id=False,
            bbox=row.bbox,
            category="",
            split="",
            sentences=(row.sents,) if isinstance(row.sents, str) else tuple(row.sents),
        )


def _size(width: int | None, height: int | None) -> Size | None:
    return None if width is None or height is None else (width, height)


def _convert(data: Any, shape: type[_Shape], path: Path) -> _Shape:
    try:
        return msgspec.convert(data, shape)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path}: {error}; repair that entry, or download the file again") from error
