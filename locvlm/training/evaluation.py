"""A small evaluation every so many steps, by a function that the program passes in; the best weights stay."""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback

from locvlm.dist import is_main
from locvlm.io import read_json, write_json
from locvlm.model.locvlm import LocVLM
from locvlm.training.arguments import EvaluationConfig
from locvlm.training.checkpoint import Weights
from locvlm.training.throughput import StepMeter

logger = logging.getLogger(__name__)

BEST = "best"  # folder of a run
_RECORD = "best.json"


class Trains(Protocol):
    """What an evaluation needs of the trainer that it is given to."""

    meter: StepMeter
    weights: Weights
    accelerator: Any

    def save_complete(self, name: str, add: Callable[[Path], None]) -> None:
        """Write the weights as RUN/NAME, by every rank; `add` writes more into the folder."""


Evaluate = Callable[[LocVLM, int], dict[str, float]]  # (model, step) -> scores; called on every rank


class PeriodicEvaluation(TrainerCallback):
    """Calls `evaluate` every `config.every_steps` steps and after the last one.

    Scores become a row of metrics.jsonl. With `config.keep_best_on`, RUN/best holds the weights that scored
    most, written as checkpoints are, or by `weights`. Training is not disturbed: random numbers are as if
    there had been no evaluation.
    """

    trainer: Trains  # set by the trainer that it is given to

    def __init__(
        self,
        config: EvaluationConfig,
        evaluate: Evaluate,
        *,
        run: Path,
        metrics: Callable[..., None],
        weights: Weights | None = None,
    ) -> None:
        self._config = config
        self._evaluate = evaluate
        self._run = run
        self._metrics = metrics
        self._weights = weights

    def on_step_end(self, args, state, control, model=None, **kwargs):  # type: ignore[no-untyped-def]
        """Evaluate if it is time to."""
        if state.global_step % self._config.every_steps and state.global_step < state.max_steps:
            return
        python_state = random.getstate()
        with self.trainer.meter.paused(), torch.random.fork_rng(), torch.no_grad():
            model.eval()
            scores = self._evaluate(model, state.global_step)
            model.train()
            random.setstate(python_state)
            logger.info(
                "step %d: %s", state.global_step, ", ".join(f"{k} {v:.3f}" for k, v in scores.items())
            )
            if is_main():
                self._metrics(
                    step=state.global_step, **{f"eval/{name}": value for name, value in scores.items()}
                )
            if self._config.keep_best_on:
                self._keep_if_best(scores, state.global_step)

    def _keep_if_best(self, scores: dict[str, float], step: int) -> None:
        name = self._config.keep_best_on
        if name not in scores:
            raise ValueError(
                f"evaluation.keep_best_on: no score {name!r}; the tasks give {', '.join(scores)}"
            )
        record = self._run / BEST / _RECORD
        best = read_json(record)["value"] if record.is_file() else float("-inf")
        self.trainer.accelerator.wait_for_everyone()  # everybody has read it before it is replaced
        if scores[name] <= best:
            return
        description: dict[str, Any] = {"score": name, "value": scores[name], "step": step}
        usual = self.trainer.weights
        self.trainer.weights = self._weights or usual
        try:
            self.trainer.save_complete(BEST, lambda folder: write_json(folder / _RECORD, description))
        finally:
            self.trainer.weights = usual
