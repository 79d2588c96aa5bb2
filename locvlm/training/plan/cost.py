"""Time, exchange between ranks, disk and money of a run."""

import math
from dataclasses import dataclass

from locvlm.training.plan.run import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Time, disk and money."""

    steps: int
    epochs: float
    tokens: float  # without padding
    compute_s: float  # of a step
    communication_s: float  # of a step, if it were alone; what is shorter than computing hides behind it
    checkpoint_bytes: float
    num_checkpoints: int  # that stand at once, with the one being written
    final_bytes: float
    hours: float
    gpu_hours: float
    price: float | None

    @property
    def disk_bytes(self) -> float:
        """Of the run folder at its fullest."""
        return self.checkpoint_bytes * self.num_checkpoints + self.final_bytes


def cost_of(run: Run, flops: float) -> Cost:
    """Of a run whose steps execute `flops` operations."""
    settings, machine = run.settings, run.machine
    epoch = run.data.conversations
    steps = settings.max_steps or math.ceil(epoch * settings.epochs / run.conversations_per_step)
    compute_s, communication_s = flops / machine.flops, communication_bytes(run) / machine.bytes_per_s
    hours = steps * max(compute_s, communication_s) / 3600
    price = machine.price_per_gpu_hour
    checkpoint_bytes, final_bytes = checkpoint_sizes(run)
    return Cost(
        steps=steps,
        epochs=steps * run.conversations_per_step / epoch,
        tokens=steps * run.load.tokens,
        compute_s=compute_s,
        communication_s=communication_s,
        checkpoint_bytes=checkpoint_bytes,
        num_checkpoints=settings.num_kept(steps) + 1,
        final_bytes=final_bytes,
        hours=hours,
        gpu_hours=hours * machine.ranks,
        price=None if price is None else price * hours * machine.ranks,
    )


def communication_bytes(run: Run) -> float:
    """What each rank sends in a step: a sum over ranks is twice its tensor, a gather or scatter once.

    Without DeepSpeed and under ZeRO-1 gradients are summed once a step, under ZeRO-2 and -3 in every pass;
    ZeRO-3 gathers the weights in every pass, too, for forward and for backward.
    """
    zero, passes = run.settings.zero, run.division.passes
    size = 4 if run.settings.precision == "fp32" else 2
    gradients = run.trained * (4 if zero.communicate_fp32 or not zero.stage else size)
    by_stage = {
        0: 2 * gradients,
        1: 2 * gradients + size * run.trained,
        2: passes * 2 * gradients + size * run.trained,
        3: passes * (gradients + 2 * size * run.total),
    }
    return by_stage[zero.stage] * (run.machine.ranks - 1) / run.machine.ranks


def checkpoint_sizes(run: Run) -> tuple[float, float]:
    """(a checkpoint, the final weights), in bytes.

    The adapter where it trains alone, else the whole model, or the adapter and LoRA's matrices; beside it
    what an exact resume needs. Stage 3 ends with the whole model in any case, unless LoRA's matrices train.
    DeepSpeed writes fp32 masters and moments, under ZeRO-1 and -2 trained weights again.
    """
    size = 2 if run.settings.precision == "bf16" else 4
    parts = run.parameters if run.scope.trains_llm else ("adapter", "lora")
    written = sum(part.total for name, part in run.parameters.items() if name in parts)
    per_trained = {0: 8, 1: size + 12, 2: size + 12, 3: 12}[run.settings.zero.stage]
    states = per_trained * run.trained
    is_whole = run.scope.stage == "stage3" and run.scope.lora is None
    final = run.total if is_whole else written
    return float(size * written + states), float(size * final)
