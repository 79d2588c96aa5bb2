"""`profile.steps`: what a few steps of a run spend their time on, as a table and as a trace.

    RUN/profile/parts.txt, parts.json   seconds a step by part, taken without the tracer, which would slow it
    RUN/profile/trace.json.gz           every operator and kernel of a few steps more; chrome://tracing and
                                        https://ui.perfetto.dev open it as it is

The main process alone looks, at itself. The steps compute what they always compute.
"""

import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from locvlm.io import atomic_writer, write_json
from locvlm.training.arguments import ProfileConfig
from locvlm.training.profiling.timeline import PARTS, Part, Timeline, watch, watch_forward

if TYPE_CHECKING:
    from locvlm.training.trainer import LocVLMTrainer

logger = logging.getLogger(__name__)

FOLDER, TRACE = "profile", "trace.json.gz"  # of a run


class StepProfiler(TrainerCallback):
    """Looks at `config.steps` steps after the first `config.after`, then traces as many, then is gone.

    `trainer` is set by the trainer that it is given to.
    """

    trainer: "LocVLMTrainer"

    def __init__(self, config: ProfileConfig, *, run: Path) -> None:
        self._config, self._folder = config, run / FOLDER
        self._first: int | None = None  # step at which this start of the run began; None: not looking
        self._watched = ExitStack()
        self._timeline: Timeline | None = None
        self._tracer: Any = None

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Look, unless a run that goes on has too few steps left."""
        left = state.max_steps - state.global_step
        if left >= self._config.num_steps:
            self._first = state.global_step
        else:
            words = "no profile: %d steps are left, profile.steps %d after %d takes %d"
            logger.warning(words, left, self._config.steps, self._config.after, self._config.num_steps)

    def on_step_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """The data has come."""
        if self._timeline is not None:
            self._timeline.resume("data wait", at_most_s=self.trainer.meter.last_wait_s)

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Start to look, go on to trace, stop."""
        if self._first is None:
            return
        if self._timeline is not None:
            self._timeline.pause()
        num_done = state.global_step - self._first
        if num_done == self._config.after:
            self._look()
        elif num_done == self._config.after + self._config.steps:
            self._write_parts(last_step=state.global_step)
            self._trace()
        elif self._tracer is not None:
            self._tracer.step()  # after the last of its steps, it calls _write_trace

    def on_train_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Let go, where a run ends in between: told to leave, say."""
        self._watched.close()
        if self._tracer is not None:
            self._tracer.on_trace_ready = None
            self._tracer.stop()

    # ---- table

    def _look(self) -> None:
        trainer = self.trainer
        self._timeline = timeline = Timeline(trainer.args.device)
        if trainer.is_deepspeed_enabled:  # its engine steps within `backward`
            stepping = watch(trainer.model_wrapped, "step", timeline, "optimizer", before="backward")
        else:  # what comes before is clipping
            stepping = watch(trainer.optimizer, "step", timeline, "optimizer", before="optimizer")
        self._watched.enter_context(watch_forward(trainer.core, timeline))
        self._watched.enter_context(stepping)
        self._watched.enter_context(watch(trainer.accelerator, "backward", timeline, "backward"))
        timeline.resume()
        timeline.pause()

    def _write_parts(self, *, last_step: int) -> None:
        assert self._timeline is not None
        num_steps = self._config.steps
        seconds = {part: total / num_steps for part, total in self._timeline.read().items()}
        self._timeline = None
        self._watched.close()
        text = parts_table(seconds)
        logger.info("the %d steps up to step %d:\n%s", num_steps, last_step, text)
        values = {"steps": num_steps, "last_step": last_step, "seconds_per_step": seconds}
        write_json(self._folder / "parts.json", values)
        with atomic_writer(self._folder / "parts.txt") as file:
            file.write(text + "\n")

    # ---- trace

    def _trace(self) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        schedule = torch.profiler.schedule(wait=0, warmup=1, active=self._config.steps, repeat=1)
        self._tracer = torch.profiler.profile(
            activities=activities, schedule=schedule, on_trace_ready=self._write_trace
        )
        self._tracer.start()

    def _write_trace(self, tracer: Any) -> None:
        self._tracer = None
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f"unfinished_{TRACE}"
        tracer.export_chrome_trace(str(unfinished))
        os.replace(unfinished, self._folder / TRACE)
        logger.info("wrote %s: %d steps", self._folder / TRACE, self._config.steps)


def parts_table(seconds: dict[Part, float]) -> str:
    """Seconds a step and share of every part, one a line."""
    whole = sum(seconds.values())
    rows = [(part, seconds[part]) for part in PARTS] + [("a step", whole)]
    return "\n".join(f"  {name:15} {took:8.4f} s  {took / max(whole, 1e-12):6.1%}" for name, took in rows)
