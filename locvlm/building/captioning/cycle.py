"""The cycle check: a description is kept if a model finds the object by it.

The model is asked where the described object is, in LocPred's words; its box is compared with the object's.
The check is not in the paper. It needs a model that was taught locations, after stage 2, say.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from locvlm.building.captioning.captioner import Answer, Captioner
from locvlm.building.captioning.sift import Described, drop
from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import Box, iou, place_box
from locvlm.io import Ledger
from locvlm.objectives.locpred import ask_location
from locvlm.records import ImageAnnotation

NOT_SHOWN = "cycle check: the frame cuts the object away"
NO_BOX = "cycle check: no box in the answer"
ELSEWHERE = "cycle check: the box is elsewhere"


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleCheck:
    """Which model is asked, and how its boxes are read and judged.

    Raises:
        ValueError: if the model writes points, or the threshold is no IoU.
    """

    model: Captioner
    contract: CoordinateContract  # the model's
    min_iou: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.min_iou <= 1:
            raise ValueError(f"--cycle-check is an IoU, above 0 and up to 1, got {self.min_iou}")
        if self.contract.location != "bbox":
            raise ValueError(
                f"the cycle check compares boxes, and this model's contract has {self.contract.location}s; "
                f"use a model that writes boxes"
            )


def cycle_prompts(
    image: ImageAnnotation, described: Sequence[Described], check: CycleCheck
) -> tuple[str, ...]:
    """Where is each described object? The wording depends on the seed and the object alone."""
    return tuple(
        ask_location(
            item.text,
            rng=random.Random(f"{check.seed}/{image.image_id}/{item.item.category}/cycle"),
            representation=check.contract.representation,
        )
        for item in described
    )


def found_again(
    image: ImageAnnotation,
    described: Sequence[Described],
    answers: Sequence[Answer],
    check: CycleCheck,
    ledger: Ledger,
) -> list[Described]:
    """Those that the model found by their description; the others are counted.

    Boxes are compared in source pixels, in the part of the image that the frame shows.
    """
    frame = check.contract.frame_for((image.width, image.height))
    kept = []
    for item, answer in zip(described, answers, strict=True):
        expected = place_box(frame, item.item.box_px)
        got = check.contract.read(answer.text, frame)
        if not isinstance(expected, Box):
            drop(ledger, image, item.item, NOT_SHOWN, item.text)
        elif not isinstance(got, Box):
            drop(ledger, image, item.item, NO_BOX, answer.text)
        elif iou(got, expected) < check.min_iou:
            drop(ledger, image, item.item, ELSEWHERE, item.text)
        else:
            kept.append(item)
    return kept
