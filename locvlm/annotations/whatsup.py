"""What'sUp (Kamath et al., 2023): where is one object relative to another, or in the image? -> Records.

A, B         [{"image_path": "data/controlled_clevr/mug_right_of_knife.jpeg", "caption_options":
             ["A mug to the right of a knife", <three wrong ones>]}, ...], option 0 always the right one
COCO, GQA    [[397133, "A photo of a dining table on the bottom", <the wrong one>], ...]

The captions hold no questions: those of "Erroneous agreements" (table 8, to the letter) are made here. Images
of A and B come in sets of four, two pairs with opposite relations; `source["group"]` names a question's pair,
`source["set"]` its set. `source["options"]` is what there is to choose from, in the order asked.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from locvlm.annotations.by_image import records_by_image
from locvlm.io import read_entries
from locvlm.records import Query, Record

Form = Literal["two-way", "four-way", "captions"]
Images = Literal["coco", "gqa"]
OPPOSITE = {
    "left": "right",
    "right": "left",
    "on": "under",
    "under": "on",
    "front": "behind",
    "behind": "front",
}
# table 8; left and right, which both subsets have, then what A and B have beside them
LEFT_RIGHT = "Is the {0} to the left of or to the right of the {1}? Answer left or right."
ON_UNDER = "Is the {0} on or under the {1}? Choose from the two options."
FRONT_BEHIND = "Is the {0} in front of or behind the {1}? Answer front or behind."
ONE_OBJECT = "Is the {0} on the {1} or on the {2}? Give a short answer."
TWO_OBJECTS = "Is the {0} {2} a {1} or {3} a {1}? Give a short answer."
# Our wording of the four-way question, whose own the paper does not print.
FOUR_WAY_A = (
    "Is the {0} to the left of, to the right of, on or under the {1}? Answer left, right, on or under."
)
FOUR_WAY_B = (
    "Is the {0} to the left of, to the right of, in front of or behind the {1}? "
    "Answer left, right, front or behind."
)
_LIST = "a list of images with captions, as What'sUp publishes it"
CAPTION = "Which sentence describes the image?"  # ours, for scoring the captions themselves
_TWO_WAY = {"left": LEFT_RIGHT, "on": ON_UNDER, "front": FRONT_BEHIND}  # by the relation that is named first
_FOUR_WAY = {
    "on": (FOUR_WAY_A, ("left", "right", "on", "under")),
    "front": (FOUR_WAY_B, ("left", "right", "front", "behind")),
}
_RELATION = re.compile(
    r"(?:a photo of )?(?:an? |the )?(?P<first>.+?) "
    r"(?:on the (?P<place>left|right|top|bottom)|"
    r"(?:to the (?P<side>left|right|front|behind) of|"
    r"(?P<plain>on top of|in front of|on|under|behind|above|below)) (?:an? |the )?(?P<second>.+))",
    re.IGNORECASE,
)
_WORD_OF = {"in front of": "front", "on top of": "above"}
_PHRASE_OF = {"left": "to the left of", "right": "to the right of"}  # table 8, two objects
_GQA_PHRASE_OF = _PHRASE_OF | {"front": "to the front of", "behind": "to the behind of"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """What a caption says: `first` is in `relation` to `second`, or to the image where that is empty."""

    first: str
    second: str
    relation: str  # one word: left, right, on, under, front, behind, above, below, top, bottom


def read_caption(caption: str) -> Caption | None:
    """ "A mug to the right of a knife" -> Caption(mug, knife, right); None for another form."""
    match = _RELATION.fullmatch(" ".join(caption.split()).rstrip("."))
    if match is None:
        return None
    word = (match["side"] or match["plain"] or match["place"]).lower()
    return Caption(first=match["first"], second=match["second"] or "", relation=_WORD_OF.get(word, word))


# ---- subsets A and B


def read_whatsup(path: str | Path, *, form: Form = "two-way", seed: int = 0) -> Iterator[Record]:
    """One record per image of subset A or B with its question, in the order of the file; sizes are 0.

    Args:
        form: "two-way": which of a pair's two relations holds (table 8). "four-way": which of four.
            "captions": which of the four captions, in an order drawn from the seed and the image; for models
            that score options.

    Raises:
        ValueError: naming the entry that has another form, or an image that is there twice.
    """
    asked = _controlled(path, form=form, seed=seed)
    yield from records_by_image(
        asked, source={"file": Path(path).name}, nothing=f"{path}: expected {_LIST}, it is empty"
    )


def _controlled(path: str | Path, *, form: Form, seed: int) -> Iterator[tuple[str, Query]]:
    """(image, query) of every entry; an image comes once."""
    seen: set[str] = set()
    for where, row in read_entries(path, expected=_LIST):
        image, captions = _read_row(row, where)
        if image in seen:
            raise ValueError(f"{where}: the image {image} is there twice")
        seen.add(image)
        yield image, _controlled_query(image, captions, where, form=form, seed=seed)


def _read_row(row: Any, where: str) -> tuple[str, list[str]]:
    """(image, four captions) of an entry; the image's path without the folder "data" of the authors' code."""
    image = row.get("image_path") if isinstance(row, dict) else None
    captions = row.get("caption_options") if isinstance(row, dict) else None
    is_captions = isinstance(captions, list) and all(isinstance(text, str) for text in captions)
    if not isinstance(image, str) or captions is None or not is_captions or len(set(captions)) != 4:
        raise ValueError(
            f"{where}: expected image_path and four different caption_options, the first right, got {row!r}"
        )
    return image.removeprefix("data/"), captions


def _controlled_query(image: str, captions: list[str], where: str, *, form: Form, seed: int) -> Query:
    true = read_caption(captions[0])
    others = {caption.relation for text in captions if (caption := read_caption(text)) is not None}
    other_axis = next((relation for relation in ("on", "front") if relation in others), None)
    if true is None or not true.second or len(others) != 4 or other_axis is None:
        raise ValueError(
            f"{where}: expected captions of What'sUp A (left, right, on, under) or B (left, right, in front "
            f"of, behind), got {captions}"
        )
    objects = (true.first, true.second)
    first = "left" if true.relation in ("left", "right") else other_axis
    answer = true.relation
    if form == "two-way":
        question, options = _TWO_WAY[first], [first, OPPOSITE[first]]
    elif form == "four-way":
        question, words = _FOUR_WAY[other_axis]
        options = list(words)
    else:
        question, answer = CAPTION, captions[0]
        options = random.Random(f"{seed}/{PurePosixPath(image).stem}").sample(captions, 4)
    return Query(
        objective="vqa",
        category=true.first,
        question=question.format(*objects),
        answer=answer,
        source={
            "options": options,
            "relation": true.relation,
            "axis": f"{first}-{OPPOSITE[first]}",
            "group": f"{true.first}/{true.second}/{first}",
            "set": f"{true.first}/{true.second}",
        },
    )


# ---- COCO-spatial and GQA-spatial


def read_whatsup_pairs(path: str | Path, *, images: Images, seed: int = 0) -> Iterator[Record]:
    """One record per image with its questions (table 8): the right caption's relation, or the wrong one's?
    Sizes are 0.

    Which of the two is named first is drawn from the seed, the place in the file and the image alone.

    Args:
        images: "coco": 000000397133.jpg; "gqa": 2354786.jpg.

    Raises:
        ValueError: naming the row that has another form.
    """
    asked = _pairs(path, images=images, seed=seed)
    yield from records_by_image(
        asked, source={"file": Path(path).name}, nothing=f"{path}: expected {_LIST}, it is empty"
    )


def _pairs(path: str | Path, *, images: Images, seed: int) -> Iterator[tuple[str, Query]]:
    """(image, query) of every row."""
    for number, (where, row) in enumerate(read_entries(path, expected=_LIST)):
        is_row = isinstance(row, list) and len(row) == 3 and isinstance(row[0], int | str)
        if not is_row or not all(isinstance(text, str) for text in row[1:]):
            raise ValueError(f"{where}: expected [image id, right caption, wrong caption], got {row!r}")
        image = f"{int(row[0]):012d}.jpg" if images == "coco" else f"{row[0]}.jpg"
        yield image, _pair_query(row, number, where, images=images, seed=seed)


def _pair_query(row: list[Any], number: int, where: str, *, images: Images, seed: int) -> Query:
    true, false = read_caption(row[1]), read_caption(row[2])
    if true is None or false is None or (true.first, true.second) != (false.first, false.second):
        raise ValueError(
            f"{where}: expected two captions about the same objects with different relations, got {row[1:]}"
        )
    options = [true.relation, false.relation]
    if random.Random(f"{seed}/{number}/{row[0]}").random() < 0.5:
        options.reverse()
    if true.second:
        phrase_of = _GQA_PHRASE_OF if images == "gqa" else _PHRASE_OF
        phrases = (phrase_of.get(word, word) for word in options)
        question = TWO_OBJECTS.format(true.first, true.second, *phrases)
    else:
        question = ONE_OBJECT.format(true.first, *options)
    return Query(
        objective="vqa",
        category=true.first,
        question=question,
        answer=true.relation,
        source={"question_id": number, "options": options, "relation": true.relation},
    )
