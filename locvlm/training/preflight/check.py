"""The preflight as a whole: a survey of the data, a short run, the exchange between ranks, the disk."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from transformers import TrainingArguments

from locvlm import dist
from locvlm.data.loader import StepLoader
from locvlm.model.locvlm import LocVLM
from locvlm.runs import RunFolder
from locvlm.training.checkpoint import last_checkpoint
from locvlm.training.plan.flops import Load, flops_by_direction, total_flops
from locvlm.training.plan.settings import RunConfig, TrainingSettings, read_settings, scope_of
from locvlm.training.plan.shapes import StageName, shape_of
from locvlm.training.preflight.machine import Exchange, RankSpeed, time_exchange, time_products
from locvlm.training.preflight.survey import NUM_STEPS, StepFacts, Survey, gather, spread, survey
from locvlm.training.preflight.trial import (
    MemoryPeak,
    Trial,
    build,
    choose_steps,
    free,
    memory_peak,
    read_rows,
    started,
    summarise,
    train_and_save,
    trial_config,
    trial_folder,
)
from locvlm.training.preview import describe_batch
from locvlm.training.stages.run import train

EXCHANGE_BYTES = {"cuda": 256 * 2**20, "cpu": 16 * 2**20}
_MOST_STEPS = 2  # of a trial that are the heaviest; the others stand for the run


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the run's configuration and machine set."""

    settings: TrainingSettings
    num_steps: int  # of the run
    max_row_tokens: int  # that packing allows
    max_position: int  # of the model
    max_dropped_fraction: float
    max_checkpoints_bytes: float  # 0: none
    missing_adapter: str  # the one to start from, if it is not there yet
    free_disk_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What a preflight found, on the main process."""

    limits: Limits
    survey: Survey
    tried: tuple[StepFacts, ...]  # steps of the trial, in order
    trial: Trial
    flops_per_token: float
    memory: tuple[MemoryPeak, ...]  # of each rank
    speeds: tuple[RankSpeed, ...]
    exchange: Exchange | None
    first_batch: str

    @property
    def hours(self) -> float:
        """Of the run: its mean step at the trial's pace, and saving."""
        limits, tokens = self.limits, fmean(facts.tokens for facts in self.survey.steps)
        saves = 1 + limits.settings.num_saves(limits.num_steps)
        seconds = limits.num_steps * tokens / self.trial.tokens_per_s + saves * self.trial.save_s
        return seconds / 3600

    @property
    def flops_per_rank(self) -> float:
        """Operations that each rank executes in a second."""
        return self.flops_per_token * self.trial.tokens_per_s / len(self.speeds)

    @property
    def disk_bytes(self) -> float:
        """Of the run folder at its fullest: kept checkpoints, one that is written, the final weights."""
        limits, one = self.limits, self.trial.checkpoint_bytes
        kept = one * limits.settings.num_kept(limits.num_steps)
        if limits.max_checkpoints_bytes:
            kept = min(kept, max(int(limits.max_checkpoints_bytes), one))
        return kept + one + self.trial.weight_bytes


