"""A run that is told to leave: SIGTERM and SIGUSR1 save a checkpoint after the step that is under way.

SLURM sends a signal some time before it takes a node away. The run then ends with the exit status
`PREEMPTED_EXIT_CODE` and leaves RUN/preempted.json, since launchers hide the status of their processes;
scripts/slurm/train.sbatch requeues on either.
"""

import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from transformers import TrainerCallback

from locvlm import dist
from locvlm.constants import PREEMPTED_EXIT_CODE
from locvlm.dist import is_main, sum_over_ranks
from locvlm.io import write_json

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
MARKER = "preempted.json"  # file of a run


class Preemption(TrainerCallback):
    """Ends training at the next step, with a checkpoint, once any rank was signalled."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._before: dict[signal.Signals, Any] = {}
        self._signal = 0
        self.has_come = False  # alike on all ranks

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """From here on there is something to save."""
        (self._run / MARKER).unlink(missing_ok=True)
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_train_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """As it was before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Agree with the other ranks, and have the trainer save and stop."""
        told = sum_over_ranks(torch.tensor(float(self._signal > 0), device=args.device))
        if not told.item():
            return
        self.has_come = True
        control.should_save = control.should_training_stop = True
        logger.warning("told to leave: saving after step %d", state.global_step)

    def leave(self, step: int) -> NoReturn:
        """End the process, after everything is on disk. Every rank has to call this.

        Raises:
            SystemExit: with `PREEMPTED_EXIT_CODE`.
        """
        if is_main():
            write_json(self._run / MARKER, {"step": step})
        dist.leave()
        raise SystemExit(PREEMPTED_EXIT_CODE)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signal = number  # the step under way is finished first
