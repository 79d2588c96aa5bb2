"""More records: seconds to index them, to open the index again, to plan a step; memory."""

import cProfile
import gc
import multiprocessing
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.result import Headline
from locvlm.benchmarks.stored_data import MAKERS, build_loader, give_freed_memory_back, memory_mb

INDEX, OPEN, FIRST, LATER = "make the index", "open it again", "plan the first step", "plan a later step"
_MOST_NAMED = 4  # functions of the profile


def measure_records(
    counts: Sequence[int], *, storage: str, later_steps: int, folder: Path | None = None
) -> Curve:
    """Each number of records in a process of its own, from files that were made for it."""
    found = {}
    for count in counts:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            found[count] = fresh.submit(measure_one, storage, count, later_steps, folder).result()
    return Curve(
        title=f"More records ({storage})",
        x="records",
        y="s",
        lines={
            name: [(count, found[count]["seconds"][name]) for count in counts]
            for name in (INDEX, OPEN, FIRST, LATER)
        },
        shares={f"{INDEX}, {n}": found[n]["index_shares"] for n in (counts[0], counts[-1])},
        more={
            "memory_mb": {count: found[count]["memory_mb"] for count in counts},
            "file_mb": {count: found[count]["file_mb"] for count in counts},
        },
    )


def measure_one(storage: str, count: int, later_steps: int, folder: Path | None) -> dict[str, Any]:
    """Make the data and go once through what a run does with it before its first step."""
    from locvlm.data.dataset import FileDataset  # in this process alone: torch

    give_freed_memory_back()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        os.environ["LOCVLM_CACHE"] = f"{name}/cache"
        (data := Path(name) / "data").mkdir()
        source = MAKERS[storage](data, count)
        file_mb = sum(path.stat().st_size for path in data.iterdir()) / 1e6
        seconds = {INDEX: seconds_of(lambda: FileDataset(**source))}
        seconds[OPEN] = seconds_of(lambda: FileDataset(**source))
        builder = build_loader(source, Path(name), num_steps=later_steps + 1).builder
        gc.collect()
        before = memory_mb(os.getpid())["uss"]

        def plan(step: int) -> None:
            builder.plan(builder.samples(step))

        seconds[FIRST] = seconds_of(lambda: plan(0))
        seconds[LATER] = median(seconds_of(partial(plan, n)) for n in range(1, later_steps + 1))
        after = memory_mb(os.getpid())["uss"]
        os.environ["LOCVLM_CACHE"] = f"{name}/another"
        shares = shares_by_function(lambda: FileDataset(**source))
    return {
        "seconds": seconds,
        "index_shares": shares,
        "memory_mb": {"before": before, "after": after},
        "file_mb": round(file_mb, 1),
    }


def seconds_of(action: Callable[[], Any]) -> float:
    """On the clock."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def shares_by_function(action: Callable[[], Any]) -> dict[str, float]:
    """Of the time of a call, by cProfile: the functions in which it spends most, and the rest."""
    profile = cProfile.Profile()
    profile.runcall(action)
    rows: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    own = {f"{Path(file).name} {name}".strip("~ "): row[2] for (file, _, name), row in rows.items()}
    whole = sum(own.values())
    most = sorted(own, key=lambda name: -own[name])[:_MOST_NAMED]
    shares = {name: own[name] / whole for name in most}
    return {**shares, "everything else": 1 - sum(shares.values())}


def headline(curve: Curve) -> list[Headline]:
    """With the most records; and what of it grew."""
    first, last = curve.ends(INDEX)
    memory = {int(count): found for count, found in curve.more["memory_mb"].items()}
    return [
        *(
            Headline(what=f"{last:,.0f} records: {name}", figure=curve.at(name, last), unit="s")
            for name in curve.lines
        ),
        Headline(
            what=f"{last:,.0f} records: {LATER}",
            figure=curve.at(LATER, last) / curve.at(LATER, first),
            unit="of the time",
            than=f"{first:,.0f} records",
        ),
        Headline(
            what=f"{last:,.0f} records: what the main process has for itself",
            figure=memory[int(last)]["after"] - memory[int(first)]["after"],
            unit="MB more",
            than=f"{first:,.0f} records",
        ),
    ]
