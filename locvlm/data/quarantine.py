"""Which conversations a run dropped, and why: RUN/quarantine-rank0.jsonl, a file for each rank.

    {"step": 17, "id": "000123", "source": "cc3m_595k", "reason": "unreadable image", "detail": "..."}

`step` counts from 1, as in metrics.jsonl. A conversation that is dropped in two epochs has two lines.
"""

import re
from pathlib import Path
from typing import NamedTuple

from locvlm.log import MetricsWriter

_NAME = "quarantine-rank{rank}.jsonl"
_RANK = re.compile(r"quarantine-rank(\d+)\.jsonl")


class Dropped(NamedTuple):
    """One conversation that a step went without."""

    sample_id: str
    source: str  # name of the source
    reason: str  # one of a few fixed phrases
    detail: str


class Quarantine:
    """Appends what one rank drops to its file in the run's folder, at once."""

    def __init__(self, run: Path, *, rank: int = 0, world_size: int = 1) -> None:
        self._run, self._rank, self._world_size = run, rank, world_size
        self._writer = MetricsWriter(run / _NAME.format(rank=rank))

    def add(self, dropped: Dropped, *, step: int) -> None:
        """Append one conversation of optimizer step `step`, from 1."""
        sample_id, source, reason, detail = dropped
        self._writer.write(step=step, id=sample_id, source=source, reason=reason, detail=detail)

    def rewind(self, step: int) -> None:
        """Remove the lines after `step`, as a run does that resumes from it. Every rank has to call this.

        The first rank also does so in the files of ranks that the run no longer has.
        """
        self._writer.rewind(step)
        if self._rank == 0:
            for path in self._run.glob(_NAME.format(rank="*")):
                if (match := _RANK.fullmatch(path.name)) and int(match[1]) >= self._world_size:
                    MetricsWriter(path).rewind(step)
