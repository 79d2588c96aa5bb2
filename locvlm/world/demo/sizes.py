"""How much of everything the demo makes."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    train_scenes: int
    val_scenes: int
    stage1_eval_scenes: int  # stage 1 has not seen a location yet: a few suffice to say so
    baseline_scenes: int
    train_clips: int
    val_clips: int
    baseline_clips: int
    stage1: dict[str, Any] = field(default_factory=dict)  # overrides of the stages' configs
    stage2: dict[str, Any] = field(default_factory=dict)
    stage3: dict[str, Any] = field(default_factory=dict)


FULL = Size(
    train_scenes=12_000,
    val_scenes=500,
    stage1_eval_scenes=100,
    baseline_scenes=500,
    train_clips=1_500,
    val_clips=150,
    baseline_clips=150,
)
QUICK = Size(
    train_scenes=300,
    val_scenes=24,
    stage1_eval_scenes=8,
    baseline_scenes=8,
    train_clips=24,
    val_clips=8,
    baseline_clips=4,
    stage1={"training.max_steps": 12, "training.save_steps": 6},
    stage2={"training.max_steps": 20, "training.save_steps": 10},
    stage3={"training.max_steps": 8, "training.save_steps": 4},
)
