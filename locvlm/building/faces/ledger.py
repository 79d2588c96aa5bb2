"""What is written down of every file: a record, so that the ledger of blurred faces is a record file too.

A still image with faces asks for each of them, in source pixels of the upright image; an animation or a
video lists [frame, x1, y1, x2, y2, score] in its `source`. There, too, are the SHA-256 of the file that was
read, and of the one that was written in its place. An image that could not be used has no `image`, and says
why.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from locvlm.building.faces.detect import Face
from locvlm.geometry import Box, Size
from locvlm.io import Ledger, read_records
from locvlm.records import Query, Record

_SUFFIX = ".faces.jsonl"


def ledger_path(out: Path, shard_index: int = 0, shard_count: int = 1) -> Path:
    """The ledger beside a folder of blurred images, or of a shard's part of it."""
    part = "" if shard_count == 1 else f".{shard_index}-of-{shard_count}"
    return out.with_name(f"{out.name}{part}{_SUFFIX}")


def ledgers_of(out: Path) -> list[Path]:
    """The ledgers beside a folder, of all of it or of parts, and what belongs to them, such as journals."""
    named = re.compile(re.escape(out.name) + r"(\.\d+-of-\d+)?" + re.escape(_SUFFIX) + r"(\..*)?")
    folder = out.resolve().parent
    return sorted(path for path in folder.glob(f"*{_SUFFIX}*") if named.fullmatch(path.name))


@cache
def written_before(folder: Path) -> frozenset[str]:
    """SHA-256 of the files that were blurred already, of a folder that is itself the output of a build."""
    return frozenset(
        record.source["written_sha256"]
        for path in ledgers_of(folder)
        if path.name.endswith(_SUFFIX)
        for record in read_records(path)
        if "written_sha256" in record.source
    )


def hashes_of(data: bytes, written: bytes | None) -> dict[str, Any]:
    """SHA-256 of a file, and of the one that was written in its place, None if it stays."""
    hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    if written is not None:
        hashes["written_sha256"] = hashlib.sha256(written).hexdigest()
    return hashes


def still_record(
    name: str, faces: Sequence[Face], *, image: str, size: Size, hashes: dict[str, Any]
) -> Record:
    """A still image, with a query for each face."""
    scores = {"scores": [round(face.score, 3) for face in faces]} if faces else {}
    queries = tuple(
        Query(objective="locpred", phrase="face", category="face", box_px=_rounded(face.box_px))
        for face in faces
    )
    return Record(
        id=name, image=image, width=size[0], height=size[1], queries=queries, source={**hashes, **scores}
    )


def clip_record(
    name: str, faces: Sequence[Sequence[Face]], *, image: str | None, size: Size, hashes: dict[str, Any]
) -> Record:
    """A video, or an image of several frames."""
    found = [
        [frame, *_rounded(face.box_px), round(face.score, 3)]
        for frame, here in enumerate(faces)
        for face in here
    ]
    source = {**hashes, "frames": len(faces), "faces": found}
    return Record(id=name, image=image, width=size[0], height=size[1], source=source)


def blurred_before_record(name: str, *, image: str | None, sha256: str) -> Record:
    """A file that is the output of an earlier build: it stays as it is."""
    return Record(id=name, image=image, source={"sha256": sha256, "blurred_before": True})


def dropped_record(name: str, reason: str, detail: str) -> Record:
    """A file that has no counterpart in the output, and why."""
    return Record(id=name, image=None, source={"dropped": reason, "detail": detail})


def counted(records: Iterable[Record], ledger: Ledger, counts: Counter[str]) -> Iterator[Record]:
    """The records, counted as they pass: in the ledger what was kept and dropped, in `counts` what it was."""
    for record in records:
        source = record.source
        if "dropped" in source:
            ledger.drop(record.id, source["dropped"], source["detail"])
        else:
            ledger.keep()
            num_faces = len(source.get("scores") or source.get("faces") or ())
            counts["faces"] += num_faces
            counts["blurred" if num_faces else "without a face"] += "blurred_before" not in source
            counts["blurred before"] += "blurred_before" in source
        yield record


def _rounded(box: Box) -> Box:
    """To a tenth of a pixel, which no face is narrower than."""
    return Box(*(round(v, 1) for v in box))
