"""A run folder -> what its report shows: scores of every checkpoint, curves, timings, chosen scenes and
failures.

`locvlm/evals/pages/report.py` writes it as one HTML page; `flat_scores` is the same in numbers, for programs.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locvlm.evals.metrics import Judged, box_iou, exact_name
from locvlm.evals.parse import Absent, Unanswered, Unreadable
from locvlm.evals.score import judge_file, score_folder
from locvlm.evals.store import PredictionMeta, predictions_path
from locvlm.evals.task import Task
from locvlm.geometry import Box
from locvlm.io import read_json, read_jsonl


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
BASELINE_GOAL = 0.15  # acc50 on blank and on shuffled images must stay at or below
NUM_SCENES = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The scores and judged answers of one checkpoint."""

    label: str
    scores: dict[str, Any]  # as in scores.json
    judged: dict[str, list[Judged]]  # by task, real images
    meta: PredictionMeta


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One logged quantity of one training run."""

    label: str
    name: str
    points: list[tuple[float, float]]  # (step, value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All that the page shows."""

    title: str
    evaluations: list[Evaluation]  # in training order, the last one is what the report is about
    curves: list[Curve]
    seconds: dict[str, float]  # phase -> wall-clock seconds
    image_root: Path
    seed: int = 0
    about: dict[str, str] = field(default_factory=dict)  # versions, commit

    @property
    def main(self) -> Evaluation:
        """The evaluation that the page is about."""
        return self.evaluations[-1]


def collect(
    run: Path,
    tasks: Sequence[Task],
    *,
    seconds: Path | None = None,
    image_root: Path | None = None,
    seed: int = 0,
) -> Report:
    """Everything a run folder holds: `eval/` or `eval/<label>/`, `*/metrics.jsonl`, timings.

    Raises:
        ValueError: if there are no predictions below `run/eval`.
    """
    folders = evaluation_folders(run)
    evaluations = [read_evaluation(folder, label, tasks) for label, folder in folders.items()]
    curves = [curve for path in sorted(run.glob("*/metrics.jsonl")) for curve in read_curves(path)]
    timings = seconds or run / "seconds.json"
    return Report(
        title=run.resolve().name,
        evaluations=evaluations,
        curves=curves,
        seconds=read_seconds(timings) if timings.exists() else {},
        image_root=image_root or Path(evaluations[-1].meta.image_root),
        seed=seed,
        about=read_about(run),
    )


def evaluation_folders(run: Path) -> dict[str, Path]:
    """Label -> folder of every evaluation of a run, in name order."""
    root = run / "eval"
    if (root / "predictions").is_dir():
        return {"training": root}
    folders = {path.name: path for path in sorted(root.glob("*")) if (path / "predictions").is_dir()}
    if not folders:
        raise ValueError(f"no predictions below {root}; run eval/run.py with --output-dir {root} first")
    return folders


def read_evaluation(folder: Path, label: str, tasks: Sequence[Task]) -> Evaluation:
    """Judge and score the predictions of one folder."""
    judged, meta = {}, None
    for task in tasks:
        path = predictions_path(folder, task.predictions_name, "real")
        if path.exists():
            meta, judged[task.name] = judge_file(path, task)
    if meta is None:
        raise ValueError(f"no predictions on real images in {folder}; run eval/run.py with --images real")
    return Evaluation(label=label, scores=score_folder(folder, tasks), judged=judged, meta=meta)


def read_curves(path: Path) -> list[Curve]:
    """Loss and, where logged, the in-training localisation score from a metrics.jsonl."""
    wanted = {"loss": "loss", "eval/locpred_acc50": "finds it (small evaluation)"}
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
    for _, row in read_jsonl(path):
        for name in wanted:
            if isinstance(row.get(name), int | float) and "step" in row:
                points[name].append((float(row["step"]), float(row[name])))
    return [
        Curve(label=path.parent.name, name=title, points=points[name])
        for name, title in wanted.items()
        if points[name]
    ]


def read_seconds(path: Path) -> dict[str, float]:
    """Phase -> seconds.

    Raises:
        ValueError: if the file holds anything else than numbers by name.
    """
    values = read_json(path)
    if not isinstance(values, dict) or not all(isinstance(v, int | float) for v in values.values()):
        raise ValueError(f"{path} must map phase names to seconds, got {values!r}")
    return {str(name): float(value) for name, value in values.items()}


def read_about(run: Path) -> dict[str, str]:
    """Versions and commit of the latest training run below `run`, where it wrote them."""
    files = sorted(run.glob("*/environment.json"))
    if not files:
        return {}
    values = read_json(files[-1])
    flat = {**values, **values.get("packages", {})}
    names = ("locvlm", "commit", "python", "torch", "transformers", "deepspeed")
    return {name: str(flat[name]) for name in names if flat.get(name)}


