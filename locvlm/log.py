"""Logging of a program and the metrics of a run. Importing this configures nothing."""

import json
import logging
import math
from pathlib import Path
from typing import Any

_FORMAT = "%(asctime)s %(levelname).1s {rank}%(name)s: %(message)s"


def setup_logging(rank: int = 0, *, level: int = logging.INFO) -> None:
    """Log to stderr: rank 0 from `level` on, other ranks warnings only, marked with their number."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(handler, "is_locvlm", False):
            root.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.is_locvlm = True  # type: ignore[attr-defined]  # a second call replaces only our own handler
    handler.setFormatter(
        logging.Formatter(_FORMAT.format(rank=f"[rank {rank}] " if rank else ""), "%H:%M:%S")
    )
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # libraries
    for name in ("locvlm", "__main__"):
        logging.getLogger(name).setLevel(level if rank == 0 else logging.WARNING)


class MetricsWriter:
    """Appends one JSON object per row to a file, at once, so that a run can be watched and survives a kill.

    Args:
        path: the file, usually `metrics.jsonl` of a run folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _cut_torn_line(self.path)

    def write(self, **row: Any) -> None:
        """Append a row; 0-d tensors become numbers, NaN and infinities null."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({key: _plain(value) for key, value in row.items()}, allow_nan=False) + "\n")

    def rewind(self, step: int) -> int:
        """Remove the rows after `step`, as a run does that resumes from it; returns how many."""
        from locvlm.io import read_jsonl, write_jsonl

        if not self.path.exists():
            return 0
        rows = [row for _, row in read_jsonl(self.path)]
        kept = [row for row in rows if row.get("step", 0) <= step]
        if len(kept) < len(rows):
            write_jsonl(self.path, kept)
        return len(rows) - len(kept)


def _cut_torn_line(path: Path) -> None:
    """Drop an unfinished last line, which a killed process leaves behind."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        path.write_bytes(data[: data.rfind(b"\n") + 1])


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # tensors and numpy scalars
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
