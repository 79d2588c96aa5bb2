"""Machines to plan for; and the accelerators that are known, by their data sheets, without sparsity."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_GIB = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One accelerator."""

    memory_bytes: int  # as torch reports it, less than the name says
    bf16_flops: float  # dense matrix products with fp32 sums, floating-point operations per second
    link_bytes: float  # to its neighbours in the node, one direction, per second


GPUS: dict[str, Gpu] = {
    # NVIDIA A100 data sheet: 312 TFLOP/s; NVLink 600 GB/s in both directions
    "a100-40g": Gpu(memory_bytes=int(39.4 * _GIB), bf16_flops=312e12, link_bytes=300e9),
    "a100-80g": Gpu(memory_bytes=int(79.1 * _GIB), bf16_flops=312e12, link_bytes=300e9),
    # NVIDIA H100 SXM data sheet: 1979 TFLOP/s with sparsity; NVLink 900 GB/s in both directions
    "h100-80g": Gpu(memory_bytes=int(79.1 * _GIB), bf16_flops=989e12, link_bytes=450e9),
    # NVIDIA H200 SXM data sheet: the arithmetic of an H100
    "h200-141g": Gpu(memory_bytes=int(139.8 * _GIB), bf16_flops=989e12, link_bytes=450e9),
    # NVIDIA L40S data sheet: 733 TFLOP/s with sparsity; PCIe 4.0 x16
    "l40s": Gpu(memory_bytes=int(44.4 * _GIB), bf16_flops=366e12, link_bytes=32e9),
    # NVIDIA Ada whitepaper, appendix A: 165.2 TFLOP/s with fp32 sums; PCIe 4.0 x16
    "rtx4090": Gpu(memory_bytes=int(23.6 * _GIB), bf16_flops=165e12, link_bytes=32e9),
}


# the name that torch gives to a device; the same chip on another board may be slower
DEVICE_NAMES = {
    "NVIDIA A100-SXM4-40GB": "a100-40g",
    "NVIDIA A100-SXM4-80GB": "a100-80g",
    "NVIDIA H100 80GB HBM3": "h100-80g",
    "NVIDIA H200": "h200-141g",
    "NVIDIA L40S": "l40s",
    "NVIDIA GeForce RTX 4090": "rtx4090",
}


def gpu_named(name: str) -> Gpu:
    """The accelerator of that name.

    Raises:
        ValueError: naming the nearest one and all there are.
    """
    return GPUS[require_name(name, GPUS, "--gpu")]


def peak_flops_of(device_name: str) -> float | None:
    """Dense bf16 operations per second of the device that torch calls so; None for one that is not known."""
    return GPUS[DEVICE_NAMES[device_name]].bf16_flops if device_name in DEVICE_NAMES else None


def require_name(name: str, known: Iterable[str], option: str) -> str:
    """`name`, if it is known.

    Raises:
        ValueError: naming the nearest known name and all there are.
    """
    names = list(known)
    if name in names:
        return name
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
    raise ValueError(f"{option} {name!r} is not known; the nearest is {nearest!r}. Known: {', '.join(names)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where a run is to happen, and what is expected of it."""

    gpu: Gpu
    gpus: int  # in a node
    nodes: int = 1
    mfu: float = 0.45  # share of the peak that all executed operations reach, recomputed ones included
    mfu_source: str = "stated, not measured"
    node_bytes_per_s: float = 50e9  # network of a node, one direction: 400 Gbit/s
    price_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        if min(self.gpus, self.nodes) < 1:
            raise ValueError(f"--gpus and --nodes must be at least 1, got {self.gpus} and {self.nodes}")
        if not 0 < self.mfu <= 1:
            raise ValueError(f"--mfu is a share of the peak, in (0, 1], got {self.mfu}")
        if self.node_bytes_per_s <= 0:
            raise ValueError(f"--node-gb-per-s must be above 0, got {self.node_bytes_per_s / 1e9:g}")

    @property
    def ranks(self) -> int:
        """Processes, one for each accelerator."""
        return self.gpus * self.nodes

    @property
    def flops(self) -> float:
        """Of all accelerators, at the stated share of their peak, per second."""
        return self.ranks * self.gpu.bf16_flops * self.mfu

    @property
    def bytes_per_s(self) -> float:
        """What a ring over all ranks moves, through its narrowest part."""
        return self.gpu.link_bytes if self.nodes == 1 else min(self.gpu.link_bytes, self.node_bytes_per_s)
