"""Saved predictions -> scores with counts; needs no model and can be repeated at will.

scores.json  {"tasks": {"locpred": {..., "scores": {"acc50": 0.83, ...}, "breakdowns": {...}},
                        "locpred.blank": {...}},
              "flat": {"locpred_acc50": 0.83, ...}}
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from locvlm.coords.contract import CoordinateContract
from locvlm.evals.asking.store import (
    IMAGE_MODES,
    PredictionMeta,
    predictions_path,
    read_meta,
    read_predictions,
)
from locvlm.evals.judged import Judged, MetricUnavailable
from locvlm.evals.judging.attach import attach_verdicts, describe_verdicts, needs_verdicts
from locvlm.evals.metrics import BREAKDOWNS, CORPUS_METRICS, METRICS, centre_box_scores
from locvlm.evals.parse import PARSERS, About, Unanswered, Unreadable
from locvlm.evals.remarks import describe_remarks, remarks
from locvlm.evals.task import Task
from locvlm.records import Prediction

logger = logging.getLogger(__name__)

# Flat name -> (task, metric), on real images; the names that other programs read.
FLAT_SCORES = {
    "locpred_acc50": ("locpred", "acc50"),
    "locpred_miou": ("locpred", "miou"),
    "absent_acc": ("absent", "absent_fraction"),
    "present_acc": ("present", "acc50"),
    "revloc_acc": ("revloc", "exact_name"),
    "blank_acc50": ("locpred.blank", "acc50"),
    "shuffled_acc50": ("locpred.shuffled", "acc50"),
    "left_right_acc": ("coco_spatial_direct_horizontal", "side_accuracy"),
    "above_below_acc": ("coco_spatial_direct_vertical", "side_accuracy"),
    "left_right_icl_acc": ("coco_spatial_icl_horizontal", "side_accuracy"),
    "above_below_icl_acc": ("coco_spatial_icl_vertical", "side_accuracy"),
}
# Questions whose answers have one readable form; a side question has none, there a missing keyword is just
# wrong.
READABLE_TASKS = ("locpred", "absent", "revloc")


def judge(prediction: Prediction, *, parse: str, contract: CoordinateContract | None) -> Judged:
    """Read one answer; a location in the frame of the image that was asked about.

    Args:
        contract: None for models that write no locations.
    """
    if prediction.failed:
        return Judged(prediction=prediction, reading=Unanswered(prediction.failed))
    reading = PARSERS[parse](prediction.answer, About(gold=prediction.gold, contract=contract))
    if isinstance(reading, Unreadable) and not prediction.answer.strip():
        reading = Unreadable("empty answer")  # whatever the parser missed in it
    return Judged(
        prediction=prediction,
        reading=reading,
        says_several=parse == "location" and contract is not None and contract.count(prediction.answer) > 1,
    )


def score_rows(task: Task, rows: Sequence[Judged]) -> dict[str, Any]:
    """Counts, metrics and breakdowns of one task's judged answers.

    Returns:
        asked = answered + failed; unreadable is the part of the answered ones that could not be read.
        `unavailable` says which metrics could not be computed here, and why, `judge` which language model
        judged, `remarks` how many answers are odd in which way.
    """
    num_failed = sum(isinstance(row.reading, Unanswered) for row in rows)
    result: dict[str, Any] = {
        "asked": len(rows),
        "answered": len(rows) - num_failed,
        "failed": num_failed,
        "unreadable": sum(isinstance(row.reading, Unreadable) for row in rows),
        "scores": {},
        "breakdowns": {},
    }
    if found := remarks(rows):
        result["remarks"] = found
    if verdicts := describe_verdicts(rows):
        result["judge"] = verdicts
    result["scores"], unavailable = compute(task.metrics, rows)
    if unavailable:
        result["unavailable"] = unavailable
    of_groups = [name for name in task.metrics if name not in CORPUS_METRICS]
    for name in task.breakdowns:
        groups: dict[str, list[Judged]] = {}
        for row in rows:
            groups.setdefault(BREAKDOWNS[name](row), []).append(row)
        result["breakdowns"][name] = {
            group: {"asked": len(members), **compute(of_groups, members)[0]}
            for group, members in sorted(groups.items())
        }
    if "miou" in task.metrics:
        result["centre_box"] = centre_box_scores(rows)
    return result


def compute(names: Sequence[str], rows: Sequence[Judged]) -> tuple[dict[str, float], dict[str, str]]:
    """(the metrics that can be computed here, why the others cannot)."""
    values: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        try:
            values[name] = METRICS[name](rows)
        except MetricUnavailable as error:
            unavailable[name] = str(error)
    return values, unavailable


def judge_file(path: Path, task: Task, *, by: str = "") -> tuple[PredictionMeta, list[Judged]]:
    """All answers of a predictions file, read with the coordinate contract that it was made under; with the
    verdicts of a language model, where the task needs them and they are there.

    Args:
        by: name, version or model of the one that judged, where several have.

    Raises:
        ValueError: if the file was made by another version of the task, or is not complete.
    """
    meta = read_meta(path)
    if meta.version != task.version:
        raise ValueError(
            f"{path} holds answers to version {meta.version} of task {task.name}, this is version "
            f"{task.version}; remove the file and run eval/run.py again"
        )
    predictions = read_predictions(path)
    if len(predictions) != meta.num_questions:
        raise ValueError(
            f"{path} holds {len(predictions)} of {meta.num_questions} answers; run eval/run.py again to "
            f"complete it"
        )
    contract = CoordinateContract.from_dict(meta.contract) if meta.contract else None
    rows = [judge(p, parse=task.parse, contract=contract) for p in predictions]
    return meta, attach_verdicts(rows, path.parents[1], judge=by) if needs_verdicts(task) else rows


def score_folder(folder: Path, tasks: Sequence[Task], *, by: str = "") -> dict[str, Any]:
    """Scores of every task and image mode that has predictions in an evaluation folder.

    Args:
        by: the language model that judged, as for `judge_file`.

    Raises:
        ValueError: if there are no predictions at all.
    """
    scores: dict[str, Any] = {}
    for task in tasks:
        for images in IMAGE_MODES:
            path = predictions_path(folder, task.predictions_name, images)
            if not path.exists():
                continue
            meta, rows = judge_file(path, task, by=by)
            name = task.name if images == "real" else f"{task.name}.{images}"
            scores[name] = {
                "version": task.version,
                "paper": task.paper,
                "images": images,
                "checkpoint": meta.checkpoint,
                "contract": meta.contract,
                "decoding": meta.decoding,
                **score_rows(task, rows),
            }
    if not scores:
        raise ValueError(
            f"no predictions of {', '.join(t.name for t in tasks)} in {folder}; run eval/run.py first"
        )
    return {"tasks": scores, "flat": flatten(scores)}


def flatten(scores: dict[str, Any]) -> dict[str, float]:
    """The figures of the tasks that were run, by flat name; `parse_failures` over all readable tasks."""
    flat = {
        name: scores[task]["scores"][metric]
        for name, (task, metric) in FLAT_SCORES.items()
        if task in scores and metric in scores[task]["scores"]
    }
    readable = [scores[name] for name in READABLE_TASKS if name in scores]
    answered = sum(s["answered"] for s in readable)
    if answered:
        flat["parse_failures"] = sum(s["unreadable"] for s in readable) / answered
    if "centre_box" in scores.get("locpred", {}):
        flat["centre_box_acc50"] = scores["locpred"]["centre_box"]["acc50"]
    return flat


def format_table(scores: dict[str, Any]) -> str:
    """Scores as a text table for the terminal: one line per task and image mode."""
    lines = [f"{'task':<38} {'asked':>6} {'failed':>6} {'unread':>6}  scores"]
    for name, result in scores["tasks"].items():
        values = "  ".join(f"{metric} {value:.3f}" for metric, value in result["scores"].items())
        lines.append(
            f"{name:<38} {result['asked']:>6} {result['failed']:>6} {result['unreadable']:>6}  {values}"
        )
        lines += [f"{'':<38} no {metric}: {why}" for metric, why in result.get("unavailable", {}).items()]
        if "remarks" in result:
            lines.append(f"{'':<38} {describe_remarks(result['remarks'])}")
        if "judge" in result:
            who = result["judge"]
            lines.append(
                f"{'':<38} judged by {who['name']}; unreadable replies: {who['unreadable_replies']}, "
                f"without answer: {who['without_answer']}"
            )
    return "\n".join(lines)
