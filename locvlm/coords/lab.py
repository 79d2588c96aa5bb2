"""What a coordinate contract costs before anything is trained: error, IoU ceiling, tokens on real boxes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from locvlm.coords.contract import CoordinateContract
from locvlm.coords.notation import ParseFailure
from locvlm.geometry import Box, Frame, Location, iou
from locvlm.records import ImageAnnotation

SIZE_CLASSES = ("small", "medium", "large")


def size_class(box_px: Box) -> str:
    """COCO's size class (small < 32^2 <= medium < 96^2 <= large), of the box's area in source pixels.

    COCO itself takes the mask's area, which not every file has; boxes are larger, so fewer objects are small.
    """
    return "small" if box_px.area < 32**2 else "medium" if box_px.area < 96**2 else "large"


@dataclass(slots=True)
class Measured:
    """What writing and reading back did to each location."""

    error_px: list[float] = field(default_factory=list)  # largest of a location's coordinates, source pixels
    error_fraction: list[float] = field(default_factory=list)  # the same in fractions of the canvas side
    tokens: list[int] = field(default_factory=list)
    iou: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SIZE_CLASSES})
    num_invisible: int = 0  # objects that the frame does not show at all


def measure(
    images: Iterable[ImageAnnotation], contract: CoordinateContract, count_tokens: Callable[[str], int]
) -> Measured:
    """Every object's location written and read back under `contract`.

    Errors compare with what the canvas shows of the box, so they are the codec's; IoU compares with the whole
    annotated box, as an evaluation does, so a crop lowers it. Crowds are no objects to locate.
    """
    measured = Measured()
    for image in images:
        frame = contract.frame_for((image.width, image.height))
        for item in image.objects:
            if item.is_crowd:
                continue
            visible = frame.visible_part(item.box_px)
            if visible is None:
                measured.num_invisible += 1
                continue
            text = contract.write(item.box_px, frame)
            measured.tokens.append(count_tokens(text))
            read = contract.read(text, frame)
            if isinstance(read, ParseFailure):
                raise AssertionError(f"{text} was written and cannot be read: {read}")
            _add_errors(measured, read, visible, frame)
            if isinstance(read, Box):
                measured.iou[size_class(item.box_px)].append(iou(read, item.box_px))
    return measured


def _add_errors(measured: Measured, read: Location, visible: Box, frame: Frame) -> None:
    true: Location = visible if isinstance(read, Box) else visible.center
    measured.error_px.append(_largest_difference(read, true))
    measured.error_fraction.append(_largest_difference(frame.to_fraction(read), frame.to_fraction(true)))


def _largest_difference(a: Location, b: Location) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def summarise(measured: Measured) -> dict[str, Any]:
    """Counts, means and extremes for JSON; None where there was nothing to measure."""
    every_iou = [value for values in measured.iou.values() for value in values]
    return {
        "num_locations": len(measured.tokens),
        "num_invisible": measured.num_invisible,
        "error_px": _spread(measured.error_px),
        "error_fraction": _spread(measured.error_fraction),
        "tokens": _spread(measured.tokens),
        "iou": {name: _iou_ceiling(v) for name, v in {**measured.iou, "all": every_iou}.items()},
    }


def _spread(values: list[float] | list[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"mean": sum(values) / len(values), "min": min(values), "max": max(values)}


def _iou_ceiling(values: list[float]) -> dict[str, float] | None:
    """What a model that writes every box as well as the codec can would score."""
    if not values:
        return None
    return {
        "num_boxes": len(values),
        "mean": sum(values) / len(values),
        "min": min(values),
        "p05": sorted(values)[len(values) // 20],  # 5% of the boxes are below
        "acc50": sum(value >= 0.5 for value in values) / len(values),
        "acc75": sum(value >= 0.75 for value in values) / len(values),
    }


def as_table(results: list[dict[str, Any]]) -> str:
    """Rows of codec, location, max_error and `summarise`'s entries as a Markdown table."""
    columns = [
        *("codec", "location", "error px: mean", "max", "error, canvas sides: max", "stated bound"),
        *("IoU ceiling: small", "medium", "large", "acc@0.5 ceiling", "tokens: mean", "max"),
    ]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in results:
        means = [row["iou"][name]["mean"] if row["iou"][name] else None for name in SIZE_CLASSES]
        acc50 = row["iou"]["all"]["acc50"] if row["iou"]["all"] else None
        px, tokens = row["error_px"], row["tokens"]
        cells = [
            *(row["codec"], row["location"], f"{px['mean']:.3f}", f"{px['max']:.3f}"),
            *(f"{row['error_fraction']['max']:.6f}", f"{row['max_error']:.6f}"),
            *("" if value is None else f"{value:.3f}" for value in (*means, acc50)),
            *(f"{tokens['mean']:.1f}", f"{tokens['max']}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
