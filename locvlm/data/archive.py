"""Images that stay in their archives: a zip in place of an image folder, or members of tar shards.

A path leads into a zip as into a folder: "images.zip/000.jpg", "images.zip/train/000.jpg". So `image_root` of
a source may be "images.zip", or "images.zip/train" where the images lie deeper. A member of a shard is named
with its place, "shards/00000.tar/000017.jpg@1536+3021" (byte of its start + size), so that no process needs a
shard's table of contents.

`zipfile` reads the table of a zip, once; members are read here. An open ZipFile holds an object for every
member, for CC3M's 595 thousand 340 MB in each worker of each rank. Members keep to their archive: a name only
ever selects bytes of it and never becomes a path on the disk.
"""

import functools
import hashlib
import io
import os
import posixpath
import re
import zipfile
import zlib
from bisect import bisect_left
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locvlm.data.byte_ranges import RangeFile, read_range, stamp_of
from locvlm.data.index_cache import Index, open_index

_IN_TAR = re.compile(r"(?P<tar>.+\.tar)/.+@(?P<start>\d+)\+(?P<size>\d+)", re.DOTALL)
_MEMBER = np.dtype(
    [
        ("name", "u8"),  # first 64 bits of the BLAKE2 hash of the name; rows are sorted by it
        ("start", "i8"),  # of the member's header in the archive, in bytes
        ("packed_size", "i8"),  # bytes
        ("size", "i8"),
        ("crc", "u4"),
        ("method", "u2"),
    ]
)
_HEADER = 30  # bytes before name and extra field of a member
_ENCRYPTED = 1  # bit of a member's flags
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class DamagedArchive(OSError):
    """A member that does not hold what the archive's table says."""


def locate(path: str | Path) -> str | Path | io.BytesIO:
    """What to open for an image: the path itself, or the bytes of a member where it leads into an archive.

    Raises:
        FileNotFoundError: the archive has no such member.
        OSError: `DamagedArchive` or `CutOff` for a member that cannot be read.
        ValueError: the archive has no readable table of contents.
    """
    text = os.fspath(path)
    if (match := _IN_TAR.fullmatch(text)) and os.path.isfile(match["tar"]):
        return io.BytesIO(read_range(match["tar"], int(match["start"]), int(match["size"])))
    archive, member = _split_at_zip(text)
    return io.BytesIO(_read_member(archive, member)) if archive else path


def open_video(path: str | Path) -> str | io.RawIOBase:
    """What a decoder opens for a video: its path, or a member of a tar shard as a file that it reads from."""
    text = os.fspath(path)
    match = _IN_TAR.fullmatch(text)
    if match is None or not os.path.isfile(match["tar"]):
        return text
    return RangeFile(match["tar"], int(match["start"]), int(match["size"]))


def tar_member(tar: str | Path, name: str, start: int, size: int) -> str:
    """The path of a member of a tar, with the place of its bytes."""
    return f"{os.fspath(tar)}/{name}@{start}+{size}"


def require_readable_root(root: str | Path) -> None:
    """Look into an image root that is a zip, or leads into one, and index it; other roots are not touched.

    Raises:
        ValueError: for a zip that is missing, cut off, encrypted, or packed by another method than deflate.
    """
    text = os.fspath(root)
    archive, _ = _split_at_zip(f"{text}/")
    if archive:
        _open_zip(archive, stamp_of(archive))
    elif text.lower().endswith(".zip") and not os.path.isdir(text):
        raise ValueError(f"no such archive of images: {text}; fetch it, or correct the source's image_root")


def _split_at_zip(text: str) -> tuple[str, str]:
    """("images.zip", "train/000.jpg"); two empty strings if the path leads through no zip."""
    for match in re.finditer(r"\.zip/", text, re.IGNORECASE):
        archive = text[: match.end() - 1]
        if os.path.isfile(archive):
            return archive, text[match.end() :]
    return "", ""


# ---- zip


def _read_member(archive: str, name: str) -> bytes:
    rows = _open_zip(archive, stamp_of(archive)).rows
    names, wanted = rows["name"], _hash(name)
    place = bisect_left(names, wanted)  # np.searchsorted would copy the whole column
    if place == len(rows) or names[place] != wanted:
        raise FileNotFoundError(f"no member {name!r} in {archive}")
    row = rows[place]
    start, packed_size, size = (int(row[field]) for field in ("start", "packed_size", "size"))
    header = read_range(archive, start, _HEADER)
    if header[:4] != b"PK\x03\x04":
        raise DamagedArchive(f"{archive}: no member starts at byte {start}; fetch the archive again")
    skipped = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    data = _unpack(read_range(archive, start + _HEADER + skipped, packed_size), int(row["method"]), size)
    if len(data) != size or zlib.crc32(data) != int(row["crc"]):
        raise DamagedArchive(
            f"{archive}: {name!r} does not have the checksum that it was packed with; fetch the archive again"
        )
    return data


def _unpack(packed: bytes, method: int, size: int) -> bytes:
    if method == zipfile.ZIP_STORED:
        return packed
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)  # and never more than that


@functools.lru_cache(maxsize=16)
def _open_zip(archive: str, stamp: tuple[int, ...]) -> Index:
    """The index of a zip; `stamp` makes a replaced one be read again."""
    return open_index("zip", [Path(archive)], lambda: _index_zip(archive))


def _index_zip(archive: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(archive) as file:
            found = [info for info in file.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise ValueError(
            f"{archive} cannot be read as a zip archive ({error}); its table stands at its end, so it is "
            f"probably cut off: compare its size, and fetch it again"
        ) from error
    for info in found:
        is_encrypted = bool(info.flag_bits & _ENCRYPTED)
        if is_encrypted or info.compress_type not in _METHODS:
            how = "encrypted" if is_encrypted else f"packed by method {info.compress_type}"
            raise ValueError(
                f"{archive}: {info.filename!r} is {how}; expected members that are stored or deflated: "
                f"unpack the archive and name the folder"
            )
    members = {posixpath.normpath(info.filename): info for info in found}  # of two alike, the last is valid
    rows = np.array([(_hash(name), *_place(info)) for name, info in members.items()], dtype=_MEMBER)
    rows.sort(order="name")
    if (rows["name"][1:] == rows["name"][:-1]).any():
        raise ValueError(f"{archive}: two names have the same hash; unpack it and name the folder")
    return rows


def _place(info: zipfile.ZipInfo) -> tuple[int, ...]:
    return info.header_offset, info.compress_size, info.file_size, info.CRC, info.compress_type


def _hash(name: str) -> int:
    """64 bits of a name, "./a.jpg" as "a.jpg"."""
    normal = posixpath.normpath(name).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(normal, digest_size=8).digest(), "little")
