"""The figures of the demo's report: where each number comes from, and what was aimed at."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One line of the report's tables: where its number comes from and what was aimed at."""

    flat: str  # name in scores.json
    title: str
    note: str
    task: str
    metric: str
    goal: float | None = None
    at_most: bool = False  # the goal is a ceiling


FIGURES = (
    Figure(
        flat="locpred_acc50",
        title="Finds it",
        note="asked where a present object is, answers a box with IoU ≥ 0.5",
        task="locpred",
        metric="acc50",
        goal=0.80,
    ),
    Figure(
        flat="locpred_miou",
        title="Mean IoU",
        note="overlap of the answered box with the true one, 0 without a box",
        task="locpred",
        metric="miou",
        goal=0.65,
    ),
    Figure(
        flat="absent_acc",
        title="Says it is absent",
        note="asked where an absent object is, says that there is none",
        task="absent",
        metric="absent_fraction",
        goal=0.90,
    ),
    Figure(
        flat="present_acc",
        title="Does not deny it",
        note="present object: a box with IoU ≥ 0.5 rather than “there is none”",
        task="present",
        metric="acc50",
        goal=0.75,
    ),
    Figure(
        flat="revloc_acc",
        title="Names it",
        note="asked what is at a place, names the exact class",
        task="revloc",
        metric="exact_name",
        goal=0.90,
    ),
    Figure(
        flat="parse_failures",
        title="Unreadable",
        note="answers that cannot be read, over all questions above",
        task="",
        metric="",
        goal=0.01,
        at_most=True,
    ),
    Figure(
        flat="left_right_acc",
        title="Left or right",
        note="COCO-Spatial, asked directly; stage 2 has no such question",
        task="coco_spatial_direct_horizontal",
        metric="side_accuracy",
    ),
    Figure(
        flat="left_right_icl_acc",
        title="Left or right, two examples",
        note="the same, after two worked examples",
        task="coco_spatial_icl_horizontal",
        metric="side_accuracy",
    ),
    Figure(
        flat="above_below_acc",
        title="Above or below",
        note="COCO-Spatial, asked directly; stage 2 has no such question",
        task="coco_spatial_direct_vertical",
        metric="side_accuracy",
    ),
    Figure(
        flat="above_below_icl_acc",
        title="Above or below, two examples",
        note="the same, after two worked examples",
        task="coco_spatial_icl_vertical",
        metric="side_accuracy",
    ),
)
DEMO_TASKS = frozenset(figure.task for figure in FIGURES if figure.task)
BASELINE_GOAL = 0.15  # acc50 on blank and on shuffled images must stay at or below


def figure_value(scores: dict[str, Any], figure: Figure, images: str = "real") -> float | None:
    """A figure of one evaluation, under real, blank or shuffled images, or for the centre box; None if not
    run.
    """
    if images == "centre":
        centre = scores["tasks"].get(figure.task, {}).get("centre_box", {})
        return _number(centre.get(figure.metric))
    if not figure.task:
        return _number(scores["flat"].get(figure.flat)) if images == "real" else None
    name = figure.task if images == "real" else f"{figure.task}.{images}"
    return _number(scores["tasks"].get(name, {}).get("scores", {}).get(figure.metric))


def asks_what_the_demo_asks(tasks: Iterable[str]) -> bool:
    """Whether a run was asked what the demo's report is about."""
    return not {"locpred", "absent", "revloc"}.isdisjoint(tasks)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def is_met(figure: Figure, value: float) -> bool:
    """Whether a value reaches the figure's goal; there must be one."""
    assert figure.goal is not None
    return value <= figure.goal if figure.at_most else value >= figure.goal
