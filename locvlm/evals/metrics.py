"""Metrics: plain functions from judged answers to one number; those of locations and of the objectives are
here, the others in `locvlm/evals/measures/`.

Every denominator is the number of questions *asked*: an unreadable answer and a question that could not be
asked (an unreadable image) are wrong, so no score can rise by failing. Boxes are compared in source pixels.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from locvlm.evals.judged import Judged, share
from locvlm.evals.measures import captions, choices, short_answers, verdicts, vqa, yes_no
from locvlm.evals.parse import OPPOSITE, Absent, Named, Sides, Unreadable, normalise
from locvlm.geometry import Box, Point, iou

# Size classes by the side of a square of the box's area, in fractions of the side of a square of the image's
# area.
SIZE_LIMITS = (("small", 0.20), ("medium", 0.35), ("large", float("inf")))
OVERLAP_LIMITS = (("free", 0.05), ("overlapped", float("inf")))  # share of the box under another object's box
# Distance of the box's centre from the image's, in fractions of the way to a corner.
DISTANCE_LIMITS = (("central", 1 / 3), ("middle", 2 / 3), ("outer", float("inf")))


def box_iou(row: Judged) -> float:
    """IoU of the answered box with the true one; 0 for any answer without a box."""
    return iou(row.reading, row.gold_box) if isinstance(row.reading, Box) else 0.0


def is_hit(row: Judged, threshold: float = 0.5) -> bool:
    """A box with IoU >= threshold; for a model that answers points, a point inside the true box."""
    if isinstance(row.reading, Point):
        box = row.gold_box
        return box.x1 <= row.reading.x <= box.x2 and box.y1 <= row.reading.y <= box.y2
    return box_iou(row) >= threshold


def acc50(rows: Sequence[Judged]) -> float:
    """Share of questions answered with a location that hits (IoU >= 0.5)."""
    return share(rows, is_hit)


def acc75(rows: Sequence[Judged]) -> float:
    """Share of questions answered with a box of IoU >= 0.75."""
    return share(rows, lambda row: is_hit(row, 0.75))


def miou(rows: Sequence[Judged]) -> float:
    """Mean IoU; answers without a box count as 0."""
    return sum(box_iou(row) for row in rows) / len(rows) if rows else 0.0


def absent_fraction(rows: Sequence[Judged]) -> float:
    """Share answered with the absent sentence: the accuracy on absent objects, an error on present ones."""
    return share(rows, lambda row: isinstance(row.reading, Absent))


def location_fraction(rows: Sequence[Judged]) -> float:
    """Share answered with a location, right or wrong."""
    return share(rows, lambda row: isinstance(row.reading, Box | Point))


def unreadable_fraction(rows: Sequence[Judged]) -> float:
    """Share of answers that say nothing that was asked for."""
    return share(rows, lambda row: isinstance(row.reading, Unreadable))


def exact_name(rows: Sequence[Judged]) -> float:
    """Share of answers that name the class or the description asked about, after normalising."""

    def is_right(row: Judged) -> bool:
        gold = row.prediction.gold
        accepted = {normalise(gold["phrase"]), normalise(gold["category"])}
        return isinstance(row.reading, Named) and row.reading.name in accepted

    return share(rows, is_right)


def side_accuracy(rows: Sequence[Judged]) -> float:
    """Share of answers that hold the keyword of the true side and not its opposite (paper appendix E)."""
    return share(rows, lambda row: _sides_on_axis(row) == {row.prediction.gold["answer"]})


def side_accuracy_exemplar_gold(rows: Sequence[Judged]) -> float:
    """The same under the reading of the paper's exemplars, which answer with the side of the reference
    object.
    """
    return share(rows, lambda row: _sides_on_axis(row) == {OPPOSITE[row.prediction.gold["answer"]]})


def both_sides_fraction(rows: Sequence[Judged]) -> float:
    """Share of answers that hold both keywords of the axis; right under neither reading."""
    return share(rows, lambda row: len(_sides_on_axis(row)) == 2)


def _sides_on_axis(row: Judged) -> set[str]:
    gold = row.prediction.gold["answer"]
    axis = {gold, OPPOSITE[gold]}
    return axis & set(row.reading.words) if isinstance(row.reading, Sides) else set()


def size_class(row: Judged) -> str:
    """ "small", "medium" or "large", relative to the image."""
    gold = row.prediction.gold
    side_fraction = (row.gold_box.area / (gold["width"] * gold["height"])) ** 0.5
    return next(name for name, limit in SIZE_LIMITS if side_fraction < limit)


def overlap_class(row: Judged) -> str:
    """ "overlapped" when another known object's box covers part of this one, else "free"."""
    return next(name for name, limit in OVERLAP_LIMITS if row.prediction.gold["overlap_fraction"] < limit)


