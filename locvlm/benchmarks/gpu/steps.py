"""A built model, and steps of it: the forward pass of training, backward, clipping, the optimizer."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from locvlm.benchmarks.gpu.cases import Setup
from locvlm.benchmarks.gpu.models import build_model, compile_blocks, compile_model
from locvlm.benchmarks.gpu.optimizers import Optimizer, build_optimizer
from locvlm.model.locvlm import LocVLM
from locvlm.training.profiling.timeline import Timeline, watch_forward

_MAX_NORM = 1.0  # TrainingArguments' own

Batches = Sequence[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Built:
    """A setup on its device."""

    setup: Setup
    model: LocVLM
    forward: Any  # the model, or what is compiled of it
    trained: list[nn.Parameter]
    optimizer: Optimizer
    device: torch.device


def build(setup: Setup, device: torch.device) -> Built:
    """Model and optimizer, on the device.

    Raises:
        ValueError: if this machine lacks what the setup asks for.
        torch.OutOfMemoryError: if it does not fit.
    """
    model = build_model(setup, device)
    forward: Any = model
    backend = "inductor" if device.type == "cuda" else "eager"  # on a CPU it is traced, and not made faster
    if setup.compiled != "no":
        torch.compiler.reset()  # or what earlier models compiled counts towards the limit
    if setup.compiled == "blocks":
        compile_blocks(model, backend=backend)
    elif setup.compiled == "model":
        forward = compile_model(model, backend=backend)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(setup.optimizer, trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes its states, so that every step has them
    optimizer.zero_grad()
    return Built(
        setup=setup, model=model, forward=forward, trained=trained, optimizer=optimizer, device=device
    )


def train_step(built: Built, batches: Batches, timeline: Timeline) -> torch.Tensor:
    """One step of all micro-batches; the loss, still on the device."""
    loss = torch.zeros((), device=built.device)
    for batch in batches:
        loss += train_pass(built, batch, timeline)
    nn.utils.clip_grad_norm_(built.trained, _MAX_NORM)
    built.optimizer.step()
    built.optimizer.zero_grad()
    timeline.mark("optimizer")
    return loss


def train_pass(built: Built, batch: dict[str, Any], timeline: Timeline) -> torch.Tensor:
    """One micro-batch, from the CPU's memory to gradients; its share of the loss."""
    inputs = to_device(batch, built.device, built.model.dtype)
    with _autocast(built):
        loss = built.forward(**inputs).loss
    timeline.mark("language model" if built.setup.compiled == "model" else "head, loss")
    loss.backward()
    timeline.mark("backward")
    detached: torch.Tensor = loss.detach()
    return detached


def to_device(batch: dict[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """As the trainer prepares it under DeepSpeed: pixels in the model's dtype, weights of targets in fp32."""
    moved = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }
    if "pixel_values" in moved:
        moved["pixel_values"] = moved["pixel_values"].to(dtype)
    return moved


@contextmanager
def watched(built: Built, timeline: Timeline) -> Iterator[None]:
    """Mark the parts of forward, where it is not compiled whole: hooks would cut the graph."""
    with nullcontext() if built.setup.compiled == "model" else watch_forward(built.model, timeline):
        yield


def _autocast(built: Built) -> AbstractContextManager[Any]:
    if built.model.dtype == torch.bfloat16:
        return nullcontext()
    return torch.autocast(built.device.type, torch.bfloat16)