def run_preflight(config: RunConfig, stage: StageName, *, num_steps: int) -> Findings | None:
    """Everything, in a folder that is gone afterwards; None but on the main process. Every rank calls this.

    Raises:
        ValueError: for too few steps, and whatever the run itself would refuse at its start.
        RuntimeError: if a step does not fit into memory, or its loss is no number.
    """
    if num_steps < 3:
        raise ValueError(f"--steps must be at least 3 (the last is trained twice), got {num_steps}")
    short = trial_config(config, num_steps)
    with started(short) as (args, run):
        built = build(short, stage, args, run)
        device, model = args.device, built.model
        limits = _limits(config, model, built.loader)
        found = survey(built.loader.builder, spread(limits.num_steps, NUM_STEPS))
        if not found.steps:
            raise ValueError(f"no step of the run can be made: {found.problems[0]}")
        order = _order(found, num_steps)
        choose_steps(built.loader, order)
        first_batch = describe_batch(built.loader.builder.build(0, dist.rank()).batches[0], built.tokenizer)
        flops = _flops_per_token(config, stage, model, found)
        save_s = train_and_save(built.trainer, run, num_steps)
        memory, speeds = gather(memory_peak()), gather(time_products(device))
        exchange = time_exchange(EXCHANGE_BYTES[device.type], device)
        rows = read_rows(run) if dist.is_main() else []
        del built, model
        free()

        again_s = _train_last_step_again(short, stage, args, run, order)
        if not dist.is_main():
            return None
        folder = last_checkpoint(run.path)
        assert folder is not None, "the trial has saved one"
        repeated = read_rows(run)
        reload_s = again_s - repeated[-1]["step_s"]
        trial = summarise(rows, repeated, folder, save_s=save_s, reload_s=reload_s)
        return Findings(
            limits=limits,
            survey=found,
            tried=tuple(facts for step in order for facts in found.steps if facts.step == step),
            trial=trial,
            flops_per_token=flops,
            memory=tuple(memory),
            speeds=tuple(speeds),
            exchange=exchange,
            first_batch=first_batch,
        )


def _limits(config: RunConfig, model: LocVLM, loader: StepLoader) -> Limits:
    settings = read_settings(config.training, shape_of(model.config))
    mixture, adapter = loader.builder.mixture, config.model.adapter
    by_epochs = math.ceil(mixture.epoch_draws * settings.epochs / mixture.conversations_per_step)
    return Limits(
        settings=settings,
        num_steps=settings.max_steps or by_epochs,
        max_row_tokens=config.packing.max_row_tokens,
        max_position=model.text_spec.max_position,
        max_dropped_fraction=config.data.max_dropped_fraction,
        max_checkpoints_bytes=1e9 * config.faults.max_checkpoints_gb,
        missing_adapter=adapter if adapter is not None and not Path(adapter).exists() else "",
        free_disk_bytes=shutil.disk_usage(trial_folder(config)).free,
    )


def _order(found: Survey, num_steps: int) -> tuple[int, ...]:
    """Steps of the trial: the heaviest first, since they show what does not fit, then some from all over."""
    heaviest = found.heaviest
    first, rest = heaviest[:_MOST_STEPS], sorted(heaviest[_MOST_STEPS:])
    chosen = [rest[i] for i in spread(len(rest), num_steps - len(first))] if rest else []
    return (*first, *chosen)


def _flops_per_token(config: RunConfig, stage: StageName, model: LocVLM, found: Survey) -> float:
    """Operations of a step for each of its tokens, in the mean of what was surveyed."""
    facts: Sequence[StepFacts] = found.steps
    is_dense = config.model.attn_implementation in ("sdpa", "eager")
    load = Load(
        rows=1,
        row_tokens=sum(f.slots for f in facts),
        images=sum(f.images for f in facts),
        videos=sum(f.videos for f in facts),
        frames=0 if config.data.video_cache else model.spec.num_frames * sum(f.videos for f in facts),
        targets=sum(f.targets for f in facts),
        pairs=sum(f.dense_pairs if is_dense else f.pairs for f in facts),
    )
    scope = scope_of(config, stage)
    checkpointing = bool(config.training.get("gradient_checkpointing"))
    flops = flops_by_direction(shape_of(model.config), load, scope, checkpointing=checkpointing)
    return total_flops(flops) / sum(f.tokens for f in facts)


def _train_last_step_again(
    short: RunConfig, stage: StageName, args: TrainingArguments, run: RunFolder, order: tuple[int, ...]
) -> float:
    """Build everything anew and go on from the trial's checkpoint; the seconds that all of it took."""
    start = time.perf_counter()
    args.deepspeed_plugin = None  # a second trainer shares the first one's, and may not be given it again
    again = build(short, stage, args, run)
    choose_steps(again.loader, order)
    train(again.trainer, run)  # from the newest checkpoint, as a run that was killed
    return time.perf_counter() - start
