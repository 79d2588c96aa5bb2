"""How fast this rank multiplies, and how fast the ranks exchange."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from locvlm import dist

_REPEATS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A timed sum over all ranks."""

    num_bytes: int  # of the tensor
    seconds: float  # the median of a few
    bytes_per_s: float  # through a rank's narrowest link, each direction: 2 (n - 1) / n tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class RankSpeed:
    """One rank by itself."""

    rank: int
    host: str
    flops: float  # of matrix products, per second


def time_exchange(num_bytes: int, device: torch.device) -> Exchange | None:
    """A sum of `num_bytes` over all ranks; None for one rank. Every rank has to call this."""
    world = dist.world_size()
    if world == 1:
        return None
    tensor = torch.ones(num_bytes // 4, dtype=torch.float32, device=device)
    seconds = _median_s(lambda: torch.distributed.all_reduce(tensor), device)
    return Exchange(
        num_bytes=num_bytes, seconds=seconds, bytes_per_s=2 * (world - 1) / world * num_bytes / seconds
    )


def time_products(device: torch.device) -> RankSpeed:
    """This rank alone, with products of the size that its device is busy with for a moment."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (512, torch.float32)
    left = torch.randn(size, size, device=device, dtype=dtype, generator=_generator(device))
    seconds = _median_s(lambda: left @ left, device)
    return RankSpeed(rank=dist.rank(), host=socket.gethostname(), flops=2 * size**3 / seconds)


def _median_s(action: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, after one that does not count."""
    times = []
    for _ in range(1 + _REPEATS):
        _finish(device)
        start = time.perf_counter()
        action()
        _finish(device)
        times.append(time.perf_counter() - start)
    return median(times[1:])


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _generator(device: torch.device) -> torch.Generator:
    """So that no random number of the run is used up."""
    return torch.Generator(device).manual_seed(0)
