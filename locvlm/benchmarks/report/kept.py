"""The results that are kept in benchmarks/results, as far as they have something to quote."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.result import Headline
from locvlm.io import read_json

# scripts/benchmark_NAME.py, in the order of the tables
ORDER = (
    "attention",
    "rows",
    "packing",
    "peers",
    "overhead",
    "input",
    "growth",
    "startup",
    "eval",
    "video",
    "builders",
    "data",
    "gpu",
)
_FILE = re.compile(r"(?P<name>[a-z]+)(?:_(?P<part>[a-z]+))?_(?P<machine>\d.*)")  # growth_rows_2cores_xeon


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One file."""

    path: Path
    name: str  # of scripts/benchmark_NAME.py
    machine: str  # in words
    headline: tuple[Headline, ...]
    curve: Curve | None

    @property
    def judged(self) -> list[Headline]:
        """What has a goal; and the same held against others, or the easiest comparison would stand alone."""
        asked = {(one.what, one.unit) for one in self.headline if one.goal is not None}
        return [one for one in self.headline if (one.what, one.unit) in asked]


def read_kept(folder: Path) -> list[Kept]:
    """Every file with a headline, in the order of the tables; older ones, without, are left out.

    Raises:
        ValueError: if a file is not named as NAME_MACHINE.json, or its headline has other keys.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        matched = _FILE.fullmatch(path.stem)
        if matched is None:
            raise ValueError(f"{path}: expected a name like attention_2cores_xeon.json")
        content = read_json(path)
        if content.get("headline"):
            curve = content.get("curve")
            found.append(
                Kept(
                    path=path,
                    name=matched["name"],
                    machine=describe(content["machine"]),
                    headline=tuple(_headline(row, path) for row in content["headline"]),
                    curve=None if curve is None else Curve(**curve),
                )
            )
    return sorted(found, key=lambda kept: (_place(kept.name), kept.path.name))


def describe(machine: dict[str, Any]) -> str:
    """Such as "2 cores of an Intel Xeon Processor, torch 2.13.0"."""
    torch = machine.get("packages", {}).get("torch")
    software = f", torch {torch.split('+')[0]}" if torch else ""
    if machine.get("gpu"):
        return f"{machine['gpu']}{software}"
    cpu = re.sub(r"\((R|TM)\)", "", machine.get("cpu") or "CPU").strip()
    cores = machine["cores"]
    return f"{cores} core{'s' * (cores != 1)} of {cpu}{software}"


def of_benchmark(kept: Sequence[Kept], name: str) -> list[Kept]:
    """The files of scripts/benchmark_NAME.py."""
    return [one for one in kept if one.name == name]


def _headline(row: dict[str, Any], path: Path) -> Headline:
    known = {field.name for field in fields(Headline)}
    if not {"what", "figure", "unit"} <= set(row) <= known:
        raise ValueError(f"{path}: expected a headline with keys of {sorted(known)}, got {row}")
    return Headline(**row)


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