def flat_scores(report: Report) -> dict[str, float]:
    """The figures of the last checkpoint under their flat names, and `seconds_<phase>`."""
    flat = dict(report.main.scores["flat"])
    flat.update({f"seconds_{phase}": value for phase, value in report.seconds.items()})
    return flat


def is_right(task: str, row: Judged) -> bool:
    """Whether an answer counts as right in the galleries."""
    if task == "absent":
        return isinstance(row.reading, Absent)
    if task == "revloc":
        return exact_name([row]) == 1.0
    return box_iou(row) >= 0.5


def choose_scenes(report: Report, number: int = NUM_SCENES) -> list[str]:
    """Ids of `number` scenes drawn with the report's seed from all that were asked about: not picked by
    result.
    """
    ids = sorted(
        {row.prediction.record_id for row in report.main.judged.get("locpred", []) if row.prediction.image}
    )
    return random.Random(f"scenes/{report.seed}").sample(ids, min(number, len(ids)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """The worst answers of one kind."""

    title: str
    total: int  # how many there are
    asked: int  # of how many questions
    shown: list[tuple[str, Judged]]  # (task, answer)


def choose_failures(report: Report, number: int = 6) -> list[Failures]:
    """The worst answers of each kind: lowest IoU first, then by id."""
    judged = report.main.judged

    def pick(title: str, task: str, wrong: list[Judged]) -> Failures:
        ordered = sorted(
            wrong, key=lambda row: (box_iou(row) if task == "locpred" else 0.0, row.prediction.id)
        )
        shown = [(task, row) for row in ordered if row.prediction.image][:number]
        return Failures(title=title, total=len(wrong), asked=len(judged.get(task, [])), shown=shown)

    locpred, absent, revloc = (judged.get(name, []) for name in ("locpred", "absent", "revloc"))
    boxes = [row for row in locpred if isinstance(row.reading, Box) and box_iou(row) < 0.5]
    unreadable = [
        (t, row) for t in ("locpred", "absent", "revloc") for row in judged.get(t, []) if _is_lost(row)
    ]
    kinds = [
        pick("A box in the wrong place", "locpred", boxes),
        pick(
            "There, but called absent", "locpred", [row for row in locpred if isinstance(row.reading, Absent)]
        ),
        pick("Absent, but given a box", "absent", [row for row in absent if isinstance(row.reading, Box)]),
        pick(
            "Called something else",
            "revloc",
            [r for r in revloc if not is_right("revloc", r) and not _is_lost(r)],
        ),
        Failures(
            title="Could not be read",
            total=len(unreadable),
            asked=len(locpred) + len(absent) + len(revloc),
            shown=[(task, row) for task, row in unreadable if row.prediction.image][:number],
        ),
    ]
    return [kind for kind in kinds if kind.total]


def _is_lost(row: Judged) -> bool:
    return isinstance(row.reading, Unreadable | Unanswered)


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


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def is_met(figure: Figure, value: float) -> bool:
    """Whether a value reaches the figure's goal; there must be one."""
    assert figure.goal is not None
    return value <= figure.goal if figure.at_most else value >= figure.goal


def columns(report: Report) -> list[tuple[str, Evaluation, str]]:
    """(heading, evaluation, images) of the comparison table: every checkpoint, the last one's baselines."""
    result = [(f"after {e.label}", e, "real") for e in report.evaluations]
    for images, heading in (
        ("blank", "blank image"),
        ("shuffled", "shuffled images"),
        ("centre", "centre box"),
    ):
        if any(figure_value(report.main.scores, f, images) is not None for f in FIGURES):
            result.append((heading, report.main, images))
    return result


def terminal_table(report: Report) -> str:
    """The comparison table as text."""
    heads = columns(report)
    lines = [f"{'':<30}" + "".join(f"{head[:15]:>17}" for head, _, _ in heads) + f"{'goal':>10}"]
    for figure in FIGURES:
        values = [figure_value(e.scores, figure, images) for _, e, images in heads]
        if all(value is None for value in values):
            continue
        goal = "" if figure.goal is None else f"{'≤' if figure.at_most else '≥'} {figure.goal:.2f}"
        cells = "".join(f"{'-' if value is None else f'{value:.3f}':>17}" for value in values)
        lines.append(f"{figure.title:<30}{cells}{goal:>10}")
    lines += [f"{phase:<30}{seconds:>15.0f} s" for phase, seconds in report.seconds.items()]
    return "\n".join(lines)
