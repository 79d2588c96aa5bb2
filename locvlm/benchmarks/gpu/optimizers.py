"""AdamW with states of different size: what steps a model whose weights and gradients are bf16.

    fp32   masters and both moments in fp32, as DeepSpeed keeps them    12 bytes a parameter
    bf16   both moments in bf16, the weights step themselves             4
    8bit   both moments in blocks of 8 bits (package bitsandbytes)       2

The learning rate is 0: an update costs what it costs, and the weights stay what they are, so that all that is
measured with one model is measured with the same weights.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import nn

from locvlm.benchmarks.gpu.cases import OptimizerName

STATE_BYTES: dict[OptimizerName, int] = {"fp32": 12, "bf16": 4, "8bit": 2}
_CHUNK = 2**28  # values whose gradients are in fp32 at a time


class Optimizer(Protocol):
    """What a step needs of one."""

    def step(self) -> Any:
        """Update the weights."""

    def zero_grad(self) -> None:
        """Forget the gradients."""


def build_optimizer(name: OptimizerName, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """AdamW over `parameters`.

    Raises:
        ValueError: for 8bit, if bitsandbytes or a GPU is missing.
    """
    trained = list(parameters)
    is_cuda = trained[0].is_cuda
    if name == "8bit":
        if not (is_cuda and find_spec("bitsandbytes")):
            raise ValueError(
                f"8-bit states need a CUDA GPU and the package bitsandbytes "
                f"({'installed' if find_spec('bitsandbytes') else 'not installed'})"
            )
        import bitsandbytes as bnb

        eight_bit: Optimizer = bnb.optim.AdamW8bit(trained, lr=0.0)
        return eight_bit
    if name == "fp32" and trained[0].dtype != torch.float32:
        return MasterAdamW(trained)
    return torch.optim.AdamW(trained, lr=0.0, fused=True)


class MasterAdamW:
    """AdamW on fp32 copies of bf16 weights, a chunk at a time: fp32 gradients never exist all at once."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._chunks = []
        for chunk in _in_chunks(parameters):
            masters = [parameter.detach().float() for parameter in chunk]
            self._chunks.append((chunk, masters, torch.optim.AdamW(masters, lr=0.0, fused=True)))

    @torch.no_grad()
    def step(self) -> None:
        """One update; gradients are read in the weights' own dtype."""
        for parameters, masters, optimizer in self._chunks:
            for parameter, master in zip(parameters, masters, strict=True):
                master.grad = None if parameter.grad is None else parameter.grad.float()
            optimizer.step()
            optimizer.zero_grad()
            torch._foreach_copy_([*parameters], masters)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameters, _, _ in self._chunks:
            for parameter in parameters:
                parameter.grad = None


def _in_chunks(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    chunks: list[list[nn.Parameter]] = [[]]
    for parameter in parameters:
        if chunks[-1] and sum(p.numel() for p in chunks[-1]) + parameter.numel() > _CHUNK:
            chunks.append([])
        chunks[-1].append(parameter)
    return chunks
