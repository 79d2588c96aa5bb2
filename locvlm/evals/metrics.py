"""Metrics: plain functions from judged answers to one number.

Every denominator is the number of questions *asked*: an unreadable answer and a question that could not be
asked (an unreadable image) are wrong, so no score can rise by failing. Boxes are compared in source pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from locvlm.evals.parse import OPPOSITE, Absent, Named, Reading, Sides, Unreadable, normalise
from locvlm.geometry import Box, Point, iou
from locvlm.records import Prediction

# Size classes by the side of a square of the box's area, in fractions of the side of a square of the image's
# area.
SIZE_LIMITS = (("small", 0.20), ("medium", 0.35), ("large", float("inf")))
OVERLAP_LIMITS = (("free", 0.05), ("overlapped", float("inf")))  # share of the box under another object's box


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One question with its gold and what its answer says."""

    prediction: Prediction
    reading: Reading

    @property
    def gold_box(self) -> Box:
        """The true box, source pixels."""
        return Box(*self.prediction.gold["box_px"])


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
    return _share(rows, is_hit)


def acc75(rows: Sequence[Judged]) -> float:
    """Share of questions answered with a box of IoU >= 0.75."""
    return _share(rows, lambda row: is_hit(row, 0.75))


def miou(rows: Sequence[Judged]) -> float:
    """Mean IoU; answers without a box count as 0."""
    return sum(box_iou(row) for row in rows) / len(rows) if rows else 0.0


def absent_fraction(rows: Sequence[Judged]) -> float:
    """Share answered with the absent sentence: the accuracy on absent objects, an error on present ones."""
    return _share(rows, lambda row: isinstance(row.reading, Absent))


def location_fraction(rows: Sequence[Judged]) -> float:
    """Share answered with a location, right or wrong."""
    return _share(rows, lambda row: isinstance(row.reading, Box | Point))


def unreadable_fraction(rows: Sequence[Judged]) -> float:
    """Share of answers that say nothing that was asked for."""
    return _share(rows, lambda row: isinstance(row.reading, Unreadable))


def exact_name(rows: Sequence[Judged]) -> float:
    """Share of answers that name the class or the description asked about, after normalising."""

    def is_right(row: Judged) -> bool:
        gold = row.prediction.gold
        accepted = {normalise(gold["phrase"]), normalise(gold["category"])}
        return isinstance(row.reading, Named) and row.reading.name in accepted

    return _share(rows, is_right)


def side_accuracy(rows: Sequence[Judged]) -> float:
    """Share of answers that hold the keyword of the true side and not its opposite (paper appendix E)."""
    return _share(rows, lambda row: _sides_on_axis(row) == {row.prediction.gold["answer"]})


def side_accuracy_exemplar_gold(rows: Sequence[Judged]) -> float:
    """The same under the reading of the paper's exemplars, which answer with the side of the reference
    object.
    """
    return _share(rows, lambda row: _sides_on_axis(row) == {OPPOSITE[row.prediction.gold["answer"]]})


def both_sides_fraction(rows: Sequence[Judged]) -> float:
    """Share of answers that hold both keywords of the axis; right under neither reading."""
    return _share(rows, lambda row: len(_sides_on_axis(row)) == 2)


def _sides_on_axis(row: Judged) -> set[str]:
    gold = row.prediction.gold["answer"]
    axis = {gold, OPPOSITE[gold]}
    return axis & set(row.reading.words) if isinstance(row.reading, Sides) else set()


def _share(rows: Sequence[Judged], is_true: Callable[[Judged], bool]) -> float:
    return sum(is_true(row) for row in rows) / len(rows) if rows else 0.0


def size_class(row: Judged) -> str:
    """ "small", "medium" or "large", relative to the image."""
    gold = row.prediction.gold
    side_fraction = (row.gold_box.area / (gold["width"] * gold["height"])) ** 0.5
    return next(name for name, limit in SIZE_LIMITS if side_fraction < limit)


def overlap_class(row: Judged) -> str:
    """ "overlapped" when another known object's box covers part of this one, else "free"."""
    return next(name for name, limit in OVERLAP_LIMITS if row.prediction.gold["overlap_fraction"] < limit)


def gold_side(row: Judged) -> str:
    """The true side: left, right, above or below."""
    return str(row.prediction.gold["answer"])


def category(row: Judged) -> str:
    """The class of the object asked about."""
    return str(row.prediction.gold["category"])


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
}

BREAKDOWNS: dict[str, Callable[[Judged], str]] = {
    "size": size_class,
    "overlap": overlap_class,
    "side": gold_side,
    "category": category,
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
