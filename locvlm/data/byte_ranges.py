"""Bytes at a place in a large file, read by any process that knows its path."""

import functools
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_OPEN = 64  # files that a process keeps open; a source may have thousands of shards


class CutOff(OSError):
    """A file that ends before the bytes that an index expects in it."""


def read_range(path: str | Path, start: int, size: int) -> bytes:
    """`size` bytes of a file from byte `start` on.

    Files stay open, so that a sample costs no search through folders. They are read by position and never
    moved in: after a fork, parent and workers may use the same open file. A file that was replaced is opened
    again.

    Raises:
        CutOff: if the file ends before.
    """
    handle = _open(os.fspath(path), stamp_of(path))
    data = os.pread(handle.descriptor, size, start)
    while len(data) < size and (more := os.pread(handle.descriptor, size - len(data), start + len(data))):
        data += more  # one call reads at most 2 GB
    if len(data) < size:
        raise CutOff(
            f"{os.fspath(path)}: expected {size} bytes from byte {start} on, the file ends after {len(data)} "
            f"of them; it is cut off or was changed: fetch it again"
        )
    return data


class RangeFile(io.RawIOBase):
    """A part of a file, read as a file of its own: what is not asked for is not in memory.

    Raises:
        CutOff: on reading, if the file ends before its part does.
    """

    def __init__(self, path: str | Path, start: int, size: int) -> None:
        self._path, self._start, self._size, self._place = path, start, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from the beginning of the part."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """As of any file."""
        size = min(len(buffer), max(0, self._size - self._place))
        buffer[:size] = read_range(self._path, self._start + self._place, size)
        self._place += size
        return size


def stamp_of(path: str | Path) -> tuple[int, ...]:
    """What differs once a file was replaced or written to. FileNotFoundError if it is not there."""
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _Handle:
    descriptor: int

    def __del__(self) -> None:  # once it is dropped from the cache, and nobody reads from it
        os.close(self.descriptor)


@functools.lru_cache(maxsize=_MAX_OPEN)
def _open(path: str, stamp: tuple[int, ...]) -> _Handle:
    return _Handle(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
