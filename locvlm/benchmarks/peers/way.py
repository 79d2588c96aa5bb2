"""A way to train: what a process builds of it, and what it counts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from locvlm.constants import IGNORE_INDEX, NO_SAMPLE


@dataclass(frozen=True)
class Way:
    """A trainer that is about to begin."""

    trainer: Trainer
    train: Callable[[], object]


@dataclass
class Counts:
    """What goes through a model in a whole training."""

    slots: int = 0  # of rows, padding included
    tokens: int = 0  # without padding
    supervised: int = 0
    images: int = 0  # through the tower

    def watch(self, model: torch.nn.Module) -> None:
        """Count all that the model is called with from now on."""
        model.register_forward_pre_hook(self._add, with_kwargs=True)

    def _add(self, module: torch.nn.Module, args: Any, batch: dict[str, Any]) -> None:
        ids, pixels = batch["input_ids"], batch["pixel_values"]
        self.slots += ids.numel()
        self.images += len(pixels)
        if "sample_ids" in batch:
            self.tokens += int((batch["sample_ids"] != NO_SAMPLE).sum())
            self.supervised += int((batch["target_weights"] > 0).sum())
        else:
            self.tokens += int(batch["attention_mask"].sum())
            self.supervised += int((batch["labels"][:, 1:] != IGNORE_INDEX).sum())


def memory_bytes(what: str) -> int:
    """Of this process, resident: now (VmRSS) or at most since it began (VmHWM).

    As Linux has it for the process alone: what `getrusage` calls its peak begins with that of its parent.
    """
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if name == what:
            return int(rest.split()[0]) * 1024
    raise ValueError(f"/proc/self/status has no {what}: memory is measured on Linux alone")
