"""Whether the exports of a video model answer as its checkpoint: RUN/eval_export of the demo."""

from dataclasses import dataclass
from pathlib import Path

from locvlm.evals.asking.store import read_predictions

FOLDER = "eval_export"
CHECKPOINT = "checkpoint"  # folder of its answers; beside it one for each export


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Answers of an export beside those of the checkpoint to the same questions."""

    export: str  # "video", for clips, or "stock", for images
    same: int
    asked: int

    @property
    def share(self) -> float:
        """Of answers that are the same."""
        return self.same / self.asked


def compare_exports(run: Path) -> list[Compared]:
    """Each export that was asked anything that the checkpoint was asked, too; none without such a folder."""
    folders = sorted(path.parent for path in (run / FOLDER).glob("*/predictions"))
    return [
        compared
        for folder in folders
        if folder.name != CHECKPOINT and (compared := _compare(folder, run / FOLDER / CHECKPOINT)) is not None
    ]


def exports_line(compared: list[Compared]) -> str:
    """ "exports answer as the checkpoint: video 24 of 24, stock 31 of 31"."""
    counts = ", ".join(f"{c.export} {c.same} of {c.asked}" for c in compared)
    return f"exports answer as the checkpoint: {counts}"


def _compare(export: Path, checkpoint: Path) -> Compared | None:
    same = asked = 0
    for path in sorted((export / "predictions").glob("*.jsonl")):
        beside = checkpoint / "predictions" / path.name
        if not beside.is_file():
            continue
        expected = {row.id: row.answer for row in read_predictions(beside)}
        for row in read_predictions(path):
            if row.id in expected:
                asked += 1
                same += row.answer == expected[row.id]
    return Compared(export=export.name, same=same, asked=asked) if asked else None
