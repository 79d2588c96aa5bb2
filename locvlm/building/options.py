"""The options that every builder has."""

import argparse
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TypeVar

from locvlm.shard import Shard, shard_argument

Item = TypeVar("Item")


def add_build_options(
    parser: argparse.ArgumentParser,
    *,
    out: str = "records to write, JSON Lines",
    seed: bool = True,
    workers: bool = False,
    dropped: str = "of the input",
) -> None:
    """Add the options that builders share.

    Args:
        out: help for --out.
        seed: whether anything is drawn.
        workers: whether items are worked on in processes of their own.
        dropped: of what --max-dropped-fraction is the limit.
    """
    group = parser.add_argument_group("every builder has")
    group.add_argument("--out", type=Path, required=True, help=out)
    group.add_argument("--limit", type=int, metavar="N", help="only the first N items")
    if seed:
        group.add_argument("--seed", type=int, default=0)
    if workers:
        group.add_argument("--workers", type=int, default=0, metavar="N", help="processes; 0 is this one")
    group.add_argument(
        "--shard",
        type=shard_argument,
        default=Shard(0, 1),
        metavar="I/N",
        help="build the I-th of N parts; data_builders/merge.py puts them together",
    )
    group.add_argument("--preview", type=Path, metavar="FILE.html", help="also a page of 24 samples")
    group.add_argument("--overwrite", action="store_true", help="replace what was built by other arguments")
    group.add_argument(
        "--max-dropped-fraction", type=float, default=0.01, metavar="F", help=f"{dropped}; stop above"
    )


def first(items: Iterable[Item], limit: int | None) -> list[Item]:
    """The first `limit` items as a list, or all of them."""
    return list(islice(items, limit))
