"""The file that a benchmark writes: its settings, the machine, its figures, and the few of them to quote.

What is quoted stands under "headline", a list of `Headline`s in the order of the table. README's table, its
plot and docs/benchmarks.md are made of these by scripts/plot_benchmarks.py: README has those with a goal,
reached or not, docs/benchmarks.md has all.
"""

import argparse
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from locvlm.io import write_json
from locvlm.runs import environment

TIMES_AS_FAST = "times as fast"  # the unit of a ratio of times; the plot draws these side by side


@dataclass(frozen=True)
class Headline:
    """A figure to quote: what was done, how it came out, against what, and the goal that was set beforehand.

    Read as a line: "one step, 8 pairs an image: 4.02 times as fast as one sequence per pair (>= 3.9)".

    Args:
        what: the work in a few words, settings included; no figure that was measured.
        figure: as measured; a share is a fraction with unit "of ...", not a percentage.
        unit: TIMES_AS_FAST, or what the figure counts: "s", "MB", "pairs/s", "of a step", "of the tokens".
        than: what it is compared with, in the same run; empty if with nothing.
        goal: the figure that was aimed at, in the same unit; None if none was set.
        limit: whether the figure should be at least or at most the goal.
    """

    what: str
    figure: float
    unit: str
    than: str = ""
    goal: float | None = None
    limit: Literal[">=", "<="] = ">="

    def __post_init__(self) -> None:
        if not self.what or not self.unit:
            raise ValueError(f"a headline says what was measured and in which unit, got {self!r}")
        if not math.isfinite(self.figure) or self.limit not in (">=", "<="):
            raise ValueError(f"a headline has a finite figure and a limit of >= or <=, got {self!r}")

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        return self.figure >= self.goal if self.limit == ">=" else self.figure <= self.goal

    def line(self) -> str:
        """For the terminal: "goal: ... reached", or "... missed"."""
        found = f"{self.what}: {self.told()}"
        if self.goal is None:
            return found
        outcome = "reached" if self.is_reached else "missed"
        return f"goal: {found} ({self.limit} {amount(self.goal, self.unit)}) {outcome}"

    def told(self) -> str:
        """The figure and what it is compared with: "4.02 times as fast as separate", "0.31 s"."""
        joined = " as " if self.unit == TIMES_AS_FAST else ", against "
        return f"{amount(self.figure, self.unit)} {self.unit}{joined + self.than if self.than else ''}"


def amount(figure: float, unit: str) -> str:
    """Three digits of a figure; a share ("of the tokens") in percent, as its unit goes on."""
    if unit.startswith("of "):
        return f"{100 * figure:.3g}%" if abs(figure) < 10 else f"{100 * figure:,.0f}%"
    if abs(figure) >= 1000:
        return f"{figure:,.0f}"
    whole = f"{figure:.3g}"
    return whole if abs(figure) >= 1e-4 or not figure else f"{figure:.1e}"


def add_out_option(parser: argparse.ArgumentParser) -> None:
    """--out."""
    parser.add_argument("--out", type=Path, help="JSON to write; the table is printed in any case")


def write_result(
    args: argparse.Namespace,
    figures: dict[str, Any],
    *,
    device: str = "cpu",
    headline: Sequence[Headline] = (),
) -> None:
    """Write `figures` beside settings, machine and what is to be quoted to `args.out`, if it was given."""
    if args.out is None:
        return
    about = {"settings": settings_of(args), "machine": describe_machine(device)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, {**about, "headline": [asdict(one) for one in headline], **figures})


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
