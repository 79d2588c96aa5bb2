"""What a plan reads from a run's configuration: TrainingArguments by name, and the DeepSpeed file."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import LlavaConfig, TrainingArguments

from locvlm.config import load_config, read_yaml
from locvlm.io import read_json
from locvlm.training.arguments import Stage1Config, Stage2Config, Stage3Config, check_training
from locvlm.training.plan.memory import Precision, Zero
from locvlm.training.plan.shapes import ModelShape, Scope, StageName, shape_of

RunConfig = Stage1Config | Stage2Config | Stage3Config
_BUCKET = 500_000_000  # DeepSpeed's own defaults, in values
_MAX_LIVE = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """Of `training` and of the file that `training.deepspeed` names."""

    rows_per_pass: int
    passes: int
    precision: Precision
    checkpointing: bool
    zero: Zero
    max_steps: int  # 0: by epochs
    epochs: float
    save_strategy: str  # no, steps or epoch
    save_steps: float  # below 1, a fraction of the run
    save_total_limit: int | None
    problems: tuple[str, ...] = ()  # contradictions between the two

    def num_saves(self, num_steps: int) -> int:
        """Checkpoints that a run of so many steps writes."""
        if self.save_strategy == "epoch":
            return math.ceil(self.epochs)
        if self.save_strategy != "steps" or self.save_steps <= 0:
            return 0
        every = self.save_steps if self.save_steps >= 1 else math.ceil(self.save_steps * num_steps)
        return int(num_steps // every)

    def num_kept(self, num_steps: int) -> int:
        """Of these, those that stay."""
        written, limit = self.num_saves(num_steps), self.save_total_limit
        return written if limit is None else min(written, limit)


def load_stage_config(argv: Sequence[str], stage: str | None = None) -> tuple[StageName, RunConfig]:
    """The configuration of a stage, and which stage it is: as told, else 3 where something is said that it
    alone knows (`trains`, `video`), else 1 for plain captions."""
    if stage == "3" or (stage is None and _is_about_videos(argv)):
        return "stage3", load_config(Stage3Config, argv)
    config = load_config(Stage2Config, argv)  # has all keys of stage 1
    if stage == "2" or (stage is None and config.data.conversation != "plain"):
        return "stage2", config
    return "stage1", load_config(Stage1Config, argv)


def scope_of(config: RunConfig, stage: StageName) -> Scope:
    """What a configuration lets train."""
    if isinstance(config, Stage3Config):
        return Scope(stage=stage, lora=config.lora, is_adapter_alone=config.trains == "adapter")
    return Scope(stage=stage, lora=config.lora if isinstance(config, Stage2Config) else None)


def shape_of_run(config: RunConfig, model: LlavaConfig) -> ModelShape:
    """The model's sizes, with the frames of a video as the run sees them.

    Raises:
        ValueError: if a run on videos and its checkpoint do not say how many there are.
    """
    shape = shape_of(model)
    if not isinstance(config, Stage3Config):
        return shape
    frames = config.video.num_frames or shape.num_frames
    if not frames:
        raise ValueError(
            "neither video.num_frames nor the checkpoint says by how many frames a video is seen"
        )
    return replace(shape, num_frames=frames, pad_frames=config.video.pad_frames or shape.pad_frames)


def _is_about_videos(argv: Sequence[str]) -> bool:
    arguments = list(argv)
    path = arguments[arguments.index("--config") + 1] if "--config" in arguments[:-1] else None
    said = set(read_yaml(path)) if path is not None else set()
    said |= {word[2:].partition(".")[0].partition("=")[0] for word in arguments if word.startswith("--")}
    return bool(said & {"trains", "video"})


def read_settings(training: dict[str, Any], shape: ModelShape) -> TrainingSettings:
    """The settings, with TrainingArguments' defaults for what is left out.

    Raises:
        ValueError: for an unknown argument, or a DeepSpeed file that is not there.
    """
    values = {**_defaults(), **check_training(training)}
    deepspeed = _read_deepspeed(values["deepspeed"])
    is_bf16 = bool(values["bf16"])
    precision: Precision = "fp32" if not is_bf16 else ("bf16" if deepspeed else "autocast")
    return TrainingSettings(
        rows_per_pass=values["per_device_train_batch_size"],
        passes=values["gradient_accumulation_steps"],
        precision=precision,
        checkpointing=bool(values["gradient_checkpointing"]),
        zero=zero_of(deepspeed, shape),
        max_steps=max(values["max_steps"], 0),
        epochs=float(values["num_train_epochs"]),
        save_strategy=str(getattr(values["save_strategy"], "value", values["save_strategy"])),
        save_steps=values["save_steps"],
        save_total_limit=values["save_total_limit"],
        problems=tuple(_contradictions(deepspeed, values)),
    )


def zero_of(deepspeed: dict[str, Any], shape: ModelShape) -> Zero:
    """What of a DeepSpeed config memory depends on. `auto` is what transformers puts there."""
    section = deepspeed.get("zero_optimization", {})
    stage = int(section.get("stage", 0))
    bucket = section.get("reduce_bucket_size", _BUCKET)
    return Zero(
        stage=stage,
        offload_optimizer=_is_offloaded(section.get("offload_optimizer")),
        offload_param=_is_offloaded(section.get("offload_param")),
        accumulate_fp32=deepspeed.get("data_types", {}).get("grad_accum_dtype") == "fp32",
        communicate_fp32=deepspeed.get("communication_data_type") == "fp32",
        reduce_bucket=shape.width**2 if bucket == "auto" else int(float(bucket)),
        overlap=bool(section.get("overlap_comm", stage == 3)),
        max_live=int(float(section.get("stage3_max_live_parameters", _MAX_LIVE))),
    )


def _defaults() -> dict[str, Any]:
    """TrainingArguments' own, without making one: that would join ranks."""
    fields = dataclasses.fields(TrainingArguments)
    return {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}


def _read_deepspeed(config: str | dict[str, Any] | None) -> dict[str, Any]:
    if not config:
        return {}
    if isinstance(config, dict):
        return config
    if not Path(config).is_file():
        raise ValueError(f"training.deepspeed names no file: {config!r}, from {Path.cwd()}")
    content: dict[str, Any] = read_json(config)
    return content


def _is_offloaded(section: dict[str, Any] | None) -> bool:
    return section is not None and section.get("device", "none") != "none"


def _contradictions(deepspeed: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Numbers in the DeepSpeed file that are not the run's."""
    pairs = {
        "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
        "gradient_accumulation_steps": "gradient_accumulation_steps",
    }
    return [
        f"the DeepSpeed config's {theirs} is {deepspeed[theirs]}, training.{ours} is {values[ours]}: "
        f'write "auto" there'
        for theirs, ours in pairs.items()
        if deepspeed.get(theirs, "auto") not in ("auto", values[ours])
    ]
