"""A short run in a folder beside the real one: train, save, read again, and train the last step once more."""

import gc
import logging
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from locvlm import dist
from locvlm.data.loader import StepLoader
from locvlm.data.tokenize import load_tokenizer
from locvlm.io import read_jsonl
from locvlm.model.adapter import load_adapter
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.runs import RunFolder
from locvlm.training import checkpoint
from locvlm.training.arguments import Stage1Config, Stage3Config
from locvlm.training.plan.settings import RunConfig
from locvlm.training.plan.shapes import StageName
from locvlm.training.preflight.survey import ChosenSteps
from locvlm.training.stages.data import open_steps
from locvlm.training.stages.model import choose_parts, choose_weights, open_model
from locvlm.training.stages.run import make_trainer, train
from locvlm.training.stages.start import start
from locvlm.training.stages.video import open_features, settle_video
from locvlm.training.trainer import LocVLMTrainer

logger = logging.getLogger(__name__)

SUFFIX = ".preflight"  # of the folder, after the run's own name


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a short run showed, on the main process."""

    losses: tuple[float, ...]
    repeated_loss: float  # of the last step, trained again from the checkpoint before it
    step_s: float  # the median, without the first step
    tokens_per_s: float
    data_wait_fraction: float  # of the time
    save_s: float
    reload_s: float  # model, data and checkpoint, from nothing
    checkpoint_bytes: int
    weight_bytes: int  # of these, what the final weights take as well


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPeak:
    """Of one rank."""

    rank: int
    used_bytes: int  # CUDA: by tensors; CPU: by the process
    reserved_bytes: int  # by the allocator, from the device
    total_bytes: int  # of the device; 0 on a CPU


@dataclass(frozen=True)
class Built:
    """A stage, ready to train."""

    model: LocVLM
    tokenizer: PreTrainedTokenizerBase
    loader: StepLoader
    trainer: LocVLMTrainer


def trial_config(config: RunConfig, num_steps: int) -> RunConfig:
    """The run's configuration, but short, in the trial's folder, saving when it is told to."""
    training = {
        name: value
        for name, value in config.training.items()
        if name not in ("resume_from_checkpoint", "num_train_epochs", "run_name")
    }
    changes: dict[str, Any] = {
        "output_dir": str(trial_folder(config)),
        "max_steps": num_steps,
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }
    data = replace(config.data, max_dropped_fraction=1.0)  # the survey counts; here it must not end the trial
    return replace(config, training={**training, **changes}, data=data)


def trial_folder(config: RunConfig) -> Path:
    """Beside the run's, so that it is the same disk."""
    run = Path(str(config.training["output_dir"]))
    return run.with_name(run.name + SUFFIX)


@contextmanager
def started(config: RunConfig) -> Iterator[tuple[TrainingArguments, RunFolder]]:
    """Ranks joined, the folder made; removed at the end, however it comes.

    Raises:
        ValueError: if the folder stands already, and as `start`.
    """
    folder = Path(config.training["output_dir"])
    if dist.is_main() and folder.exists():
        raise ValueError(
            f"{folder} stands already: another preflight is running, or one was killed; then remove it"
        )
    try:
        yield start(config)
    finally:
        if dist.is_main():
            shutil.rmtree(folder, ignore_errors=True)


def build(config: RunConfig, stage: StageName, args: TrainingArguments, run: RunFolder) -> Built:
    """Model, data and trainer, as the programs of train/ put them together."""
    tokenizer = load_tokenizer(config.model.checkpoint)
    conversation = config.data.conversation
    is_video = isinstance(config, Stage3Config)
    model = open_model(
        config.model, config.coords, args, conversation=None if stage == "stage1" else conversation
    )
    if isinstance(config, Stage3Config):
        settle_video(model, config.video, checkpoint_name=config.model.checkpoint)
    if config.model.adapter is not None and Path(config.model.adapter).exists():
        load_adapter(model, config.model.adapter)
    parts, weights = _what_trains(config, model, tokenizer, seed=args.seed)
    freeze(model, train=parts)
    features = open_features(config, model, args) if isinstance(config, Stage3Config) else None
    loader = open_steps(
        config.data,
        config.packing,
        args,
        model=model,
        tokenizer=tokenizer,
        takes_videos=is_video,
        features=features,
    )
    trainer = make_trainer(
        model,
        args,
        loader=loader,
        weights=weights,
        run=run,
        optimizer=config.optimizer,
        faults=config.faults,
    )
    return Built(model=model, tokenizer=tokenizer, loader=loader, trainer=trainer)


