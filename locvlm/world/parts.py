"""A split of the world is made in parts: an interrupted one goes on where it stopped, a complete one stands.

FOLDER/.parts/NAME_000250.json   what one process says about the items of one part, until all are there
FOLDER/NAME.stamp.json           what the split was made by, once it is complete
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm


def save_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    partial_path = path.with_name(path.name + ".partial")
    partial_path.write_bytes(data)
    partial_path.replace(path)


def save_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_bytes(path, json.dumps(value).encode())


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The parts of one split."""

    folder: Path
    name: str
    count: int  # items
    chunk: int  # items of a part
    made_by: dict[str, Any]  # of another split where this differs

    @property
    def _stamp(self) -> Path:
        return self.folder / f"{self.name}.stamp.json"

    @property
    def _starts(self) -> range:
        return range(0, self.count, self.chunk)

    def path(self, start: int) -> Path:
        """The file of the part that begins with item `start`."""
        return self.folder / ".parts" / f"{self.name}_{start:06d}.json"

    def items(self, start: int) -> range:
        """The items of that part."""
        return range(start, min(start + self.chunk, self.count))

    def has(self, start: int) -> bool:
        """Whether that part is there."""
        path = self.path(start)
        return path.exists() and len(json.loads(path.read_bytes())) == len(self.items(start))

    def is_complete(self) -> bool:
        """Whether the split stands, made by the same."""
        return self._stamp.exists() and json.loads(self._stamp.read_bytes()) == self.made_by

    def clear_other(self, made: Iterable[Path]) -> None:
        """Remove what a run with other arguments left, so that two worlds never mix.

        Args:
            made: the files that it made, beside its parts.
        """
        parts = self.folder / ".parts"
        parts.mkdir(parents=True, exist_ok=True)
        started = parts / f"{self.name}.started.json"
        if not started.exists() or json.loads(started.read_bytes()) != self.made_by:
            self._stamp.unlink(missing_ok=True)
            for stale in [*parts.glob(f"{self.name}_*.json"), *made]:
                stale.unlink()
            save_json(started, self.made_by)

    def write(
        self,
        write_part: Callable[[int], int],
        merge: Callable[[], None],
        *,
        made: Iterable[Path],
        workers: int | None,
        what: str,
    ) -> bool:
        """Make the split, or go on with it; False where it stood already.

        Args:
            write_part: see `make`.
            merge: makes the files of the whole split from what the parts say.
            made: the files that `write_part` makes, where they stand.
            workers: see `make`, as for `what`.
        """
        if self.is_complete():
            return False
        self.clear_other(made)
        self.make(write_part, workers=workers, what=what)
        merge()
        self.finish()
        return True

    def make(self, write_part: Callable[[int], int], *, workers: int | None, what: str) -> None:
        """Have every part written, by several processes.

        Args:
            write_part: writes the part that begins with an item, unless it is there; returns its items.
            workers: processes; all cores if None.
            what: the items, for the progress bar.
        """
        with tqdm(total=self.count, desc=f"{self.name} {what}s", unit=what) as bar:
            for made in self._made(write_part, workers or os.cpu_count() or 1):
                bar.update(made)

    def _made(self, write_part: Callable[[int], int], workers: int) -> Iterator[int]:
        if workers <= 1:
            yield from map(write_part, self._starts)
            return
        # spawn: a forked worker would inherit locks of torch's threads where a caller has imported it
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            yield from pool.imap(write_part, self._starts)

    def rows(self) -> Iterator[dict[str, Any]]:
        """What the parts say about the items, in order."""
        for start in self._starts:
            yield from json.loads(self.path(start).read_bytes())

    def finish(self) -> None:
        """The split is complete: forget its parts."""
        for start in self._starts:
            self.path(start).unlink(missing_ok=True)
        save_json(self._stamp, self.made_by)
