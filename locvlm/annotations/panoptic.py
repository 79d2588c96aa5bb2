"""COCO panoptic files: a JSON that lists segments, and a PNG per image whose colours say where they are.

    id of a pixel's segment = R + 256 G + 65536 B, 0 where there is none

A JSON that contradicts itself (a segment of a category that is not there, an id twice, a missing field) stops
the program. Where its PNGs say otherwise, the caller counts it: they hold the pixels, so they win.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from locvlm.geometry import Box

_NOT_SPOKEN = ("-other-merged", "-merged", "-other", "-stuff")  # COCO's endings of names of stuff


class PanopticCategory(msgspec.Struct, frozen=True, gc=False):
    """An entry of "categories"; ids may have gaps."""

    id: int
    name: str
    isthing: int | bool


class SegmentInfo(msgspec.Struct, frozen=True, gc=False):
    """An entry of "segments_info". Area and bbox (x, y, width, height) are in pixels of the PNG."""

    id: int
    category_id: int
    iscrowd: int | bool = 0
    area: float | None = None
    bbox: tuple[float, float, float, float] | None = None


class _Image(msgspec.Struct, gc=False):
    id: int | str
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    file_name: str
    segments_info: list[SegmentInfo]


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[PanopticCategory]


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticImage:
    """An image and its segments, as the JSON lists them."""

    image: str  # path relative to the image root
    width: int  # source pixels; the PNG may be smaller or larger
    height: int
    png: str | None  # path relative to the folder of PNGs; None for an image that has no annotation
    segments: tuple[SegmentInfo, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticFile:
    """What a panoptic JSON holds."""

    categories: dict[int, PanopticCategory]
    images: tuple[PanopticImage, ...]


class Extent(NamedTuple):
    """Where a segment lies, in pixels of its PNG."""

    area: int
    box: Box


class UnreadableMap(ValueError):
    """A PNG of segments that is missing, broken, or of another kind."""


def read_panoptic(path: str | Path) -> PanopticFile:
    """The categories and images of a panoptic JSON.

    Raises:
        ValueError: naming file and entry, for another kind of file, a missing or malformed field, an id
            twice, or an annotation of an unknown image or category.
    """
    try:
        file = msgspec.json.decode(Path(path).read_bytes(), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected a COCO panoptic file, with images, annotations that have segments_info, and "
            f"categories that have isthing: {error}"
        ) from error
    _require_new((category.id for category in file.categories), f"{path}: the category")
    _require_new((image.id for image in file.images), f"{path}: the image")
    _require_new((entry.image_id for entry in file.annotations), f"{path}: the annotation of image")
    categories = {category.id: category for category in file.categories}
    annotations = {entry.image_id: entry for entry in file.annotations}
    if unknown := annotations.keys() - {image.id for image in file.images}:
        raise ValueError(
            f"{path}: image {min(unknown, key=str)!r} has an annotation and is not in its images"
        )
    for entry in file.annotations:
        _require_known_segments(entry, categories, path)
    return PanopticFile(categories=categories, images=tuple(_join(i, annotations) for i in file.images))


def read_id_map(path: str | Path) -> NDArray[np.uint32]:
    """The segment id of every pixel, (H, W), of a panoptic PNG.

    Raises:
        UnreadableMap: missing or broken file, or one that is not 8-bit RGB.
    """
    try:
        with Image.open(path) as image:
            if image.mode != "RGB":
                raise UnreadableMap(
                    f"{path}: expected a panoptic PNG, whose ids are R + 256 G + 65536 B, got an image of "
                    f"mode {image.mode}; is it a map of classes?"
                )
            red, green, blue = np.moveaxis(np.asarray(image).astype(np.uint32), -1, 0)  # (H, W) each
    except FileNotFoundError:
        raise UnreadableMap(f"{path}: no such PNG; check the folder of PNGs") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableMap(f"{path}: cannot be read as a PNG ({error}); fetch it again") from error
    ids: NDArray[np.uint32] = red + np.uint32(256) * green + np.uint32(65536) * blue
    return ids


def measure_segments(id_map: NDArray[np.uint32]) -> dict[int, Extent]:
    """Id -> area and box of every id in a map (H, W), 0 left out.

    Rows are cut into runs of one id first: there are a hundred times fewer runs than pixels.
    """
    width = id_map.shape[1]
    is_start = np.ones(id_map.shape, dtype=bool)
    is_start[:, 1:] = id_map[:, 1:] != id_map[:, :-1]
    starts = np.flatnonzero(is_start)
    lengths = np.diff(starts, append=id_map.size)
    ids, run_of = np.unique(id_map.ravel()[starts], return_inverse=True)
    y, x1 = np.divmod(starts, width)
    areas = np.bincount(run_of, weights=lengths)
    corners = np.empty((len(ids), 4), dtype=np.int64)
    corners[:, :2], corners[:, 2:] = id_map.size, 0
    for column, values in enumerate((x1, y)):
        np.minimum.at(corners[:, column], run_of, values)
    for column, values in enumerate((x1 + lengths, y + 1), start=2):
        np.maximum.at(corners[:, column], run_of, values)
    return {
        segment_id: Extent(int(area), Box(*map(float, corner)))
        for segment_id, area, corner in zip(ids.tolist(), areas.tolist(), corners.tolist(), strict=True)
        if segment_id != 0
    }


def class_labels(names: Iterable[str]) -> dict[str, str]:
    """Category name -> what to call it in speech: "sky-other-merged" -> "sky", "wall-wood" -> "wall wood".

    Names that would become alike stay as they are.
    """
    labels = {name: _spoken(name) for name in names}
    times = Counter(labels.values())
    return {name: label if times[label] == 1 else name for name, label in labels.items()}


def _spoken(name: str) -> str:
    ending = next((ending for ending in _NOT_SPOKEN if name.endswith(ending)), "")
    return name.removesuffix(ending).replace("-", " ")


def _require_new(ids: Iterable[int | str], what: str) -> None:
    seen = set()
    for new in ids:
        if new in seen:
            raise ValueError(f"{what} {new!r} is there twice")
        seen.add(new)


def _require_known_segments(
    entry: _Annotation, categories: Mapping[int, PanopticCategory], path: str | Path
) -> None:
    where = f"{path}: image {entry.image_id!r}"
    _require_new((segment.id for segment in entry.segments_info), f"{where}: the segment")
    for segment in entry.segments_info:
        if segment.category_id not in categories:
            raise ValueError(
                f"{where}: segment {segment.id} is of category_id {segment.category_id}, which is not among "
                f"the categories of the file"
            )
        if not 0 < segment.id < 1 << 24:
            raise ValueError(f"{where}: a segment's id is a colour, 1 to {(1 << 24) - 1}, got {segment.id}")


def _join(image: _Image, annotations: Mapping[int | str, _Annotation]) -> PanopticImage:
    entry = annotations.get(image.id)
    return PanopticImage(
        image=image.file_name,
        width=image.width,
        height=image.height,
        png=None if entry is None else entry.file_name,
        segments=() if entry is None else tuple(entry.segments_info),
    )
