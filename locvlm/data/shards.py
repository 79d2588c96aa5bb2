"""Samples in tar shards, webdataset's layout, by position: any sample is read at once, in any order.

    shards/00000.tar    000000.jpg 000000.json 000001.jpg 000001.json ...

Members that follow each other and share a name up to its first dot are one sample: an image or a video, and
a .json with one of our records or a LLaVA entry; or an image and a .txt with its caption. A .json with
neither (crawlers leave one beside the .txt) is passed over.

A step draws from the whole data set by position, which is what makes order and resuming exact, for any number
of ranks and workers. So each tar is gone through once, its headers only, and an index says where the members
of every sample are. The package `webdataset` streams shards from one end to the other and resumes by reading
again; `wids`, once part of it, reads by position, but goes through the headers of a tar whenever it opens
one, in every process, and keeps ten open. A draw from anywhere would nearly always open one.

Shards are read by position, so they have to lie on a file system, uncompressed.
"""

import glob
import itertools
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locvlm.data.archive import tar_member
from locvlm.data.byte_ranges import read_range
from locvlm.data.index_cache import Index, open_index
from locvlm.data.video import VIDEO_EXTENSIONS

logger = logging.getLogger(__name__)

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
_VIDEO_EXTENSIONS = frozenset(VIDEO_EXTENSIONS) - {*IMAGE_EXTENSIONS}
_BLOCK = 512  # bytes; a tar consists of these
_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
_NAME = re.compile(r"((?:.*/)?[^./][^/.]*)\.([^/]+)", re.DOTALL)  # (key, extensions)


class Member(NamedTuple):
    """Where a member's bytes are in its tar; `start` is 0 for one that is not there."""

    start: int
    size: int


class ShardSample(NamedTuple):
    """One sample, unread."""

    key: str
    tar: Path
    json: Member
    caption: Member
    image: str | None  # a path that `archive.locate` understands
    video: str | None = None  # one that `archive.open_video` understands


class ShardSamples:
    """The samples of all shards that a pattern names, by position: shards in order, members as they lie.

    Args:
        pattern: a path with a range, "shards/{00000..00099}.tar", or a glob, "shards/*.tar", sorted by name.

    Raises:
        ValueError: on opening, if a shard is missing, cut off, compressed, or holds a sample that has no
            text, no image for its caption, or a key or image twice; messages name shard and key.
    """

    def __init__(self, pattern: str) -> None:
        self.tars = expand_shards(pattern)
        self._index: Index = open_index("shards", self.tars, self._build)
        if not len(self):
            raise ValueError(f"the shards {pattern} are empty; expected at least one sample")

    def __len__(self) -> int:
        return len(self._index.rows)

    def __getitem__(self, index: int) -> ShardSample:
        row = self._index.rows[index]
        tar = self.tars[int(row["shard"])]
        name = bytes(row["name"]).decode("utf-8", "surrogateescape")
        json, caption, visual = (Member(*map(int, row[part])) for part in ("json", "caption", "image"))
        shown = tar_member(tar, name, *visual) if visual.start else None
        is_video = _kind_of(_split(name)[1]) == "video"
        return ShardSample(
            key=_split(name)[0],
            tar=tar,
            json=json,
            caption=caption,
            image=None if is_video else shown,
            video=shown if is_video else None,
        )

    def _build(self) -> NDArray[Any]:
        parts = [open_index("tar", [tar], lambda tar=tar: index_tar(tar)).rows for tar in self.tars]  # type: ignore[misc]
        rows = np.empty(sum(map(len, parts)), dtype=_row(max(part.dtype["name"].itemsize for part in parts)))
        ends = itertools.accumulate(map(len, parts))
        for shard, (part, end) in enumerate(zip(parts, ends, strict=True)):
            rows[end - len(part) : end] = part
            rows["shard"][end - len(part) : end] = shard
        return rows


def read_member(sample: ShardSample, member: Member) -> bytes:
    """The bytes of a member."""
    return read_range(sample.tar, member.start, member.size)


