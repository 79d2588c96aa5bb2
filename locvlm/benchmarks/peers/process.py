"""Each way in a process of its own, so that its peak memory is its own; it goes on when it is told to."""

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from locvlm.benchmarks.peers.workload import OURS, Workload

if TYPE_CHECKING:
    from locvlm.benchmarks.peers.way import Way


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a way says when it is through."""

    first_loss: float  # of the first step, before it
    slots: int
    tokens: int
    supervised: int
    images: int
    start_bytes: int  # resident before the first step: libraries, weights
    peak_bytes: int

    @property
    def padding_fraction(self) -> float:
        """Of the slots, those without a token."""
        return 1 - self.tokens / self.slots


class WayProcess:
    """A training that stops after every `steps_per_turn` steps until it is told to go on."""

    def __init__(self, way: str, work: Workload, *, steps_per_turn: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.way = way
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_train, args=(way, work, steps_per_turn, theirs))
        self._process.start()
        theirs.close()  # or the end of the process would not be seen

    def wait(self) -> Any:
        """What it says next.

        Raises:
            RuntimeError: if it has ended instead.
        """
        try:
            return self._ours.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"{self.way} ended with status {self._process.exitcode}; what it said is above"
            ) from None

    def turn(self) -> None:
        """Have it go on, and wait until it has."""
        self._ours.send("go on")
        self.wait()

    def close(self) -> None:
        """End it, if it has not ended."""
        self._ours.close()
        self._process.kill()
        self._process.join()


@contextmanager
def started(ways: Sequence[str], work: Workload, *, steps_per_turn: int) -> Iterator[dict[str, WayProcess]]:
    """A process of each way, about to make its first step."""
    processes: dict[str, WayProcess] = {}
    try:
        for way in ways:
            processes[way] = WayProcess(way, work, steps_per_turn=steps_per_turn)
        for process in processes.values():
            process.wait()
        yield processes
    finally:
        for process in processes.values():
            process.close()


def _train(way: str, work: Workload, steps_per_turn: int, parent: Connection) -> None:
    """The whole life of a process."""
    from locvlm.benchmarks.peers.way import Counts, memory_bytes

    logging.disable(logging.INFO)
    disable_progress_bar()
    built, counts = _build(way, work), Counts()
    counts.watch(built.trainer.model)  # type: ignore[arg-type]  # there is one
    built.trainer.remove_callback(PrinterCallback)
    built.trainer.add_callback(_Turns(parent, steps_per_turn))
    start_bytes = memory_bytes("VmRSS")
    built.train()
    first_loss = next(row["loss"] for row in built.trainer.state.log_history if "loss" in row)
    found = Found(
        first_loss=first_loss, start_bytes=start_bytes, peak_bytes=memory_bytes("VmHWM"), **vars(counts)
    )
    parent.send(found)


def _build(way: str, work: Workload) -> "Way":
    """Imports here, so that a process holds no library that another way needs."""
    if way == OURS:
        from locvlm.benchmarks.peers.ours import build as build_ours

        return build_ours(work, way)
    if way.startswith("trainer"):
        from locvlm.benchmarks.peers.padded import build as build_padded

        return build_padded(work, way, grouped=way == "trainer_grouped")
    from locvlm.benchmarks.peers.trl import build as build_trl

    return build_trl(work, way, as_on_gpu=way == "trl_as_on_gpu")


class _Turns(TrainerCallback):
    """Waits for its turn, before the first step's data are read and after each turn's last step."""

    def __init__(self, parent: Connection, steps_per_turn: int) -> None:
        self._parent = parent
        self._steps_per_turn = steps_per_turn

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._parent.send("ready")
        self._parent.recv()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self._steps_per_turn == 0:
            self._parent.send("done")
            if state.global_step < state.max_steps:
                self._parent.recv()
