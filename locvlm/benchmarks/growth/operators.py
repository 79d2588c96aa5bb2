"""Where the time of one call goes, by kind of operator, as torch's profiler sees it on a CPU."""

from collections.abc import Callable
from typing import Any

import torch

# the first that fits, by a part of the operator's name
KINDS = {
    "attention": ("scaled_dot_product", "flash_attention", "softmax", "bmm"),
    "matrix products": ("::mm", "::addmm", "linear", "matmul", "mkldnn"),
    "moving data": ("copy_", "index", "cat", "gather", "scatter", "pad", "fill_", "zero_", "embedding"),
}
REST = "everything else"


def shares_by_kind(action: Callable[[], Any]) -> dict[str, float]:
    """Of the time in operators, the share of each kind.

    Raises:
        ValueError: if nothing ran in torch.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        action()
    seconds = dict.fromkeys((*KINDS, REST), 0.0)
    for event in profile.key_averages():
        seconds[kind_of(event.key)] += event.self_cpu_time_total
    whole = sum(seconds.values())
    if not whole:
        raise ValueError("no operator of torch ran, so there is no time to share out")
    return {kind: taken / whole for kind, taken in seconds.items()}


def kind_of(operator: str) -> str:
    """The kind that an operator's name belongs to."""
    for kind, marks in KINDS.items():
        if any(mark in operator for mark in marks):
            return kind
    return REST
