"""The file that a benchmark writes: its settings, the machine, its figures."""

import argparse
import os
import platform
from pathlib import Path
from typing import Any

from locvlm.io import write_json
from locvlm.runs import environment


def add_out_option(parser: argparse.ArgumentParser) -> None:
    """--out."""
    parser.add_argument("--out", type=Path, help="JSON to write; the table is printed in any case")


def write_result(args: argparse.Namespace, figures: dict[str, Any], *, device: str = "cpu") -> None:
    """Write `figures` beside settings and machine to `args.out`, if it was given."""
    if args.out is None:
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, {"settings": settings_of(args), "machine": describe_machine(device), **figures})


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The command line's values, but for the name of the result."""
    return {name: _plain(value) for name, value in vars(args).items() if name != "out"}


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """What a time is worth nothing without: versions, commit, CPU, threads, load, GPU."""
    import torch  # not before the command line has been read

    software = {name: value for name, value in environment().items() if name not in ("argv", "seeds")}
    gpu = torch.cuda.get_device_properties(torch.device(device)) if device.startswith("cuda") else None
    return {
        **software,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "gpu": None if gpu is None else gpu.name,
        "gpu_memory_bytes": None if gpu is None else gpu.total_memory,
        "cuda": torch.version.cuda,
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _plain(value: Any) -> Any:
    """As JSON holds it; of a path on one machine the name alone."""
    if not isinstance(value, Path):
        return value
    return value.name if value.is_absolute() else str(value)
