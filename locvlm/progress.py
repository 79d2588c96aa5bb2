"""A progress bar with the time left: redrawn on a terminal, a line now and then in a log file."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
_LOG_EVERY_S = 60


def progress(
    items: Iterable[Item], *, what: str, total: int | None = None, done: int = 0, unit: str = "item"
) -> Iterator[Item]:
    """The items, counted as they pass; `done` of `total` passed in an earlier start."""
    with progress_bar(what=what, total=total, done=done, unit=unit) as bar:
        for item in items:
            yield item
            bar.update()


def progress_bar(
    *, what: str, total: int | None = None, done: int = 0, unit: str = "item", is_shown: bool = True
) -> Any:
    """A bar whose `update(n)` counts n more, for work that does not come one by one; a context manager."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=unit,
        mininterval=0.2 if is_terminal else _LOG_EVERY_S,
        smoothing=0.05,
        disable=not is_shown,
    )
