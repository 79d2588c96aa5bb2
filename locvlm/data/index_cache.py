"""Indexes of large files: made once, kept in a cache folder, shared in memory by all processes that read.

An index is a numpy array with a row for each record, image or sample of a data set that says where its bytes
are. Read from the cache it is mapped, not loaded: ranks and workers of one machine share its pages, and a
worker that is sent a data set gets the path. So the memory of a process does not grow with the data set.

The folder is $LOCVLM_CACHE, else $XDG_CACHE_HOME/locvlm, else ~/.cache/locvlm. An index is named by what it
was made from: path, size and time of change of every file. A file that was changed gets another index, so
that none is read for what it is not; everything there may be deleted while no run uses it. Data sets of less
than 16 MiB are indexed in memory and leave nothing there.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locvlm.io import atomic_writer

logger = logging.getLogger(__name__)

CACHE_FROM_BYTES = 2**24  # 16 MiB: below, an index is made faster than a file is found
_LAYOUT = 2  # of all indexes; raise it when rows change their meaning


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    """Rows of an index, and the file that they are mapped from, None for rows in memory."""

    rows: NDArray[Any]
    file: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (_map, (self.file,)) if self.file else (Index, (np.asarray(self.rows),))


def open_index(kind: str, files: Sequence[Path], build: Callable[[], NDArray[Any]]) -> Index:
    """The index of `files`, from the cache, or made by `build` and kept there.

    Of several processes that need the same index, one makes it and the others wait. It appears complete or
    not at all. If the cache cannot be used, a warning says so and the index stays in memory.

    Args:
        kind: what the rows are, a word for the name of the file.
        build: called without the cache having been changed; its errors are passed on.
    """
    if sum(path.stat().st_size for path in files) < CACHE_FROM_BYTES:
        return Index(build())
    path = cache_folder() / f"{kind}-{_key(files)}.npy"
    if (found := _find(path)) is not None:
        return found
    with _taking_turns(path):
        if (found := _find(path)) is not None:
            return found
        size_gb = sum(file.stat().st_size for file in files) / 1e9
        logger.info("indexing %s (%d files, %.1f GB); done once", files[0], len(files), size_gb)
        return _keep(path, build())


def cache_folder() -> Path:
    """The folder of all indexes."""
    if named := os.environ.get("LOCVLM_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "locvlm"


def _key(files: Sequence[Path]) -> str:
    stats = [(os.path.realpath(path), path.stat()) for path in files]
    described = [_LAYOUT, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]


def _find(path: Path) -> Index | None:
    if not path.is_file():
        return None
    try:
        return _map(path)
    except (OSError, EOFError, ValueError) as error:
        logger.warning("%s cannot be used and is made again: %s", path, error)
        return None


def _map(path: Path) -> Index:
    return Index(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)), path)


def _keep(path: Path, rows: NDArray[Any]) -> Index:
    try:
        with atomic_writer(path, binary=True) as file:
            np.save(file, rows, allow_pickle=False)
        return _map(path)
    except OSError as error:
        logger.warning(
            "cannot write %s: %s. The index stays in memory, in every process, and is made again by the next "
            "run; let the variable LOCVLM_CACHE name a folder that can be written",
            path,
            error,
        )
        return Index(rows)


@contextmanager
def _taking_turns(path: Path) -> Iterator[None]:
    """Hold the lock of an index; a process that is killed lets go of it. Without locks, nobody waits."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path.with_suffix(".lock"), "ab")  # noqa: SIM115 (closed below)
    except OSError:  # `_keep` will say so
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some file systems of clusters have none
            logger.warning("no lock on %s (%s): several processes may make the index", path, error)
        yield