def distance_class(row: Judged) -> str:
    """ "central", "middle" or "outer": how far the box's centre is from the image's."""
    width, height = row.prediction.gold["width"], row.prediction.gold["height"]
    x, y = row.gold_box.center
    fraction = math.hypot(x - width / 2, y - height / 2) / math.hypot(width / 2, height / 2)
    return next(name for name, limit in DISTANCE_LIMITS if fraction < limit)


def gold_answer(row: Judged) -> str:
    """The right answer: a side, an option, yes or no."""
    return str(row.prediction.gold["answer"])


def category(row: Judged) -> str:
    """The class of the object asked about."""
    return str(row.prediction.gold["category"])


def by_source(*names: str) -> Callable[[Judged], str]:
    """A breakdown by what the data set says under this name, or within it; "other" where it says nothing."""

    def of_row(row: Judged) -> str:
        value: Any = row.source
        for name in names:
            value = (value or {}).get(name)
        return str(value or "other")

    return of_row


METRICS: dict[str, Callable[[Sequence[Judged]], float]] = {
    "acc50": acc50,
    "acc75": acc75,
    "miou": miou,
    "absent_fraction": absent_fraction,
    "location_fraction": location_fraction,
    "unreadable_fraction": unreadable_fraction,
    "exact_name": exact_name,
    "side_accuracy": side_accuracy,
    "side_accuracy_exemplar_gold": side_accuracy_exemplar_gold,
    "both_sides_fraction": both_sides_fraction,
    "accuracy": choices.accuracy,
    "pair_accuracy": choices.pair_accuracy,
    "set_accuracy": choices.set_accuracy,
    "flip_consistency": choices.flip_consistency,
    "first_option_fraction": choices.first_option_fraction,
    "order_gap": choices.order_gap,
    "precision": yes_no.precision,
    "recall": yes_no.recall,
    "f1": yes_no.f1,
    "recall_lmms": yes_no.recall_lmms,
    "f1_lmms": yes_no.f1_lmms,
    "yes_fraction": yes_no.yes_fraction,
    "assumed_fraction": yes_no.assumed_fraction,
    "vqa_accuracy": vqa.vqa_accuracy,
    "vqa_accuracy_normalised": vqa.vqa_accuracy_normalised,
    "exact_match": vqa.exact_match,
    "exact_match_verbatim": short_answers.exact_match_verbatim,
    "contains_answer": short_answers.contains_answer,
    "judge_accuracy": verdicts.judge_accuracy,
    "judge_score": verdicts.judge_score,
    "meteor": captions.meteor,
    "meteor_stripped": captions.meteor_stripped,
    "meteor_raw": captions.meteor_raw,
    "cider": captions.cider,
    "cider_stripped": captions.cider_stripped,
    "bleu4": captions.bleu4,
    "bleu4_stripped": captions.bleu4_stripped,
    "token_f1": captions.token_f1,
}

# Of all answers together: no mean over answers gives them. Breakdowns leave them out, since they take
# seconds, and CIDEr weighs words by all references.
CORPUS_METRICS = (
    "meteor",
    "meteor_stripped",
    "meteor_raw",
    "cider",
    "cider_stripped",
    "bleu4",
    "bleu4_stripped",
)

BREAKDOWNS: dict[str, Callable[[Judged], str]] = {
    "size": size_class,
    "overlap": overlap_class,
    "side": gold_answer,
    "category": category,
    "distance": distance_class,
    "answer": gold_answer,
    "question_type": by_source("question_type"),  # VQAv2: the 65 openings; video: see annotations/video_qa.py
    "answer_type": by_source("answer_type"),  # VQAv2: yes/no, number, other
    "structural_type": by_source("types", "structural"),  # GQA: query, verify, choose, logical, compare
    "semantic_type": by_source("types", "semantic"),  # GQA: what the question turns on
    "axis": by_source("axis"),  # What'sUp: left-right, on-under, front-behind
    "relation": by_source("relation"),  # What'sUp, VSR
    "relation_kind": by_source("relation_kind"),  # VSR's seven
}


def centre_box_scores(rows: Sequence[Judged]) -> dict[str, float]:
    """acc50 and miou of always answering one box in the middle of the image, for the same questions.

    The baseline knows more than it should: its width and height are the medians of the true boxes' own (in
    fractions of the image), which no model is told.
    """
    if not rows:
        return {"acc50": 0.0, "miou": 0.0}
    width = _median([row.gold_box.width / row.prediction.gold["width"] for row in rows])
    height = _median([row.gold_box.height / row.prediction.gold["height"] for row in rows])
    answered = []
    for row in rows:
        w, h = row.prediction.gold["width"], row.prediction.gold["height"]
        box = Box((1 - width) / 2 * w, (1 - height) / 2 * h, (1 + width) / 2 * w, (1 + height) / 2 * h)
        answered.append(Judged(prediction=row.prediction, reading=box))
    return {"acc50": acc50(answered), "miou": miou(answered)}


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
