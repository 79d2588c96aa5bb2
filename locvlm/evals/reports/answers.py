"""The judged answers of a run, task by task: what tables, comparisons and examples are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from locvlm.evals.asking.store import PredictionMeta, predictions_path
from locvlm.evals.judged import Judged
from locvlm.evals.judging.attach import describe_verdicts
from locvlm.evals.parse import Unanswered, Unreadable
from locvlm.evals.remarks import remarks
from locvlm.evals.score import judge_file
from locvlm.evals.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What a model answered to one task, about the real images."""

    task: Task
    meta: PredictionMeta
    rows: list[Judged]

    def counts(self) -> dict[str, int]:
        """asked = answered + failed; unreadable is the part of the answered ones that could not be read."""
        failed = sum(isinstance(row.reading, Unanswered) for row in self.rows)
        unreadable = sum(isinstance(row.reading, Unreadable) for row in self.rows)
        asked = len(self.rows)
        return {"asked": asked, "answered": asked - failed, "failed": failed, "unreadable": unreadable}

    def remarks(self) -> dict[str, int]:
        """How many are odd in which way."""
        return remarks(self.rows)

    def facts(self) -> dict[str, str]:
        """With what the answers were made, in words: every report says it."""
        judged = describe_verdicts(self.rows)
        return {
            "task": f"{self.task.name}, version {self.task.version}",
            "questions": self.meta.records,
            "model": self.meta.checkpoint,
            "weights": self.meta.fingerprint,
            "contract": ", ".join(f"{name} {value}" for name, value in self.meta.contract.items()),
            "decoding": self.meta.decoding,
            **({"judge": judged["name"]} if judged else {}),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One model's answers."""

    name: str  # the heading of its column
    folder: Path  # holds `predictions`
    answers: dict[str, Answers]  # by task


def read_run(folder: Path, tasks: Sequence[Task], *, name: str = "", judge: str = "") -> Run:
    """What a run folder, or the last evaluation in it by name, answered to those of the tasks it was asked.

    Args:
        name: the folder's own, if empty.
        judge: whose verdicts count, where several language models have judged.

    Raises:
        ValueError: if there are none, or they were made by another version of a task or are not complete.
    """
    *_, evaluated = evaluation_folders(folder).values()
    answers = {}
    for task in tasks:
        path = predictions_path(evaluated, task.predictions_name, "real")
        if path.exists():
            meta, rows = judge_file(path, task, by=judge)
            answers[task.name] = Answers(task=task, meta=meta, rows=rows)
    if not answers:
        raise ValueError(
            f"no predictions on real images in {evaluated} for any of {len(tasks)} tasks; "
            f"run eval/run.py with --images real, or name its tasks' folder with --task-dir"
        )
    return Run(name=name or folder.resolve().name, folder=evaluated, answers=answers)


def named_run(text: str, tasks: Sequence[Task], *, judge: str = "") -> Run:
    """`read_run` of "NAME=FOLDER", or of a folder alone."""
    name, _, folder = text.rpartition("=")
    return read_run(Path(folder), tasks, name=name, judge=judge)


def evaluation_folders(run: Path) -> dict[str, Path]:
    """Label -> folder of every evaluation of a run, in name order.

    Those are `run/eval`, or the folders in it, or what eval/run.py was given as --output-dir itself.

    Raises:
        ValueError: if there are no predictions.
    """
    root = run / "eval"
    if (root / "predictions").is_dir():
        return {"training": root}
    folders = {path.name: path for path in sorted(root.glob("*")) if (path / "predictions").is_dir()}
    if not folders and (run / "predictions").is_dir():
        return {run.resolve().name: run}
    if not folders:
        raise ValueError(f"no predictions below {root}; run eval/run.py with --output-dir {root} first")
    return folders
