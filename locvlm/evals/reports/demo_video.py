"""What the demo's report says about clips: the video model's scores beside the image model's before it.

Evaluations lie in RUN/eval_video: those of the tasks video_* are of the model that sees whole clips, those of
video_*_frame of one that is shown the middle frame of each. Some tasks were also asked about blank clips and
about those of other questions: what can be said without seeing anything.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from locvlm.evals.asking.store import ImageMode
from locvlm.evals.judged import Judged
from locvlm.evals.reports.demo import Evaluation, read_evaluation
from locvlm.evals.reports.demo_exports import Compared, compare_exports, exports_line
from locvlm.evals.reports.demo_figures import Figure, figure_value, is_met
from locvlm.evals.task import Task

FOLDER = "eval_video"
FRAME = "_frame"  # ends the names of tasks that show the middle frame
NUM_CLIPS = 10
BASELINES: tuple[ImageMode, ...] = ("blank", "shuffled")
PHASES = ("clips", "video_data", "video_features", "stage3", "eval_video")  # of scripts/demo.py --video
MINUTES_GOAL = 15.0  # all of them together, from a checkpoint of stage 2

FIGURES = (
    Figure(
        flat="video_locpred_acc50",
        title="Finds what rests",
        note="asked where a resting object is, answers a box with IoU ≥ 0.5",
        task="video_locpred",
        metric="acc50",
        goal=0.70,
    ),
    Figure(
        flat="video_locpred_miou",
        title="Mean IoU",
        note="overlap of the answered box with the true one, 0 without a box",
        task="video_locpred",
        metric="miou",
    ),
    Figure(
        flat="video_absent_acc",
        title="Says it is absent",
        note="asked where an object is that no frame shows, says that there is none",
        task="video_absent",
        metric="absent_fraction",
        goal=0.85,
    ),
    Figure(
        flat="video_present_acc",
        title="Does not deny it",
        note="asked where a resting object is, answers a place rather than “there is none”",
        task="video_present",
        metric="location_fraction",
        goal=0.85,
    ),
    Figure(
        flat="video_revloc_acc",
        title="Names it",
        note="asked what is at a place, names the exact class",
        task="video_revloc",
        metric="exact_name",
        goal=0.80,
    ),
    Figure(
        flat="video_qa_acc",
        title="Says what happens",
        note="what moves, leaves, appears, and where to: the exact word",
        task="video_qa",
        metric="exact_match",
    ),
)
TASKS = frozenset(figure.task + suffix for figure in FIGURES for suffix in ("", FRAME))


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoReport:
    """All that the page shows of clips."""

    whole: Evaluation  # of the model that sees whole clips
    frame: Evaluation | None  # of one that sees their middle frames
    video_root: Path
    exports: list[Compared] = field(default_factory=list)
    seed: int = 0


def collect_video(
    run: Path, tasks: Sequence[Task], *, video_root: Path | None = None, seed: int = 0
) -> VideoReport | None:
    """What RUN/eval_video holds; None if no model was asked about whole clips.

    Of several, the last by name counts.
    """
    of_video = [task for task in tasks if task.name in TASKS]
    folders = sorted(path.parent for path in (run / FOLDER).glob("*/predictions"))
    evaluations = [read_evaluation(folder, folder.name, of_video) for folder in folders]
    whole = [e for e in evaluations if any(not name.endswith(FRAME) for name in e.judged)]
    frame = [e for e in evaluations if any(name.endswith(FRAME) for name in e.judged)]
    if not whole:
        return None
    return VideoReport(
        whole=whole[-1],
        frame=frame[-1] if frame else None,
        video_root=video_root or Path(whole[-1].meta.image_root),
        exports=compare_exports(run),
        seed=seed,
    )


def value_of(report: VideoReport, figure: Figure, *, is_frame: bool = False) -> float | None:
    """A figure of the video model, or of the image model on middle frames; None if it was not asked."""
    if not is_frame:
        return figure_value(report.whole.scores, figure)
    if report.frame is None:
        return None
    return figure_value(report.frame.scores, replace(figure, task=figure.task + FRAME))


def baselines_of(report: VideoReport, figure: Figure) -> dict[str, float]:
    """What the video model reaches shown blank clips, or those of other questions; {} if it was not asked."""
    found = {shown: figure_value(report.whole.scores, figure, shown) for shown in BASELINES}
    return {shown: value for shown, value in found.items() if value is not None}


def minutes_of(seconds: Mapping[str, float]) -> float | None:
    """What the phases about clips took; None if not all of them were timed."""
    if any(phase not in seconds for phase in PHASES):
        return None
    return sum(seconds[phase] for phase in PHASES) / 60


def flat_video_scores(report: VideoReport) -> dict[str, float]:
    """The figures under their flat names; those on middle frames, and on blank and on other clips, end so."""
    flat = {}
    for figure in FIGURES:
        for suffix in ("", FRAME):
            value = value_of(report, figure, is_frame=bool(suffix))
            if value is not None:
                flat[figure.flat + suffix] = value
        flat |= {f"{figure.flat}_{shown}": value for shown, value in baselines_of(report, figure).items()}
    return flat | {f"{compared.export}_export_same": compared.share for compared in report.exports}


def video_table(report: VideoReport) -> str:
    """The figures as text."""
    beside = f"{report.frame.label[:11]}, frame" if report.frame is not None else ""
    has_baselines = any(baselines_of(report, figure) for figure in FIGURES)
    titles = "".join(f"{shown:>10}" for shown in BASELINES) if has_baselines else ""
    lines = [f"{'clips':<30}{report.whole.label[:15]:>17}{beside:>19}{titles}{'goal':>10}"]
    for figure in FIGURES:
        value, of_frame = value_of(report, figure), value_of(report, figure, is_frame=True)
        if value is None:
            continue
        goal = "" if figure.goal is None else f"≥ {figure.goal:.2f}"
        frame = "" if report.frame is None else "-" if of_frame is None else f"{of_frame:.3f}"
        blind = baselines_of(report, figure)
        cells = "".join(f"{blind[s]:>10.3f}" if s in blind else f"{'-':>10}" for s in BASELINES)
        lines.append(f"{figure.title:<30}{value:>17.3f}{frame:>19}{cells if has_baselines else ''}{goal:>10}")
    return "\n".join([*lines, *([exports_line(report.exports)] if report.exports else [])])


def count_met(report: VideoReport) -> tuple[int, int]:
    """(goals that are met, goals)."""
    values = [(figure, value_of(report, figure)) for figure in FIGURES if figure.goal is not None]
    verdicts = [is_met(figure, value) for figure, value in values if value is not None]
    return sum(verdicts), len(verdicts)


def commonest_shares(report: VideoReport) -> dict[str, float]:
    """Kind of short question -> accuracy of always giving its commonest answer, which needs no model."""
    answers: dict[str, Counter[str]] = {}
    for row in report.whole.judged.get("video_qa", ()):
        counted = answers.setdefault(str(row.source.get("question_type") or "other"), Counter())
        counted[str(row.prediction.gold["answer"])] += 1
    return {kind: max(counted.values()) / counted.total() for kind, counted in answers.items()}


def choose_clips(report: VideoReport, number: int = NUM_CLIPS) -> list[str]:
    """`number` clips drawn with the report's seed from all that were asked about, not by the result."""
    rows: Iterable[Judged] = (row for rows in report.whole.judged.values() for row in rows)
    videos = sorted({row.prediction.image for row in rows if row.prediction.image})
    return random.Random(f"clips/{report.seed}").sample(videos, min(number, len(videos)))
