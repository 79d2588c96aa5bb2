"""Stops a run, or skips a micro-batch, when the loss is no number or leaps, before it reaches the weights."""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from locvlm.dist import is_main, sum_over_ranks
from locvlm.log import MetricsWriter
from locvlm.training.arguments import FaultConfig

logger = logging.getLogger(__name__)

BAD_BATCHES = "bad_batches.jsonl"  # file of a run
_ENOUGH = 10  # losses seen before a leap can be told


class BadLoss(RuntimeError):
    """The loss is no number, or a leap, and the run is to stop at that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The mean loss of one accumulation pass over all ranks, and what is wrong with it, or ""."""

    loss: float
    problem: str


class LossGuard:
    """Judges the loss of every accumulation pass, alike on all ranks.

    A pass that is found bad is written to RUN/bad_batches.jsonl with the ids of its step's conversations.
    `faults.on_bad_loss: stop` then ends the run with the weights as they were after the step before; `skip`
    leaves the pass out of its step, at most `faults.max_skipped` times.

    Args:
        run: the run's folder.
        ids_of_step: step (from 0) -> ids of its conversations.
    """

    def __init__(
        self, config: FaultConfig, *, run: Path, ids_of_step: Callable[[int], Sequence[str]]
    ) -> None:
        self._config, self._run, self._ids_of_step = config, run, ids_of_step
        self._recent: deque[float] = deque(maxlen=config.spike_window)
        self.num_skipped = 0

    @property
    def is_on(self) -> bool:
        """Whether losses are looked at: it costs one small sum over ranks a pass."""
        return self._config.on_bad_loss != "ignore"

    def judge(self, loss: torch.Tensor, inputs: dict[str, Any]) -> Judgement:
        """Look at one pass; every rank has to call this.

        Args:
            loss: this rank's share of the step's mean, a scalar.
            inputs: its batch, of which `target_weights` and `num_targets` are read.
        """
        weight = inputs["target_weights"].sum().to(loss.device, torch.float32)
        summed = sum_over_ranks(torch.stack([loss.detach().float() * inputs["num_targets"], weight]))
        total, weights = summed.tolist()
        mean = total / weights if weights else total
        if not math.isfinite(mean):
            return Judgement(loss=mean, problem=f"the loss is {mean}")
        factor, usual = self._config.spike_factor, median(self._recent or [mean])
        if factor and len(self._recent) >= _ENOUGH and mean > factor * usual:
            return Judgement(loss=mean, problem=f"the loss is {mean:.4g}, {mean / usual:.1f} x the usual")
        if weights:
            self._recent.append(mean)
        return Judgement(loss=mean, problem="")

    def report(self, judgement: Judgement, *, step: int) -> None:
        """Note a bad pass of step `step` (from 0). Returns if it is to be skipped.

        Raises:
            BadLoss: naming the step and what to do, if the run is to stop.
        """
        path = self._run / BAD_BATCHES
        is_last_straw = self._config.on_bad_loss == "stop" or self.num_skipped >= self._config.max_skipped
        self.num_skipped += 1
        if is_main():
            MetricsWriter(path).write(
                step=step + 1,
                loss=judgement.loss,
                problem=judgement.problem,
                is_skipped=not is_last_straw,
                sample_ids=list(self._ids_of_step(step)),
            )
        if not is_last_straw:
            logger.warning("step %d: %s; this pass is left out, see %s", step + 1, judgement.problem, path)
            return
        if self._config.on_bad_loss == "stop":
            fix = "look at the conversations, lower training.learning_rate, or set faults.on_bad_loss to skip"
        else:
            fix = f"{self._config.max_skipped} passes were skipped already, which faults.max_skipped allows"
        raise BadLoss(
            f"step {step + 1}: {judgement.problem}. Its conversations are in {path}, the weights are as they "
            f"were after step {step}; {fix}"
        )


def without_targets(inputs: dict[str, Any]) -> dict[str, Any]:
    """The batch as one that teaches nothing: black images, no weight on any target."""
    neutral = {**inputs, "target_weights": torch.zeros_like(inputs["target_weights"])}
    for name in ("pixel_values", "pooled_features"):
        if inputs.get(name) is not None:
            neutral[name] = torch.zeros_like(inputs[name])
    return neutral
