"""Which answers the demo's report shows: scenes drawn at random, and the worst answers of each kind."""

import random
from dataclasses import dataclass

from locvlm.evals.metrics import Judged, box_iou, exact_name
from locvlm.evals.parse import Absent, Unanswered, Unreadable
from locvlm.evals.reports.demo import Report
from locvlm.geometry import Box

NUM_SCENES = 24


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
