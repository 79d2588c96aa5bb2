"""COCO-Spatial, an evaluation: which side of one object is another (paper section 4.2, app. E)?

An image asks on an axis if it has three objects of different classes, each the only one of its class,
with their centres outside the middle 20% of the axis, not all on one side. One of them (`single`) then
has two others (`exemplar`, `asked`) on the opposite side. Both orders of the pair (single, asked) are
questions, so that the two answers are balanced exactly and "left" always scores one half.

The released filter of the authors differs: any two single instances of which one ends before the other
starts, asked in one direction only, so that the answer is always "right" (or "below").
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from locvlm.geometry import Box
from locvlm.objectives.select import eligible_objects
from locvlm.records import ImageAnnotation, ObjectAnnotation, Query, Record

Axis = Literal["horizontal", "vertical"]
Form = Literal["direct", "icl"]
Gold = Literal["asked", "exemplar"]
SIDES: dict[Axis, tuple[str, str]] = {"horizontal": ("left", "right"), "vertical": ("above", "below")}
_PHRASES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
QUESTION = "Which side of {reference} is {asked} located?"
EXEMPLAR = "Q: {question} A: The {reference} is located {phrase} {asked}."
CENTRAL_FRACTION = 0.2  # of the axis, around its middle: objects centred there are on no side


@dataclass(frozen=True, kw_only=True, slots=True)
class SpatialConfig:
    """Which questions are built.

    `gold`: "asked" is the side of the object that is asked for; "exemplar" the side of the reference
    object, as the paper's in-context exemplars answer.
    """

    gold: Gold = "asked"
    release_filter: bool = False
    split: str = ""  # of the images, noted in the records
    seed: int = 0

    def __post_init__(self) -> None:
        if self.gold not in get_args(Gold):
            raise ValueError(f"gold must be one of {', '.join(get_args(Gold))}, got {self.gold!r}")


@dataclass(frozen=True, slots=True)
class Placed:
    """An object on a side of the axis: 0 is left or above, 1 right or below."""

    name: str
    side: int
    box_px: Box  # source pixels


@dataclass(frozen=True, slots=True)
class Pair:
    """Which side of `reference` is `asked`; with the pair that the in-context exemplars are about."""

    reference: Placed
    asked: Placed
    exemplars: tuple[Placed, ...] = ()


def build_spatial_records(
    image: ImageAnnotation, *, axis: Axis, form: Form, config: SpatialConfig
) -> Iterator[Record]:
    """The questions of one image, one record each; none if it does not qualify.

    Draws depend on the seed, the image and the axis alone: both forms ask about the same pair.

    Raises:
        ValueError: for the in-context form with the released filter, which has no third object.
    """
    if config.release_filter and form == "icl":
        raise ValueError(
            "--release-filter asks about pairs and has no third object; use it with --form direct"
        )
    if config.release_filter:
        pairs = list(_separated_pairs(image, axis))
    else:
        rng = random.Random(f"{config.seed}/{image.image_id}/{axis}")
        pairs = _both_orders(_pick_triple(image, axis, rng))
    for number, pair in enumerate(pairs):
        reference, asked = pair.reference, pair.asked
        question = QUESTION.format(reference=reference.name, asked=asked.name)
        if form == "icl":
            question = _with_exemplars(question, axis, *pair.exemplars)
        side = SIDES[axis][(asked if config.gold == "asked" else reference).side]
        yield Record(
            id=f"{image.image_id}-{axis}-{form}-{number}",
            image=image.image,
            width=image.width,
            height=image.height,
            queries=(Query(objective="vqa", category=asked.name, question=question, answer=side),),
            source={
                "image_id": image.image_id,
                **({"split": config.split} if config.split else {}),
                "axis": axis,
                "form": form,
                "side": side,
                "gold": config.gold,
                "reference": reference.name,
                "asked": asked.name,
                "boxes_px": {placed.name: list(placed.box_px) for placed in (reference, asked)},
            },
        )


def _both_orders(triple: tuple[Placed, Placed, Placed] | None) -> list[Pair]:
    """The pair (single, asked) of a triple in both orders; nothing for no triple.

    The paper's form is the first: exemplars about (obj_1, obj_2) in both orders, then which side of obj_3
    is obj_1. The second is its mirror image, with the exemplars the other way round.
    """
    if triple is None:
        return []
    single, exemplar, asked = triple
    return [Pair(asked, single, (single, exemplar)), Pair(single, asked, (exemplar, single))]


def _with_exemplars(question: str, axis: Axis, first: Placed, second: Placed) -> str:
    parts = []
    for reference, asked in ((first, second), (second, first)):
        parts.append(
            EXEMPLAR.format(
                question=QUESTION.format(reference=reference.name, asked=asked.name),
                reference=reference.name,
                phrase=_PHRASES[SIDES[axis][reference.side]],
                asked=asked.name,
            )
        )
    return " ".join([*parts, f"Q: {question}"])


def _pick_triple(
    image: ImageAnnotation, axis: Axis, rng: random.Random
) -> tuple[Placed, Placed, Placed] | None:
    """(single, exemplar, asked): one object and two on the other side, drawn; None if the image has none."""
    sides: tuple[list[Placed], list[Placed]] = ([], [])
    for item in eligible_objects(image):
        placed = _place(item, image, axis)
        if placed is not None:
            sides[placed.side].append(placed)
    choices = [(alone, pair) for alone, pair in (sides, sides[::-1]) if alone and len(pair) >= 2]
    if not choices:
        return None
    alone, pair = rng.choice(choices)
    exemplar, asked = rng.sample(pair, 2)
    return rng.choice(alone), exemplar, asked


def _place(item: ObjectAnnotation, image: ImageAnnotation, axis: Axis) -> Placed | None:
    """The side that the object's centre is on; None in the middle."""
    centre = item.box_px.center
    fraction = centre.x / image.width if axis == "horizontal" else centre.y / image.height
    if abs(fraction - 0.5) <= CENTRAL_FRACTION / 2:
        return None
    return Placed(item.category, int(fraction > 0.5), item.box_px)


def _separated_pairs(image: ImageAnnotation, axis: Axis) -> Iterator[Pair]:
    """All pairs of single instances with a gap between them along the axis."""
    for pair in combinations(eligible_objects(image), 2):
        for before, after in (pair, pair[::-1]):
            end, start = (
                (before.box_px.x2, after.box_px.x1)
                if axis == "horizontal"
                else (before.box_px.y2, after.box_px.y1)
            )
            if end < start:
                yield Pair(Placed(before.category, 0, before.box_px), Placed(after.category, 1, after.box_px))