def _what_trains(
    config: RunConfig, model: LocVLM, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> tuple[tuple[str, ...], checkpoint.Weights]:
    """The parts for `freeze`, and how checkpoints are written."""
    if isinstance(config, Stage1Config):
        return ("adapter",), checkpoint.AdapterWeights()
    return choose_parts(config, model, seed=seed), choose_weights(config, tokenizer)


def choose_steps(loader: StepLoader, order: tuple[int, ...]) -> None:
    """Have the loader begin with these steps of the run."""
    fields = {name: getattr(loader.builder, name) for name in loader.builder.__dataclass_fields__}
    loader.builder = ChosenSteps(**fields, order=order)


def train_and_save(trainer: LocVLMTrainer, run: RunFolder, num_steps: int) -> float:
    """Train `num_steps`, with a checkpoint before the last; the seconds that it took to save it.

    Raises:
        RuntimeError: if a step does not fit into the device's memory.
    """
    save = _SaveOnce(num_steps - 1)
    trainer.add_callback(save)
    try:
        train(trainer, run)
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"step {trainer.state.global_step + 1} of the trial does not fit into the device's memory; the "
            f"steps with the longest rows come first. Take fewer rows in a pass "
            f"(training.per_device_train_batch_size), training.gradient_checkpointing, or a ZeRO stage that "
            f"divides more: scripts/plan.py compares them. {error}"
        ) from error
    return save.seconds


def free() -> None:
    """Give back what a trainer held, before the next one is built."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def memory_peak() -> MemoryPeak:
    """Of this rank, since it was started."""
    if torch.cuda.is_available():
        return MemoryPeak(
            rank=dist.rank(),
            used_bytes=torch.cuda.max_memory_allocated(),
            reserved_bytes=torch.cuda.max_memory_reserved(),
            total_bytes=torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory,
        )
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # Linux counts in KiB
    return MemoryPeak(rank=dist.rank(), used_bytes=resident, reserved_bytes=resident, total_bytes=0)


def read_rows(run: RunFolder) -> list[dict[str, Any]]:
    """What the main process has logged of the steps."""
    return [row for _, row in read_jsonl(run.path / "metrics.jsonl") if "loss" in row]


def summarise(
    rows: list[dict[str, Any]],
    repeated: list[dict[str, Any]],
    folder: Path,
    *,
    save_s: float,
    reload_s: float,
) -> Trial:
    """The trial from its logged rows, those of the repetition, and the checkpoint's folder."""
    settled = rows[1:] or rows  # the first step compiles, allocates, opens files
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Trial(
        losses=tuple(row["loss"] for row in rows),
        repeated_loss=repeated[-1]["loss"],
        step_s=median(row["step_s"] for row in settled),
        tokens_per_s=sum(row["tokens_per_s"] * row["step_s"] for row in settled)
        / sum(row["step_s"] for row in settled),
        data_wait_fraction=sum(row["data_wait_s"] for row in settled) / sum(row["step_s"] for row in settled),
        save_s=save_s,
        reload_s=reload_s,
        checkpoint_bytes=sum(path.stat().st_size for path in files),
        weight_bytes=sum(path.stat().st_size for path in files if path.suffix == ".safetensors"),
    )


class _SaveOnce(TrainerCallback):
    """Has a checkpoint written after one step, and takes the time."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._start = self.seconds = 0.0

    def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        if state.global_step == self._step:
            control.should_save = True
            self._start = time.perf_counter()

    def on_save(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        self.seconds = time.perf_counter() - self._start
