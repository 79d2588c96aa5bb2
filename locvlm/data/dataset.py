"""Data files as random-access sequences that hold only byte offsets, whatever the size of a record.

The index is made in one pass when a file is opened for the first time (`index_cache.py`); objects are read
and parsed on demand, so a data set can be pickled to worker processes and shared by forked ones.
"""

import mmap
import os
import re
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from locvlm.annotations.instruct import sample_from_llava
from locvlm.data.archive import require_readable_root
from locvlm.data.byte_ranges import read_range
from locvlm.data.index_cache import open_index
from locvlm.data.shards import ShardSample, ShardSamples, read_member
from locvlm.data.video_folder import VideoFolder
from locvlm.io import first_character, parse_json_line, record_from_json, resolve_inside
from locvlm.records import Record, Sample

Kind = Literal["records", "llava", "webdataset"]
Parsed = TypeVar("Parsed")
_PARSERS: dict[str, Callable[..., Record | Sample]] = {
    "records": record_from_json,
    "llava": sample_from_llava,
}

# a string, or a bracket outside of strings; what is between them does not matter to find where objects end
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


class JsonObjects:
    """The objects of a JSON Lines file, or of a file that is one JSON array, by position.

    Raises:
        ValueError: on opening, if the file is missing or empty, or holds a line or element that is no
            complete object; on reading, if one is not valid JSON. Messages name file and line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(
                f"no such data file: {self.path}; build it first, or correct the path of its source"
            )
        is_array = first_character(self.path) == "["
        kind, build = ("array", _index_array) if is_array else ("lines", _index_lines)
        self._index = open_index(kind, [self.path], lambda: build(self.path))
        if not len(self.spans):
            raise ValueError(f"the data set {self.path} is empty; expected at least one record")

    @property
    def spans(self) -> NDArray[np.int64]:
        """(n, 2) bytes [start, end) of the objects."""
        return self._index.rows

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.read(index, parse_json_line)

    def read(self, index: int, parse: Callable[..., Parsed]) -> Parsed:
        """`parse(bytes of the object, where="file:line")`."""
        start, end = (int(v) for v in self.spans[index])
        raw = read_range(self.path, start, end - start)
        try:
            return parse(raw, where=f"{self.path}: entry {index}")
        except ValueError:  # counting lines takes a pass over the file, so only for the message
            return parse(raw, where=f"{self.path}:{_line_of(self.path, start)}")


class FileDataset:
    """The samples of one data file, or of tar shards.

    records     JSON Lines of `Record`: what is asked, rendered to text by whoever loads it
    llava       a LLaVA JSON file, array or lines, or Video-ChatGPT's: `Sample`s verbatim, one branch each
    webdataset  tar shards that hold either of these, or captions, beside images or videos (`shards.py`)

    Args:
        path: the file; for shards a pattern, "shards/{00000..00099}.tar" or "shards/*.tar".
        image_root: a folder, or a zip; shards hold their images themselves.
        video_root: a folder; None where videos are refused. Shards hold their videos themselves.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_root: str | Path = ".",
        video_root: str | Path | None = None,
        kind: Kind = "records",
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(
                f"unknown kind of data {kind!r} for {path}; expected one of {', '.join(get_args(Kind))}"
            )
        if kind == "webdataset" and Path(image_root) != Path("."):
            raise ValueError(
                f"{path}: image_root is {os.fspath(image_root)!r}, but the images of shards lie in the "
                f"shards; leave it out"
            )
        require_readable_root(image_root)
        self.objects = ShardSamples(os.fspath(path)) if kind == "webdataset" else JsonObjects(path)
        self.image_root = Path(image_root)
        self.videos = None if video_root is None else VideoFolder(video_root)
        self.kind = kind

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, index: int) -> Record | Sample:
        """A record or sample, its image or video as a path that `load_image` or `read_clip` can open.

        Raises:
            ValueError: naming file and line, or shard and key, if it is not valid, its image is outside of
                `image_root`, or it is about a video where these are refused.
        """
        if isinstance(self.objects, ShardSamples):
            return _read_shard_sample(self.objects[index], takes_videos=self.videos is not None)
        return self.objects.read(index, self._parse)

    def _parse(self, raw: bytes, *, where: str) -> Record | Sample:
        row = parse_json_line(raw, where=where)
        if self.videos is None:
            _require_no_video(row, where)
        item = _PARSERS[self.kind](row, where=where)
        try:
            if item.video is not None and self.videos is not None:
                return replace(item, video=str(self.videos.find(item.video)))
            if item.image is None:
                return item
            return replace(item, image=str(resolve_inside(self.image_root, item.image)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _read_shard_sample(sample: ShardSample, *, takes_videos: bool) -> Record | Sample:
    """What the sample's .json holds, or its caption as a record; the id is the key unless it has its own."""
    where = f"{sample.tar}: {sample.key}"
    row = parse_json_line(read_member(sample, sample.json), where=where) if sample.json.start else {}
    kind = "llava" if "conversations" in row else "records"
    if not ("conversations" in row or "queries" in row):
        if not (sample.caption.start and sample.image):
            raise ValueError(
                f'{where}: its .json has neither "queries" (a record) nor "conversations" (LLaVA), and there '
                f"is no .txt with a caption"
            )
        row = {"queries": [{"objective": "caption", "answer": _read_caption(sample, where)}]}
    for what, held in (("image", sample.image), ("video", sample.video)):
        if row.get(what) and held is None:
            raise ValueError(f"{where}: its .json names the {what} {row[what]!r}, the shard does not hold it")
    if not takes_videos:
        _require_no_video({**row, "video": row.get("video") or sample.video}, where)
    shown = {"image": sample.image, **({} if sample.video is None else {"video": sample.video})}
    return _PARSERS[kind]({"id": sample.key, **row, **shown}, where=where)


def _require_no_video(row: dict[str, Any], where: str) -> None:
    """Raise for a record or conversation about a video, which would be trained on as text alone."""
    video = row.get("video", row.get("video_id"))
    if video is not None:
        raise ValueError(
            f"{where}: it is about the video {video!r}; video records are for stage 3, this stage "
            f"reads images: take the file out of its sources"
        )


def _read_caption(sample: ShardSample, where: str) -> str:
    try:
        return " ".join(read_member(sample, sample.caption).decode().split())
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: its .txt is not UTF-8: {error}") from error


def _index_lines(path: Path) -> NDArray[np.int64]:
    spans, position = array("q"), 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if text and not (text.startswith(b"{") and text.endswith(b"}")):
                raise ValueError(
                    f"{path}:{number}: expected one complete JSON object per line, got {_excerpt(text)}"
                )
            if text:
                spans.extend((position, position + len(line)))
            position += len(line)
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _index_array(path: Path) -> NDArray[np.int64]:
    """Byte spans of the elements of a JSON array, found by its brackets, without parsing the file."""
    spans, start, depth = array("q"), 0, 0
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _STRUCTURE.finditer(data):
            symbol = data[match.start()]
            if depth == 1 and symbol not in b"{]":
                line = _line_of(path, match.start())
                raise ValueError(
                    f"{path}:{line}: expected an array of objects, got {_excerpt(match.group())}"
                )
            if symbol in b"[{":
                depth += 1
                start = match.start() if depth == 2 else start
            elif symbol in b"]}":
                depth -= 1
                if depth == 1:
                    spans.extend((start, match.end()))
    if depth != 0:
        raise ValueError(
            f"{path}:{_line_of(path, start)}: a bracket does not close; the file is cut or damaged"
        )
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _line_of(path: Path, offset: int) -> int:
    """Line number, from 1, of a byte."""
    lines = 1
    with open(path, "rb") as file:
        while offset > 0 and (block := file.read(min(offset, 1 << 20))):
            lines += block.count(b"\n")
            offset -= len(block)
    return lines


def _excerpt(text: bytes) -> str:
    shown = text.decode("utf-8", errors="replace")
    return repr(shown if len(shown) <= 60 else f"{shown[:30]} ... {shown[-20:]}")
