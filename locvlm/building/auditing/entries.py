"""The entries of a built file, record or LLaVA conversation, as far as they can be read.

Where training stops at a fault, an audit goes on and counts it: lines and entries that cannot be read go to a
ledger, boxes that no record may have are taken out and told of. Only a tar that is damaged stops it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from locvlm.annotations.image_names import image_key, is_only_a_place
from locvlm.annotations.instruct import sample_from_llava
from locvlm.coords.contract import CoordinateContract
from locvlm.data.shards import ShardSample, ShardSamples, expand_shards, read_member
from locvlm.geometry import Box, intersection
from locvlm.io import Ledger, first_character, parse_json_line, record_from_json
from locvlm.objectives.render import render_record
from locvlm.records import Record, Sample

Kind = Literal["records", "llava"]
NO_NUMBERS = "box is not four finite numbers"
NO_AREA = "box without area"
OUTSIDE = "box wholly outside of its image"
UNREADABLE = "no JSON object"
OF_NO_FORM = "neither a record nor a conversation that can be read"
_GIVE_UP = 100  # entries, none of which could be read: the file is of another kind
_VIDEO, _PLACE = "video/", "place/"  # before a path; a name that `image_key` gives holds no slash


@dataclass(frozen=True, slots=True)
class Entry:
    """A record, without boxes that it may not have, or a LLaVA conversation."""

    item: Record | Sample
    box_faults: tuple[str, ...] = ()

    @property
    def shown(self) -> str | None:
        """The path of its image or video; None for text alone."""
        return self.item.image if self.item.video is None else self.item.video

    @property
    def key(self) -> str:
        """Equal for entries about the same image or video; empty for text alone.

        What another set may name otherwise, or give to another image, keeps its path; see `is_image_key`.
        """
        if self.item.video is not None:
            return f"{_VIDEO}{self.item.video}"
        if self.item.image is None:
            return ""
        key = image_key(self.item.image)
        return f"{_PLACE}{self.item.image}" if is_only_a_place(key) else key

    def as_sample(self, contract: CoordinateContract) -> Sample:
        """Its text: a record is rendered as an epoch would read it first, without a crop."""
        if isinstance(self.item, Sample):
            return self.item
        return render_record(self.item, contract, seed=0, epoch=0)


def is_video_key(key: str) -> bool:
    """Whether a key is a video's."""
    return key.startswith(_VIDEO)


def is_image_key(key: str) -> bool:
    """Whether a key names an image that can be known again in another set."""
    return bool(key) and "/" not in key


def files_of(path: Path) -> list[Path]:
    """The files that `path` names: itself, or the tars of "shards/*.tar" or "shards/{000..009}.tar".

    Raises:
        ValueError: if one is not there.
    """
    if path.suffix == ".tar":
        return expand_shards(str(path))
    if not path.is_file():
        raise ValueError(f"{path}: no such file; name a record file, LLaVA JSON, or tar shards")
    return [path]


def read_audited(path: Path, ledger: Ledger) -> Iterator[Entry]:
    """The entries of JSON Lines, one JSON array, or tar shards; the first that can be read tells the kind.

    Raises:
        ValueError: naming the file, if it is missing, empty or of another kind.
    """
    files_of(path)
    kind: Kind | None = None
    why = "it is empty"
    for where, row in _rows(path):
        if isinstance(row, ValueError):
            ledger.drop(where, UNREADABLE, str(row))
            why = why if ledger.num_dropped > 1 else str(row)
        else:
            kind = kind or _kind_of(row, where)
            try:
                entry = (
                    _record(row, where) if kind == "records" else Entry(sample_from_llava(row, where=where))
                )
            except ValueError as error:
                ledger.drop(where, OF_NO_FORM, str(error))
                why = why if ledger.num_dropped > 1 else str(error)
            else:
                ledger.keep()
                yield entry
        if not ledger.num_kept and ledger.num_dropped >= _GIVE_UP:
            break
    if not ledger.num_kept:
        raise ValueError(f"{path}: expected a record file or LLaVA JSON, none of it can be read: {why}")


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, JSON value, or why there is none)."""
    if path.suffix == ".tar":
        samples = ShardSamples(str(path))
        for sample in (samples[k] for k in range(len(samples))):
            where = f"{sample.tar}: {sample.key}"
            try:
                yield where, _shard_row(sample, where)
            except ValueError as error:
                yield where, error
        return
    for where, text in _texts(path):
        try:
            yield where, parse_json_line(text, where=where)
        except ValueError as error:
            yield where, error


def _texts(path: Path) -> Iterator[tuple[str, bytes]]:
    """(where, text) of every line that is not blank, or of every value of one array."""
    if first_character(path) != "[":
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", line
        return
    try:  # texts, not values: those of LLaVA's mix of 665K would take four times the memory
        texts = msgspec.json.decode(path.read_bytes(), type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    for index, text in enumerate(texts):
        yield f"{path}: entry {index}", bytes(text)


def _shard_row(sample: ShardSample, where: str) -> dict[str, Any]:
    """What a sample's .json says, or its caption as a record; its image goes by its own name, or the key."""
    row = parse_json_line(read_member(sample, sample.json), where=where) if sample.json.start else {}
    if not ("conversations" in row or "queries" in row):
        caption = read_member(sample, sample.caption).decode()
        row = {"queries": [{"objective": "caption", "answer": " ".join(caption.split())}]}
    named = {"image": f"{sample.key}.jpg"} if sample.image else {}
    return {"id": sample.key, **named, **row}


def _kind_of(row: Any, where: str) -> Kind:
    fields = row.keys() if isinstance(row, dict) else ()
    if "queries" in fields:
        return "records"
    if "conversations" in fields or "video_id" in fields:
        return "llava"
    found = f"an object with {', '.join(fields) or 'nothing in it'}" if isinstance(row, dict) else repr(row)
    raise ValueError(
        f'{where}: expected a record (with "queries") or a LLaVA conversation (with "conversations"), got '
        f"{found[:200]}"
    )


def _record(row: Any, where: str) -> Entry:
    """The record of a row; only where it is refused, its boxes are looked at one by one."""
    try:
        return Entry(record_from_json(row, where=where))
    except ValueError:
        if not isinstance(row, dict) or not isinstance(row.get("queries"), list):
            raise
        faults = [_box_fault(query, row) for query in row["queries"]]
        sound = [query for query, fault in zip(row["queries"], faults, strict=True) if fault is None]
        if len(sound) == len(faults):
            raise
    record = record_from_json({**row, "queries": sound}, where=where)
    return Entry(record, tuple(fault for fault in faults if fault is not None))


def _box_fault(query: Any, row: dict[str, Any]) -> str | None:
    """What is wrong with the box of a query as it stands in the file; None also where there is no box."""
    corners = query.get("box_px") if isinstance(query, dict) else None
    if corners is None:
        return None
    is_numbers = isinstance(corners, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in corners
    )
    if not is_numbers or len(corners) != 4:
        return NO_NUMBERS
    box, size = Box(*corners), (row.get("width"), row.get("height"))
    if box.width <= 0 or box.height <= 0:
        return NO_AREA
    if not all(isinstance(side, int) and side > 0 for side in size):
        return None  # not the box's fault
    return OUTSIDE if intersection(box, Box(0, 0, *size)) is None else None  # type: ignore[arg-type]
