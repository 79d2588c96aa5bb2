"""Names the rank that is behind when no step ends any more.

A rank that hangs makes all others wait in a collective operation, whose time-out names nobody. Every rank
keeps a heartbeat in RUN/heartbeats: its last finished step, what it does since, and when it was
last alive. So a frozen process and one that waits for its data can be told from those that wait for them.
"""

import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from locvlm.dist import is_main, rank, world_size
from locvlm.io import read_json, write_json

logger = logging.getLogger(__name__)

FOLDER = "heartbeats"  # of a run
DATA, COMPUTING = "waits for data", "computes"


class Watchdog(TrainerCallback):
    """Writes this rank's heartbeat; on the main process, logs all of them once no step has ended for long.

    Args:
        stalled_after_s: seconds without a step before that, and again after as many; 0 never looks.
    """

    def __init__(self, run: Path, *, stalled_after_s: float) -> None:
        self._folder, self._limit_s = run / FOLDER, stalled_after_s
        self._row: dict[str, Any] = {"rank": rank(), "host": socket.gethostname(), "process": os.getpid()}
        self._last_step = time.monotonic()
        self._done = threading.Event()

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Start looking; not at what an earlier start left."""
        (self._folder / f"rank-{rank()}.json").unlink(missing_ok=True)
        self._note(state.global_step, DATA)
        if self._limit_s:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def on_step_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """The data has come."""
        self._note(state.global_step, COMPUTING)

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """This rank is well."""
        self._note(state.global_step, DATA)
        self._last_step = time.monotonic()

    def on_train_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Stop looking."""
        self._done.set()

    def _note(self, step: int, doing: str) -> None:
        self._row = {**self._row, "step": step, "doing": doing}

    def _watch(self) -> None:
        while not self._done.wait(self._limit_s / 8):
            write_json(self._folder / f"rank-{rank()}.json", {**self._row, "alive": time.time()})
            if is_main() and time.monotonic() - self._last_step > self._limit_s:
                found = describe_heartbeats(self._folder, num_ranks=world_size(), quiet_s=self._limit_s / 2)
                logger.error("no step for %.0f s: %s", self._limit_s, found)
                self._last_step = time.monotonic()


def describe_heartbeats(folder: Path, *, num_ranks: int, quiet_s: float) -> str:
    """What every rank does and since when nothing was heard of it, the one to look at first.

    That is one of which nothing was heard for `quiet_s` longer than of others, or which waits for its data.
    """
    now = time.time()
    rows = [read_json(path) for path in folder.glob("rank-*.json")]
    rows = [row for row in rows if row["rank"] < num_ranks]  # an earlier start may have had more
    newest = max(row["alive"] for row in rows)
    rows.sort(
        key=lambda row: (newest - row["alive"] < quiet_s, row["step"], row["doing"] != DATA, row["rank"])
    )
    return "; ".join(
        f"rank {row['rank']} on {row['host']} (process {row['process']}) {row['doing']} after step "
        f"{row['step']}, last heard of {now - row['alive']:.0f} s ago"
        for row in rows
    )
