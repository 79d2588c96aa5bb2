"""The one training that all ways are given: its model, its data, its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from locvlm.data.mixture import Source
from locvlm.data.packing import PackingConfig
from locvlm.training.arguments import DEFAULTS, DataConfig, ModelConfig, Stage2Config

CONVERSATION: Final = "vicuna_v1"
ROW_TOKENS = 2048  # of a pass of ours
OURS, OTHERS = "ours", ("trainer", "trl")  # the ways that the goals are about
WAYS: Mapping[str, str] = {
    OURS: "train/stage2.py: rows filled, a prefix shared",
    "trainer": "(a) transformers' Trainer, padded",
    "trainer_grouped": "(a2) the same, grouped by length",
    "trl": "(b) TRL's SFTTrainer",
    "trl_as_on_gpu": "(b2) the same, its head at supervised rows",
}


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """A LLaVA small enough for a CPU and wide enough that matrix products take most of the time.

    Vocabulary and image tokens are LLaVA-1.5's at 224 pixels. In so small a model the head is more than half
    of the matrices, at 7B it is 2%: what is saved there counts for more here.
    """

    hidden: int = 512
    layers: int = 4
    heads: int = 8
    mlp: int = 1376
    vocabulary: int = 32_064  # rows of embedding and head
    canvas: int = 224  # pixels
    patch: int = 14
    tower_width: int = 192
    tower_layers: int = 4
    tower_heads: int = 3

    @property
    def image_tokens(self) -> int:
        """Of an image in the language model."""
        return (self.canvas // self.patch) ** 2


TOY = ModelSizes(
    hidden=32,
    layers=2,
    heads=2,
    mlp=64,
    vocabulary=1024,
    canvas=56,
    tower_width=32,
    tower_layers=3,
    tower_heads=2,
)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A training of `num_steps` steps, the same pairs in each whatever the way."""

    start: Path  # checkpoint: model, tokenizer, processor
    images: Path  # folder
    folder: Path  # of this training alone
    pairs_per_image: int
    images_per_step: int
    num_steps: int
    pairs_per_pass: int  # of the ways that pad
    passes: int = 1  # of a step, one row each: ours
    bf16: bool = False  # autocast; weights stay fp32
    num_workers: int = 0  # of the data loaders
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs_per_step % self.pairs_per_pass:
            raise ValueError(
                f"a step has {self.pairs_per_step} pairs, which passes of {self.pairs_per_pass} do not "
                f"divide: give another number of pairs a pass"
            )

    @property
    def pairs_per_step(self) -> int:
        """Questions with their answers."""
        return self.pairs_per_image * self.images_per_step

    @property
    def records(self) -> Path:
        """What we train on: an image a line, with `pairs_per_image` queries."""
        return self.folder / "records.jsonl"

    @property
    def pairs(self) -> Path:
        """What others train on: a pair a line, step by step those that our steps draw."""
        return self.folder / "pairs.jsonl"

    def stage_config(self, way: str) -> Stage2Config:
        """The run of train/stage2.py."""
        source = Source(name="world", path=str(self.records), image_root=str(self.images))
        return Stage2Config(
            model=ModelConfig(checkpoint=str(self.start), attn_implementation="tree"),
            data=DataConfig(
                sources=(source,),
                conversations_per_step=self.images_per_step,
                conversation=CONVERSATION,
                num_workers=self.num_workers,
                seed=self.seed,
            ),
            packing=PackingConfig(mode="shared_prefix", max_row_tokens=ROW_TOKENS),
            training={
                **self._shared(way),
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": self.passes,
            },
        )

    def padded_training(self, way: str) -> dict[str, Any]:
        """TrainingArguments of the ways that pad, in our order of the pairs."""
        return {
            **DEFAULTS,
            **self._shared(way),
            "use_cpu": True,
            "disable_tqdm": True,
            "per_device_train_batch_size": self.pairs_per_pass,
            "gradient_accumulation_steps": self.pairs_per_step // self.pairs_per_pass,
            "dataloader_num_workers": self.num_workers,
            "train_sampling_strategy": "sequential",
        }

    def _shared(self, way: str) -> dict[str, Any]:
        """TrainingArguments: AdamW, clipped; no checkpoints, no activations computed twice."""
        return {
            "output_dir": str(self.folder / way),
            "max_steps": self.num_steps,
            "learning_rate": 1e-4,
            "max_grad_norm": 1.0,
            "bf16": self.bf16,
            "save_strategy": "no",
            "report_to": "none",
            "seed": self.seed,
        }
