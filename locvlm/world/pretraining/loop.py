"""One training loop for both backbones: Muon under a one-cycle schedule, saved and logged as it goes."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from locvlm.muon import Muon, muon_groups

logger = logging.getLogger(__name__)


def one_cycle(step: int, steps: int, *, warmup: int, last: float = 0.02) -> float:
    """Linear warm-up, then a cosine down to the share `last` of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainRun:
    """How long and how fast."""

    steps: int
    batch: int
    learning_rate: float = 1.2e-3
    muon_learning_rate: float = 3e-3  # of the matrices in blocks
    weight_decay: float = 0.02
    warmup: int = 100
    log_every: int = 50


def train(
    model: torch.nn.Module,
    run: PretrainRun,
    loss_of_step: Callable[[float], tuple[torch.Tensor, str]],
    save: Callable[[], None],
    name: str,
) -> None:
    """Train in place; the schedule's progress goes to `loss_of_step`, which adds a note to the log's line."""
    groups = muon_groups(
        model,
        learning_rate=run.learning_rate,
        muon_learning_rate=run.muon_learning_rate,
        weight_decay=run.weight_decay,
    )
    optimizer, start = Muon(groups, betas=(0.9, 0.98), foreach=True), time.time()
    schedule = LambdaLR(optimizer, partial(one_cycle, steps=run.steps, warmup=run.warmup))
    bar = tqdm(range(run.steps), desc=name, mininterval=20)
    for step in bar:
        loss, note = loss_of_step(step / run.steps)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % run.log_every == 0 or step == run.steps - 1:
            logger.info(
                "%s step %d: loss %.4f %s (%.0f s)", name, step, loss.item(), note, time.time() - start
            )
            save()
