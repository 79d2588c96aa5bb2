"""A run folder -> what the demo's report shows: scores of every checkpoint, curves, timings.

`locvlm/evals/pages/demo.py` writes it as one HTML page; `flat_scores` is the same in numbers, for programs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locvlm.evals.asking.store import PredictionMeta, predictions_path
from locvlm.evals.judged import Judged
from locvlm.evals.reports.answers import evaluation_folders
from locvlm.evals.reports.demo_figures import FIGURES, figure_value
from locvlm.evals.score import judge_file, score_folder
from locvlm.evals.task import Task
from locvlm.io import read_json, read_jsonl


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The scores and judged answers of one checkpoint."""

    label: str
    scores: dict[str, Any]  # as in scores.json
    judged: dict[str, list[Judged]]  # by task, real images
    metas: dict[str, PredictionMeta]  # by task

    @property
    def meta(self) -> PredictionMeta:
        """Of the last task: what is the same for all of them."""
        return [*self.metas.values()][-1]


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


def read_evaluation(folder: Path, label: str, tasks: Sequence[Task]) -> Evaluation:
    """Judge and score the predictions of one folder."""
    judged: dict[str, list[Judged]] = {}
    metas: dict[str, PredictionMeta] = {}
    for task in tasks:
        path = predictions_path(folder, task.predictions_name, "real")
        if path.exists():
            metas[task.name], judged[task.name] = judge_file(path, task)
    if not metas:
        raise ValueError(f"no predictions on real images in {folder}; run eval/run.py with --images real")
    return Evaluation(label=label, scores=score_folder(folder, tasks), judged=judged, metas=metas)


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
