"""Visual Spatial Reasoning (Liu et al., 2023): is a caption about two objects true of the image? -> Records.

    {"image": "000000239417.jpg", "image_link": "http://images.cocodataset.org/train2017/000000239417.jpg",
     "caption": "The bench is at the right side of the train.", "label": 0,
     "relation": "at the right side of"}

A record is an image with all captions that the file has about it. `question` is the caption; the task's
prompt asks whether it is true. `source` holds the number of the line, the two options, the relation and its
kind.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from locvlm.annotations.by_image import records_by_image
from locvlm.io import read_jsonl
from locvlm.records import Query, Record

Folders = Literal["one", "splits"]
ANSWERS = ("false", "true")  # by label
# The seven kinds of the data set's authors. Words that they name twice are listed once; what they leave
# unallocated has no kind.
KINDS: dict[str, tuple[str, ...]] = {
    "adjacency": (
        *("adjacent to", "alongside", "at the side of", "at the right side of", "at the left side of"),
        *("attached to", "at the back of", "ahead of", "against", "at the edge of"),
    ),
    "directional": (
        *("off", "past", "toward", "down", "deep down", "up", "away from", "along", "around", "from"),
        *("into", "to", "across", "across from", "through", "down from"),
    ),
    "orientation": ("facing", "facing away from", "parallel to", "perpendicular to"),
    "projective": (
        *("on top of", "beneath", "beside", "behind", "left of", "right of", "under", "in front of"),
        *("below", "above", "over", "in the middle of"),
    ),
    "proximity": ("by", "close to", "near", "far from", "far away from"),
    "topological": (
        *("connected to", "detached from", "has as a part", "part of", "contains", "within", "at", "on"),
        *("in", "with", "surrounding", "among", "consists of", "out of", "between", "inside", "outside"),
        "touching",
    ),
    "unallocated": ("beyond", "next to", "opposite to", "after", "enclosed by"),
}
_KIND_OF = {relation: kind for kind, relations in KINDS.items() for relation in relations}


def read_vsr(path: str | Path, *, folders: Folders = "one") -> Iterator[Record]:
    """One record per image, in the order of the file. The size of images is 0: the file does not tell it.

    Args:
        folders: "one" folder holds all images, as the data set's instructions leave them; "splits": they are
            in train2017 and val2017, as COCO's archives unpack.

    Raises:
        ValueError: naming the line, for a field that is missing or of another type, a label that is neither 0
            nor 1, or a link without its split; naming the file, if it asks nothing.
    """
    nothing = f"{path}: expected captions as VSR publishes them, there are none"
    yield from records_by_image(_captions(path, folders), source={"file": Path(path).name}, nothing=nothing)


def _captions(path: str | Path, folders: Folders) -> Iterator[tuple[str, Query]]:
    """(image, query) of every caption."""
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        _require_fields(row, where)
        image = row["image"] if folders == "one" else _in_its_split(row, where)
        yield (
            image,
            Query(
                objective="vqa",
                question=row["caption"].strip(),
                answer=ANSWERS[row["label"]],
                source={
                    "question_id": number,
                    "options": list(reversed(ANSWERS)),
                    "relation": row["relation"],
                    "relation_kind": _KIND_OF.get(row["relation"], "unallocated"),
                },
            ),
        )


def _require_fields(row: dict[str, Any], where: str) -> None:
    for name in ("image", "caption", "relation"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(
                f"{where}: expected a caption with image, caption, label and relation, got {name!r} = "
                f"{row.get(name)!r}"
            )
    if row.get("label") not in (0, 1):
        raise ValueError(f"{where}: the label must be 0 (false) or 1 (true), got {row.get('label')!r}")


def _in_its_split(row: dict[str, Any], where: str) -> str:
    """ "train2017/000000239417.jpg", which only the link tells."""
    split = PurePosixPath(str(row.get("image_link", ""))).parent.name
    if split not in ("train2017", "val2017"):
        raise ValueError(
            f"{where}: image_link must name train2017 or val2017, got {row.get('image_link')!r}; with all "
            f"images in one folder, take `folders: one`"
        )
    return f"{split}/{row['image']}"