def expand_shards(pattern: str) -> list[Path]:
    """The tars that a pattern names.

    Raises:
        ValueError: if it names none, or a range names one that is not there.
    """
    names = _expand_ranges(pattern)
    if names == [pattern] and glob.has_magic(pattern) and not os.path.isfile(pattern):
        names = sorted(glob.glob(pattern))
    missing = [name for name in names if not os.path.isfile(name)]
    if missing or not names:
        raise ValueError(
            f"no such shard: {missing[0] if missing else pattern} ({len(missing)} of the {len(names)} of "
            f"{pattern} are missing); fetch them, or correct the path of the source"
        )
    compressed = [name for name in names if not name.endswith(".tar")]
    if compressed:
        raise ValueError(
            f"{compressed[0]}: expected shards named *.tar, uncompressed, since they are read by position"
        )
    return [Path(name) for name in names]


def _expand_ranges(pattern: str) -> list[str]:
    """ "a{08..10}" -> a08, a09, a10."""
    match = _NUMBERS.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    if int(last) < int(first):
        raise ValueError(f"the range of shards {match.group()} in {pattern} ends before it begins")
    rest = _expand_ranges(pattern[match.end() :])
    numbers = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    return [f"{pattern[: match.start()]}{number}{end}" for number in numbers for end in rest]


# ---- one tar


def index_tar(path: Path) -> NDArray[Any]:
    """A row for every sample of a tar, in its order. Reads headers only.

    Raises:
        ValueError: see `ShardSamples`.
    """
    rows: list[tuple[Any, ...]] = []
    seen: set[str] = set()
    for key, members in itertools.groupby(_members(path), lambda member: _split(member.name)[0]):
        if key in seen:
            raise ValueError(
                f"{path}: the key {key!r} comes twice, with others between; the members of a sample must "
                f"follow each other: sort them by name and pack them again"
            )
        seen.add(key)
        rows.append(_row_of(key, list(members), path))
    width = max((len(row[1]) for row in rows), default=1)
    return np.array(rows, dtype=_row(width))


def _row(width: int) -> np.dtype[Any]:
    """One sample; `width` is the length of the longest name in bytes. "image" is a video in some."""
    places = [(part, "i8", 2) for part in ("json", "caption", "image")]  # start and size in bytes
    return np.dtype([("shard", "i4"), ("name", f"S{width}"), *places])


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The files of a tar that have a key."""
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
                if member.issym() or member.islnk() or member.issparse():
                    raise ValueError(f"{path}: {member.name!r} is a link or sparse; expected whole files")
                if member.isfile() and _NAME.fullmatch(member.name):
                    yield member
            _require_end(path, tar.offset)
    except (tarfile.TarError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as a tar ({error}); it is cut off, compressed, or something else: fetch "
            f"it again or decompress it"
        ) from error


def _require_end(path: Path, offset: int) -> None:
    """`tarfile` takes a file that is cut between two members, or garbage there, for the end."""
    with open(path, "rb") as file:
        file.seek(offset)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise ValueError(
                f"{path}: no end of the archive at byte {offset}; it is cut off or damaged there, or its "
                f"writer was killed: fetch or make it again"
            )


def _row_of(key: str, members: list[tarfile.TarInfo], path: Path) -> tuple[Any, ...]:
    found: dict[str, tarfile.TarInfo] = {}
    for member in members:
        part = _kind_of(_split(member.name)[1])
        if part in found:
            raise ValueError(
                f"{path}: the key {key!r} has two members for one purpose, {found[part].name!r} and "
                f"{member.name!r}; expected one image and one text"
            )
        found[part] = member
    if not ("json" in found or {"txt", "image"} <= found.keys()):
        raise ValueError(
            f"{path}: the key {key!r} has {', '.join(member.name for member in members)}; expected a .json, "
            f"or an image with a .txt"
        )
    if "image" in found and "video" in found:
        raise ValueError(
            f"{path}: the key {key!r} has an image, {found['image'].name!r}, and a video, "
            f"{found['video'].name!r}; expected one of them"
        )
    shown = found.get("image") or found.get("video")
    name = (shown or found["json"]).name.encode("utf-8", "surrogateescape")
    places = [
        (member.offset_data, member.size) if member is not None else (0, 0)
        for member in (found.get("json"), found.get("txt"), shown)
    ]
    return (0, name, *places)


def _kind_of(extension: str) -> str:
    """ "image", "video", or the extension itself."""
    small = extension.lower()
    return "image" if small in IMAGE_EXTENSIONS else "video" if small in _VIDEO_EXTENSIONS else small


def _split(name: str) -> tuple[str, str]:
    """ "train/000.jpg" -> ("train/000", "jpg")."""
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return match[1], match[2]
