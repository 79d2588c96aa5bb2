"""What is done of a build whose items take long, so that a killed one goes on where it was.

One JSON object per line. The first says by what arguments and from what inputs, every other is a finished
item: {"id": ..., "value": {...}}. A line is written in one piece when its item is done; what a kill tore is
cut off, and its item is done again. So nothing is lost and nothing is there twice.
"""

import errno
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from locvlm.io import parse_json_line
from locvlm.locks import hold_lock

logger = logging.getLogger(__name__)


class Journal:
    """Finished items by id. Values stay in the file, so that memory holds only their places.

    Args:
        path: the file; it is made if it is not there. Beside it, `<path>.lock` is held.
        made_by: what has to be equal for the items to be of use: arguments, hashes of inputs.
        overwrite: start anew if the file is of other arguments, instead of refusing.

    Raises:
        ValueError: another process has it, it is of other arguments, or a line in its middle is no JSON.
    """

    def __init__(self, path: str | Path, *, made_by: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = hold_lock(self._lock_path, what=f"building {self.path.name}")
        self._places: dict[str, tuple[int, int]] = {}  # id -> (start, bytes) of its line
        head = {"made_by": json.loads(json.dumps(made_by))}
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 (it stays open)
        if self._has_head(head, overwrite):
            self._read_items()
        else:
            self._file.truncate(0)
            self._append(head)
        if self._places:
            logger.info("%s: %d items are done already", self.path, len(self._places))

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, item_id: str) -> dict[str, Any]:
        """The value of a finished item; KeyError for another."""
        start, size = self._places[item_id]
        value: dict[str, Any] = json.loads(os.pread(self._file.fileno(), size, start))["value"]
        return value

    def add(self, item_id: str, value: Mapping[str, Any]) -> None:
        """Note that an item is done, and what came of it (plain JSON values).

        Raises:
            ValueError: if it is there already.
            OSError: if the disk is full; the journal stays as it was.
        """
        if item_id in self._places:
            raise ValueError(f"{self.path}: the item {item_id!r} is done already; are its ids unique?")
        self._places[item_id] = self._append({"id": item_id, "value": value})

    def values(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, value) of every item, in the order in which they were done."""
        for item_id in list(self._places):
            yield item_id, self[item_id]

    def discard(self) -> None:
        """Remove the file, when what it is for is written."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._lock_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, and let others have it."""
        self._file.close()
        self._lock.close()

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def _append(self, row: Mapping[str, Any]) -> tuple[int, int]:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        written = 0
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(errno.ENOSPC, "no room for a whole line", str(self.path))
        finally:
            if written != len(line):
                self._file.truncate(start)
        return start, len(line)

    def _has_head(self, head: dict[str, Any], overwrite: bool) -> bool:
        """Whether there is a first line, and it is `head`."""
        with open(self.path, "rb") as file:
            line = file.readline()
        if not line.endswith(b"\n"):  # nothing yet, or killed at the very beginning
            return False
        found = parse_json_line(line, where=f"{self.path}:1")
        if found == head or overwrite:
            return found == head
        raise ValueError(
            f"{self.path} holds items of a build by other arguments "
            f"({differing(head['made_by'], found.get('made_by'))}); start again with those, or with "
            f"--overwrite to begin anew"
        )

    def _read_items(self) -> None:
        with open(self.path, "rb") as file:
            start = len(file.readline())
            for number, line in enumerate(file, start=2):
                if not line.endswith(b"\n"):
                    self._file.truncate(start)
                    break
                row = parse_json_line(line, where=f"{self.path}:{number}")
                self._places[row["id"]] = (start, len(line))
                start += len(line)


def differing(now: Any, then: Any) -> str:
    """The first difference of two sets of arguments and inputs, in words; empty if there is none."""
    if not isinstance(now, Mapping) or not isinstance(then, Mapping):
        return "" if now == then else f"now {now!r}, then {then!r}"
    for name in sorted(now.keys() | then.keys(), key=str):
        if isinstance(now.get(name), Mapping) and isinstance(then.get(name), Mapping):
            if inner := differing(now[name], then[name]):
                return inner
        elif now.get(name) != then.get(name):
            return f"{name}: now {now.get(name)!r}, then {then.get(name)!r}"
    return ""
