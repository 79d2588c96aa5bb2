"""What a training run is made of: our sections of the YAML file, and TrainingArguments by their own names.

model:    {checkpoint: runs/init}
data:     {conversations_per_step: 64, conversation: vicuna_v1, sources: [{name: coco, path: a.jsonl}]}
coords:   {codec: ivb}
packing:  {mode: shared_prefix}
training: {output_dir: runs/stage2, learning_rate: 2.0e-5, deepspeed: ds_configs/zero2.json}
"""

import dataclasses
import logging
import os
import socket
import sys
import typing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from locvlm.config import convert
from locvlm.data.mixture import Source
from locvlm.data.packing import PackingConfig
from locvlm.dist import expected_world_size, is_main, prepare_deepspeed_cpu, require_joined
from locvlm.geometry import CutPolicy
from locvlm.model.lora import LoraSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments

logger = logging.getLogger(__name__)

# Where ours differ from the library's. LocVLM section 4.1: AdamW, cosine, weight decay 0.
DEFAULTS: dict[str, Any] = {
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.0,
    "logging_steps": 1,
    "logging_first_step": True,
    "logging_nan_inf_filter": False,  # show a loss that is no number; the filter also waits for the device
    "report_to": "tensorboard",
    "ddp_find_unused_parameters": False,  # the model touches every parameter in every pass
}
_FIXED: dict[str, Any] = {
    "ignore_data_skip": True,  # our loader seeks instead
    "remove_unused_columns": False,
}
_SET_ELSEWHERE = {
    "dataloader_num_workers": "data.num_workers",
    "data_seed": "data.seed",
    "eval_strategy": "evaluation.every_steps",
    "eval_steps": "evaluation.every_steps",
    "load_best_model_at_end": "evaluation.keep_best_on",
    "metric_for_best_model": "evaluation.keep_best_on",
    "ignore_data_skip": "nothing: a resumed run always continues with the next step's data",
    "remove_unused_columns": "nothing: batches hold what the model takes",
    "use_liger_kernel": "model.liger_kernels: the library's own would replace how packed rows are computed",
    "auto_find_batch_size": "training.per_device_train_batch_size, in rows",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Where training starts."""

    checkpoint: str  # folder of scripts/init_checkpoint.py, of a stage, or a public LLaVA checkpoint
    adapter: str | None = None  # stage 2: the adapter that stage 1 left
    # tree: the same sums as sdpa, fewer of them; flex_attention: fewer still, on a GPU
    attn_implementation: Literal["sdpa", "eager", "tree", "flex_attention"] = "sdpa"
    liger_kernels: bool = False  # fused norm, MLP and rotary kernels of the package liger_kernel; need a GPU
    quantize: Literal["4bit"] | None = None  # of the frozen language model under LoRA (QLoRA); needs a GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What is trained on. A step is `conversations_per_step` images with all that is asked about each."""

    sources: tuple[Source, ...]
    conversations_per_step: int  # over all ranks and accumulation passes: the paper's batch size
    conversation: Literal["plain", "vicuna_v1", "llama2"]
    flip_probability: float = 0.0  # of mirroring an image, its boxes and its left/right words
    cut: CutPolicy = field(default_factory=CutPolicy)  # of boxes, by coords.frame crop
    max_dropped_fraction: float = 0.001  # of the conversations, before the run stops
    num_workers: int = 2  # processes that prepare steps ahead
    seed: int = 0  # of order, wording and flips
    video_cache: str | None = None  # stage 3: folder of scripts/cache_video_features.py
    video_cache_missing: Literal["compute", "refuse"] = "compute"  # features that the folder lacks

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(
                "data.sources is empty; name at least one file: {name: coco, path: records.jsonl}"
            )
        if self.conversations_per_step < 1:
            raise ValueError(
                f"data.conversations_per_step must be at least 1, got {self.conversations_per_step}"
            )
        for name in ("flip_probability", "max_dropped_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} must lie in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordsConfig:
    """How locations are written (LocVLM section 3.2) and what becomes of images that are not square.

    Left out, each is as the starting checkpoint says. The choice is stored in what the run saves.
    """

    codec: Literal["nfp", "ivb", "diga"] | None = None
    frame: Literal["stretch", "pad", "crop"] | None = None
    location: Literal["bbox", "point"] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoConfig:
    """How the model sees a video (LocVLM section 3.1 and App. D).

    Left out, each is as the starting checkpoint says, if it does. The choice is stored in what the run saves.
    """

    num_frames: int | None = None  # that every video is shown by; the paper's 100, or 8
    order: Literal["temporal_spatial", "spatial_temporal"] | None = None  # of a video's tokens
    pad_frames: int | None = None  # temporal tokens are filled up with zeros to so many; Video-ChatGPT: 100


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Which optimizer steps the matrices of adapter and language model's blocks; the rest has AdamW.

    Muon (locvlm/muon.py) learns faster per step when a small model is trained almost from scratch.
    """

    matrices: Literal["adamw", "muon"] = "adamw"
    muon_learning_rate: float | None = None  # left out, training.learning_rate

    def __post_init__(self) -> None:
        if self.muon_learning_rate is not None and self.matrices != "muon":
            raise ValueError(
                "optimizer.muon_learning_rate is set, but optimizer.matrices is adamw: set it to muon"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """A small evaluation during training; off unless `every_steps` is set."""

    every_steps: int = 0
    tasks: tuple[str, ...] = ("locpred",)  # names of eval/tasks/*.yaml
    data_root: str = "."  # folder of the record files that the tasks name
    image_root: str = "."  # folder of the images, or videos, that the records name
    num_questions: int = 100  # of each task
    keep_best_on: str = ""  # a score such as locpred_acc50: RUN/best holds the weights that reached most

    def __post_init__(self) -> None:
        if self.every_steps < 0 or self.num_questions < 1:
            raise ValueError(
                f"evaluation needs every_steps >= 0 and num_questions >= 1, got {self.every_steps} and "
                f"{self.num_questions}"
            )
        if self.keep_best_on and not self.every_steps:
            raise ValueError(
                "evaluation.keep_best_on needs evaluation.every_steps: how often to evaluate, in steps"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultConfig:
    """What a run does when something goes wrong; docs/faults.md shows each case."""

    on_bad_loss: Literal["stop", "skip", "ignore"] = "stop"  # a loss that is no number, or leaps
    spike_factor: float = 0.0  # a loss of so many times the usual (a median) is a leap; 0 looks for none
    spike_window: int = 50  # passes that the usual loss is taken from
    max_skipped: int = 10  # passes that `skip` may leave out, before the run stops
    stalled_after_s: float = 600.0  # without a step: name the rank that is behind; 0 never does
    max_checkpoints_gb: float = 0.0  # of all checkpoints of the run; the oldest go first; 0 sets no limit

    def __post_init__(self) -> None:
        if 0 < self.spike_factor <= 1:
            raise ValueError(f"faults.spike_factor must be above 1, or 0 for none, got {self.spike_factor}")
        for name in ("spike_factor", "max_skipped", "stalled_after_s", "max_checkpoints_gb"):
            if getattr(self, name) < 0:
                raise ValueError(f"faults.{name} must not be negative, got {getattr(self, name)}")
        if self.spike_window < 1:
            raise ValueError(f"faults.spike_window must be at least 1, got {self.spike_window}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileConfig:
    """Where the time goes: MFU in metrics.jsonl, and, on demand, RUN/profile (locvlm/training/profiling/)."""

    steps: int = 0  # to take apart, and as many again to trace; 0: none
    after: int = 5  # steps since the start, which compile and allocate
    peak_tflops: float = 0.0  # of one device, for mfu; 0: a known GPU's, dense bf16; a CPU has none

    def __post_init__(self) -> None:
        if self.steps < 0 or self.after < 1 or self.peak_tflops < 0:
            raise ValueError(
                f"profile needs steps >= 0, after >= 1 and peak_tflops >= 0, got {self.steps}, {self.after} "
                f"and {self.peak_tflops}"
            )

    @property
    def num_steps(self) -> int:
        """Of a run, until all is written: one warms up the tracer."""
        return self.after + self.steps + 1 + self.steps if self.steps else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage1Config:
    """Adapter pre-training on image-text pairs."""

    KEYS_ELSEWHERE: ClassVar = {
        "evaluation": "train/stage2.py",
        "lora": "train/stage2.py and train/stage3.py",
        "trains": "train/stage3.py",
        "video": "train/stage3.py",
    }
    model: ModelConfig
    data: DataConfig
    training: dict[str, Any]  # TrainingArguments
    coords: CoordsConfig = CoordsConfig()  # of this, stage 1 uses the frame
    packing: PackingConfig = field(default_factory=PackingConfig)
    optimizer: OptimizerConfig = OptimizerConfig()
    faults: FaultConfig = FaultConfig()
    profile: ProfileConfig = ProfileConfig()

    def __post_init__(self) -> None:
        _require_no_videos(self.data)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Config:
    """Instruction fine-tuning with objectives about locations, mixed with any LLaVA conversations."""

    KEYS_ELSEWHERE: ClassVar = {"trains": "train/stage3.py", "video": "train/stage3.py"}
    model: ModelConfig
    data: DataConfig
    training: dict[str, Any]  # TrainingArguments
    coords: CoordsConfig = CoordsConfig()
    packing: PackingConfig = field(default_factory=PackingConfig)
    evaluation: EvaluationConfig = EvaluationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    faults: FaultConfig = FaultConfig()
    profile: ProfileConfig = ProfileConfig()
    lora: LoraSettings | None = None  # left out, the language model trains whole

    def __post_init__(self) -> None:
        _require_no_videos(self.data)
        if self.model.quantize is not None and self.lora is None:
            raise ValueError(
                "model.quantize is set, but quantized weights cannot train: set lora.rank, or leave it out"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage3Config:
    """Videos: instructions about them, objectives over their frames, mixed with any image data."""

    model: ModelConfig
    data: DataConfig
    training: dict[str, Any]  # TrainingArguments
    trains: Literal["adapter", "adapter_and_llm"] = "adapter"  # LocVLM-Vid-B; Vid-B+
    video: VideoConfig = VideoConfig()
    coords: CoordsConfig = CoordsConfig()
    packing: PackingConfig = field(default_factory=PackingConfig)
    evaluation: EvaluationConfig = EvaluationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    faults: FaultConfig = FaultConfig()
    profile: ProfileConfig = ProfileConfig()
    lora: LoraSettings | None = None  # left out, the language model trains whole, if it does

    def __post_init__(self) -> None:
        if self.lora is not None and self.trains == "adapter":
            raise ValueError(
                "lora is set, but trains is adapter: set trains to adapter_and_llm, or leave lora out"
            )
        if self.model.quantize is not None and self.trains == "adapter_and_llm" and self.lora is None:
            raise ValueError(
                "model.quantize is set, but quantized weights cannot train: set lora.rank, or leave it out"
            )
        if self.data.video_cache is None and self.data.video_cache_missing == "refuse":
            raise ValueError(
                "data.video_cache_missing is refuse, but data.video_cache names no folder: make one with "
                "scripts/cache_video_features.py"
            )


def _require_no_videos(data: DataConfig) -> None:
    """Raise where stages 1 and 2 are given what stage 3 alone reads."""
    if data.video_cache is not None or any(source.video_root != "." for source in data.sources):
        raise ValueError(
            "data.video_cache and the video_root of a source are for stage 3 (train/stage3.py), this stage "
            "reads images: leave them out"
        )


def training_arguments(training: dict[str, Any]) -> "TrainingArguments":
    """TrainingArguments by name, and the ranks joined: what was asked to run together does, or stops here.

    Raises:
        ValueError: for an unknown argument (the nearest is named), a value of the wrong type, one of the few
            that are set elsewhere, or ranks that would train alone.
    """
    values = {**DEFAULTS, **check_training(training), **_FIXED}
    import torch
    from transformers import TrainingArguments

    if not torch.cuda.is_available():
        values.setdefault("use_cpu", True)  # or ranks silently train alone, and DeepSpeed is silently dropped
    if values.get("deepspeed"):
        _prepare_deepspeed(values["deepspeed"])
    values.setdefault("disable_tqdm", not (is_main() and sys.stderr.isatty()))
    arguments = TrainingArguments(**values)
    if arguments.deepspeed:
        import deepspeed

        deepspeed.init_distributed()  # on a CPU the library leaves it out, and ZeRO-3 counts one rank
    require_joined()
    if arguments.n_gpu > 1:
        logger.warning(
            "started as one process on a machine with %d GPUs: training on one of them. To use all: "
            "torchrun --nproc_per_node %d train/...",
            arguments.n_gpu,
            arguments.n_gpu,
        )
        arguments._n_gpu = 1  # or Trainer would split packed rows over them
    return arguments


def check_training(training: dict[str, Any]) -> dict[str, Any]:
    """The arguments with their values converted to the types that TrainingArguments declares.

    Raises:
        ValueError: as `training_arguments`.
    """
    from transformers import TrainingArguments

    hints = typing.get_type_hints(TrainingArguments)
    names = [item.name for item in dataclasses.fields(TrainingArguments) if item.init]
    if not training.get("output_dir"):
        raise ValueError("training.output_dir is missing: the folder of the run, such as runs/stage2")
    checked = {}
    for name, value in training.items():
        if name in _SET_ELSEWHERE:
            raise ValueError(f"training.{name} has no effect here; use {_SET_ELSEWHERE[name]}")
        if name not in names:
            nearest = get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"training.{name} is no argument of TrainingArguments; the nearest is {nearest!r}"
            )
        checked[name] = convert(hints[name], value, f"training.{name}")
    return checked


def _prepare_deepspeed(config: str | dict[str, Any]) -> None:
    """Check that the file exists; leave out what a CPU would compile; stand in for an absent launcher."""
    if isinstance(config, str) and not config.startswith("{") and not Path(config).is_file():
        raise ValueError(
            f"training.deepspeed names no file: {config!r}, from {Path.cwd()}; "
            f"the folder ds_configs holds some, such as ds_configs/zero2.json"
        )
    prepare_deepspeed_cpu()
    if expected_world_size() == 1:  # started with plain python: DeepSpeed would look for MPI
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        alone = {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        for name, value in alone.items():
            os.environ.setdefault(name, value)
