"""The steps of a run, one after the other: what one rank feeds to its model, micro-batch by micro-batch.

The main process draws, and sends a step's draws to the worker that prepares it: permutations of the data sets
exist once for each rank, and the memory of a worker does not grow with the data.
"""

import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from locvlm.data.mixture import Draw, Mixture
from locvlm.data.quarantine import Quarantine
from locvlm.data.steps import StepBuilder, StepItem
from locvlm.io import Ledger

_ENOUGH_TO_JUDGE = 1000  # conversations before the share of dropped ones is compared with its limit as it is


class StepLoader:
    """Iterates over the micro-batches of one rank, from `first_step` to the end of the run.

    Its length is the number of micro-batches of the whole run: `num_steps` x accumulation. `num_workers`
    processes prepare whole steps ahead; their number changes nothing about the result.

    Args:
        quarantine: is told every conversation that this rank drops.
        num_steps: steps of the run, or
        epochs: passes over the mixture; the last step is shorter if they do not divide. Every conversation of
            a source with weight 1 then comes exactly `epochs` times.

    Raises:
        ValueError: while iterating, once more than `max_dropped_fraction` of the conversations was dropped:
            images or videos that cannot be read, malformed records, what is longer than a row or cut away.
            For the first 1000 it is a share of those 1000 (or of the run, if it is shorter), so that one bad
            image does not stop a run at once, and a wrong image folder does.
    """

    def __init__(
        self,
        builder: StepBuilder,
        *,
        rank: int = 0,
        num_steps: int | None = None,
        epochs: float | None = None,
        num_workers: int = 0,
        max_dropped_fraction: float = 0.0,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.num_steps, max_conversations = _run_length(builder.mixture, num_steps, epochs)
        self.builder = replace(builder, max_conversations=max_conversations)
        self.rank = rank
        self.num_workers = num_workers
        self.max_dropped_fraction = max_dropped_fraction
        self.quarantine = quarantine
        self.ledger = Ledger("training data")  # conversations of this rank
        self.num_left_out = 0  # queries of all ranks whose objects the frame cuts
        self.first_step = 0

    def __len__(self) -> int:
        return self.num_steps * self.builder.shape.accumulation

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.num_workers:  # forked tokenizers are serial anyway; unset, each worker warns about it
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        items = DataLoader(
            _Steps(self.builder, self.rank),
            batch_size=None,
            sampler=_Draws(self.builder, range(self.first_step, self.num_steps)),
            num_workers=self.num_workers,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # or it would draw from the global one, and resumed runs differ
            worker_init_fn=_outlive_warnings,
        )
        for item in items:
            self._account_for(item)
            yield from item.batches

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which the mixture is seen once."""
        mixture = self.builder.mixture
        return mixture.epoch_draws / mixture.conversations_per_step

    def ids_of_step(self, step: int) -> list[str]:
        """The conversations that a step (from 0) is made of."""
        return [sample.id for sample in self.builder.samples(step)]

    def seek(self, step: int) -> None:
        """Let the next iteration start at `step` (optimizer steps, from 0). Reads nothing.

        Raises:
            ValueError: if the run has no such step.
        """
        if not 0 <= step <= self.num_steps:
            raise ValueError(f"cannot go to step {step} of a run with {self.num_steps} steps")
        self.first_step = step

    def state_dict(self, step: int) -> dict[str, Any]:
        """The state after `step` optimizer steps, as plain JSON values."""
        return self.builder.mixture.state(step)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where a saved run stopped; any number of ranks and workers may go on from there.

        Raises:
            ValueError: if seed, sources or conversations per step are not those of the saved run.
        """
        self.builder.mixture.require_same_order(state)
        self.seek(state["step"])

    def _account_for(self, item: StepItem) -> None:
        for dropped in item.dropped:
            self.ledger.drop(dropped.sample_id, dropped.reason, dropped.detail)
            if self.quarantine is not None:
                self.quarantine.add(dropped, step=item.step + 1)
        self.ledger.keep(item.num_kept)
        self.num_left_out += item.num_left_out
        shape, mixture = self.builder.shape, self.builder.mixture
        planned = self.num_steps * mixture.conversations_per_step / shape.world_size
        seen = self.ledger.num_kept + self.ledger.num_dropped
        allowed = self.max_dropped_fraction * max(seen, min(planned, _ENOUGH_TO_JUDGE))
        if self.ledger.num_dropped > allowed:
            self.ledger.require_dropped_at_most(self.max_dropped_fraction)


def _outlive_warnings(worker: int) -> None:
    """Have a worker go on when all of a run's processes are told to leave: its rank decides when that is."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class _Draws(Sampler[tuple[int, list[Draw]]]):
    """(step, its draws) of every step; iterated over in the main process."""

    def __init__(self, builder: StepBuilder, steps: range) -> None:
        self.builder = builder
        self.steps = steps

    def __iter__(self) -> Iterator[tuple[int, list[Draw]]]:
        for step in self.steps:
            yield step, self.builder.draws(step)

    def __len__(self) -> int:
        return len(self.steps)


class _Steps(Dataset[StepItem]):
    def __init__(self, builder: StepBuilder, rank: int) -> None:
        self.builder = builder
        self.rank = rank

    def __getitem__(self, step_and_draws: tuple[int, list[Draw]]) -> StepItem:
        step, draws = step_and_draws
        return self.builder.build(step, self.rank, draws)


def _unchanged(item: Any) -> Any:
    return item


def _run_length(mixture: Mixture, num_steps: int | None, epochs: float | None) -> tuple[int, int | None]:
    """(steps, conversations at which the last one ends or None for a full one)."""
    if (num_steps is None) == (epochs is None):
        raise ValueError(f"expected either num_steps or epochs, got {num_steps} and {epochs}")
    if num_steps is not None:
        if mixture.last_step is not None and num_steps > mixture.last_step:
            raise ValueError(
                f"the run has {num_steps} steps, but every source ends by step {mixture.last_step}; "
                f"leave until_step of one source empty"
            )
        return num_steps, None
    if mixture.has_schedule:
        raise ValueError("sources with from_step or until_step have no epoch; give the number of steps")
    total = round(mixture.epoch_draws * float(epochs or 0))
    if total < 1:
        raise ValueError(f"epochs must be greater than 0, got {epochs}")
    return math.ceil(total / mixture.conversations_per_step), total
