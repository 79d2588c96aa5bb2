"""Yes/no questions about objects, as POPE publishes them -> Records.

    {"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is there a snowboard in the image?",
     "label": "yes"}

The files about COCO are JSON Lines, though they are named .json; those made from SEEM's segmentations are one
array. Text is verbatim, mistakes of the files ("imange") included.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locvlm.annotations.by_image import records_by_image
from locvlm.io import read_entries
from locvlm.records import Query, Record

_OBJECT = re.compile(r"is there an? (.+) in the im", re.IGNORECASE)


def read_yes_no(path: str | Path) -> Iterator[Record]:
    """One record per image with all that is asked about it, in the order of the file.

    `category` is the object asked about, if the question has POPE's form; `source` of a query holds its
    question_id. The size of images is 0: the files do not tell it.

    Raises:
        ValueError: naming the entry, for a field that is missing or of another type, a label that is neither
            yes nor no, or a question_id that occurs twice; naming the file, if it asks nothing.
    """
    nothing = f"{path}: expected questions as POPE publishes them, there are none"
    yield from records_by_image(_questions(path), source={"file": Path(path).name}, nothing=nothing)


def _questions(path: str | Path) -> Iterator[tuple[str, Query]]:
    """(image, query) of every question; those about COCO are JSON Lines in files named .json."""
    seen: set[int | str] = set()
    for where, entry in read_entries(path, expected="questions", by_content=True):
        image, query = _read_entry(entry, where)
        question_id = query.source["question_id"]
        if question_id in seen:
            raise ValueError(f"{where}: the question_id {question_id!r} is there twice")
        seen.add(question_id)
        yield image, query


def _read_entry(entry: Any, where: str) -> tuple[str, Query]:
    """(image, query) of one question."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a question, an object, got {entry!r}")
    for name, kind in (("question_id", int | str), ("image", str), ("text", str), ("label", str)):
        if not isinstance(entry.get(name), kind) or entry[name] == "":
            raise ValueError(
                f"{where}: expected a question with question_id, image, text and label, got {name!r} = "
                f"{entry.get(name)!r}"
            )
    answer = entry["label"].strip().lower()
    if answer not in ("yes", "no"):
        raise ValueError(f'{where}: the label must be "yes" or "no", got {entry["label"]!r}')
    asked = _OBJECT.match(entry["text"])
    query = Query(
        objective="vqa",
        category=asked[1] if asked else "",
        question=entry["text"],
        answer=answer,
        source={"question_id": entry["question_id"]},
    )
    return entry["image"], query
