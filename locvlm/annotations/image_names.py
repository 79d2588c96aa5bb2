"""Which images a file is about; an image of COCO is the same under its names of 2014 and of 2017.

Its content tells which form a file has: COCO ("images" with a "file_name"), entries with an "image" as JSON
Lines or one array (records, POPE, LLaVA), or text with one name a line.

GQA and Visual Genome name images by numbers of their own, half of them images of COCO: Visual Genome's
image_data.json tells which.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

_COCO = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})")
_PLACE = re.compile(r"0\d*")  # as `image_key` leaves it


class _CocoImage(msgspec.Struct):
    file_name: str


class _CocoFile(msgspec.Struct):
    images: list[_CocoImage]


class _Entry(msgspec.Struct):
    image: str | None = None


class _GenomeImage(msgspec.Struct):
    image_id: int
    coco_id: int | None


def image_key(name: str) -> str:
    """What is equal for two names of one image.

    Example: "train2014/COCO_train2014_000000000009.jpg" and "000000000009.jpg" -> "coco 9";
    "images/n578564.jpg" -> "n578564".
    """
    stem = Path(name).stem
    number = _COCO.fullmatch(stem)
    return f"coco {int(number[1])}" if number else stem


def is_only_a_place(key: str) -> bool:
    """Whether a key is a number with zeros before it (000017.jpg): another set numbers other images so."""
    return _PLACE.fullmatch(key) is not None


def read_image_keys(path: str | Path) -> frozenset[str]:
    """`image_key` of every image that the file is about.

    Raises:
        ValueError: naming the file, if it is about none, or is no list of one of these forms.
    """
    data = Path(path).read_bytes()
    try:
        keys = frozenset(image_key(name) for name in _names(data))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{path}: expected a COCO file, entries with an "image", or one image name a line: {error}'
        ) from error
    if not keys:
        raise ValueError(f"{path}: names no image")
    return keys


def read_visual_genome(path: str | Path) -> dict[str, str]:
    """`image_key` of a Visual Genome image -> that of the same image in COCO, from its image_data.json.

    Raises:
        ValueError: naming the file, if it has another form.
    """
    try:
        entries = msgspec.json.decode(Path(path).read_bytes(), type=list[_GenomeImage])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected Visual Genome's image_data.json: {error}") from error
    return {str(entry.image_id): f"coco {entry.coco_id}" for entry in entries if entry.coco_id is not None}


def _names(data: bytes) -> Iterator[str]:
    start = data.lstrip()[:1]
    if start not in (b"{", b"["):
        yield from (line.strip() for line in data.decode().splitlines() if line.strip())
        return
    if start == b"[":
        entries = msgspec.json.decode(data, type=list[_Entry])
    elif (coco := _coco_file(data)) is not None:
        yield from (entry.file_name for entry in coco.images)
        return
    else:
        entries = msgspec.json.Decoder(_Entry).decode_lines(data)
    yield from (entry.image for entry in entries if entry.image is not None)


def _coco_file(data: bytes) -> _CocoFile | None:
    try:
        return msgspec.json.decode(data, type=_CocoFile)
    except msgspec.MsgspecError:
        return None
