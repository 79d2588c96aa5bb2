"""Files: JSON Lines, records, atomic writes, paths that stay inside their root, and a count of every drop."""

import hashlib
import json
import logging
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import IO, Any, get_args

from locvlm.geometry import Box, intersection
from locvlm.records import Objective, Query, Record

logger = logging.getLogger(__name__)

_EXAMPLES_PER_REASON = 3  # dropped items logged, and kept in the saved ledger, for each reason
_OBJECTIVES: tuple[str, ...] = get_args(Objective)
_REQUIRED_OF_QUERY = {
    "locpred": ("phrase", "box_px"),
    "negpred": ("phrase",),
    "revloc": ("phrase", "box_px"),
    "caption": ("answer",),
    "vqa": ("question", "answer"),
}
_DEFAULTS: dict[
    type, list[tuple[str, Any]]
] = {  # of every field; looked up once, records come by the million
    cls: [
        (spec.name, spec.default if spec.default_factory is MISSING else spec.default_factory())
        for spec in fields(cls)
    ]
    for cls in (Record, Query)
}
_FIELDS = {cls: tuple(name for name, _ in defaults) for cls, defaults in _DEFAULTS.items()}


# ---- paths and whole files


def resolve_inside(root: str | Path, relative: str | Path) -> Path:
    """`root / relative`, for a path that came out of a data file.

    Symbolic links below `root` are followed: whoever set up the folder put them there.

    Raises:
        ValueError: if the path is empty or absolute, or leads out of `root`.
    """
    text = os.fspath(relative)
    normal = os.path.normpath(text) if text else ""
    is_outside = os.path.isabs(normal) or normal == ".." or normal.startswith(".." + os.sep)
    if not normal or normal == "." or "\0" in text or is_outside:
        raise ValueError(
            f"a path in a data file must stay inside its root {os.fspath(root)!r}, got {text!r}; "
            f"write it relative to that folder, without '..'"
        )
    return Path(root) / normal


def sha256_of(path: str | Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_writer(path: str | Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """A file to write to that appears under `path` when the block ends, complete, or never if it raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with open(descriptor, "wb" if binary else "w", encoding=None if binary else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: str | Path, *, allow_nan: bool = False) -> Any:
    """The value in a JSON file; `allow_nan` takes NaN and Infinity, which are no JSON, for numbers.

    Raises:
        ValueError: naming the file and the line where it is not valid JSON in UTF-8.
    """
    try:
        refuse = None if allow_nan else _refuse_constant
        return json.loads(Path(path).read_bytes(), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    except ValueError as error:  # not UTF-8, or NaN
        raise ValueError(f"{path}: not valid JSON: {error}") from error


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_writer(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


# ---- JSON Lines


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) of every line that is not blank.

    Raises:
        ValueError: naming the file and the line that is not one JSON object in UTF-8.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            yield number, parse_json_line(line, where=f"{path}:{number}")


def first_character(path: str | Path) -> str:
    """The first character of a file that is not white space; empty if there is none."""
    with open(path, "rb") as file:
        while (byte := file.read(1)).isspace():
            pass
    return byte.decode("ascii", errors="replace")


def read_entries(path: str | Path, *, expected: str, by_content: bool = False) -> Iterator[tuple[str, Any]]:
    """(where, entry) of a file that is one JSON array, or JSON Lines if its name ends in .jsonl.

    Args:
        expected: what the file should hold, for the message.
        by_content: it is JSON Lines if it does not begin with a bracket, whatever its name.

    Raises:
        ValueError: naming the file, if it is neither.
    """
    if first_character(path) != "[" if by_content else Path(path).suffix == ".jsonl":
        for number, row in read_jsonl(path):
            yield f"{path}:{number}", row
        return
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected {expected}, got {type(entries).__name__}")
    for index, entry in enumerate(entries):
        yield f"{path}: entry {index}", entry


def parse_json_line(line: bytes, *, where: str) -> dict[str, Any]:
    """The one JSON object on a line; `where` (file and line number) opens the message of the ValueError."""
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from error
    except ValueError as error:  # not UTF-8, or NaN
        raise ValueError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected one JSON object per line, got {type(row).__name__}")
    return row


def write_jsonl(path: str | Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one object per line, atomically; returns their number."""
    count = 0
    with atomic_writer(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON; write a number or null")


# ---- records on disk


def record_to_json(record: Record) -> dict[str, Any]:
    """A record as a JSON object; fields that hold their default are left out, a Box is [x1, y1, x2, y2]."""
    row = _without_defaults(record)
    row["queries"] = [_without_defaults(query) for query in record.queries]
    return row


def record_from_json(row: dict[str, Any], *, where: str = "record") -> Record:
    """The inverse of `record_to_json`, strict; `where` (file and line number) opens every message.

    Raises:
        ValueError: for an unknown field or objective, a field of the wrong type, both an image and a video, a
            query without what its objective needs, or a box without area, without an image or video and its
            size, or outside of that.
    """
    _require_known_fields(row, Record, where)
    _require_types(row, dict.fromkeys(("image", "video"), (str, type(None))), where)
    _require_types(row, {"id": str, "width": int, "height": int}, where)
    _require_types(row, {"queries": list, "source": dict}, where)
    for name in ("id", "image"):
        if name not in row:
            raise ValueError(
                f"{where}: the field {name!r} is missing; "
                f'text-only records and those of videos have "image": null'
            )
    if row["image"] is not None and row.get("video") is not None:
        raise ValueError(
            f"{where}: a record is about an image or a video, got image {row['image']!r} and video "
            f"{row['video']!r}; write two records, each with its own id"
        )
    queries = tuple(
        _query_from_json(query, where=f"{where}: queries[{index}]")
        for index, query in enumerate(row.get("queries", ()))
    )
    record = Record(**{**row, "queries": queries})
    _require_boxes_on_image(record, where)
    return record


def read_records(path: str | Path) -> Iterator[Record]:
    """The records of a JSON Lines file, one by one; errors name the file and the line."""
    for number, row in read_jsonl(path):
        yield record_from_json(row, where=f"{path}:{number}")


def write_records(path: str | Path, records: Iterable[Record]) -> int:
    """Write records as JSON Lines, atomically; returns their number."""
    return write_jsonl(path, (record_to_json(record) for record in records))


def _require_boxes_on_image(record: Record, where: str) -> None:
    boxes = {index: query.box_px for index, query in enumerate(record.queries) if query.box_px is not None}
    shown = record.image if record.video is None else record.video
    if boxes and (shown is None or record.width <= 0 or record.height <= 0):
        raise ValueError(
            f"{where}: boxes are source pixels, so the record needs an image with its width and height, or a "
            f"video with them, got image {record.image!r}, video {record.video!r}, width {record.width}, "
            f"height {record.height}"
        )
    image = Box(0, 0, record.width, record.height)
    for index, box in boxes.items():
        if intersection(box, image) is None:
            raise ValueError(
                f"{where}: queries[{index}]: box_px {list(box)} lies outside of its image; expected pixels "
                f"within {record.width} x {record.height}: correct the box or the record's width and height"
            )


def _query_from_json(row: Any, *, where: str) -> Query:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object, got {type(row).__name__}")
    _require_known_fields(row, Query, where)
    objective = row.get("objective")
    if objective not in _OBJECTIVES:
        raise ValueError(f"{where}: unknown objective {objective!r}; expected {', '.join(_OBJECTIVES)}")
    _require_types(row, dict.fromkeys(("phrase", "category", "question", "answer"), str), where)
    _require_types(row, {"source": dict}, where)
    values = dict(row)
    if row.get("box_px") is not None:
        values["box_px"] = _box_from_json(row["box_px"], where=where)
    for name in _REQUIRED_OF_QUERY[objective]:
        if values.get(name) in (None, ""):
            raise ValueError(f"{where}: a {objective} query needs {name!r}, got {row.get(name)!r}")
    if objective == "negpred" and values.get("box_px") is not None:
        raise ValueError(f"{where}: a negpred query asks for what is absent: no box, got {row['box_px']}")
    return Query(**values)


def _box_from_json(value: Any, *, where: str) -> Box:
    is_numbers = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    if not is_numbers or len(value) != 4 or value[2] <= value[0] or value[3] <= value[1]:
        raise ValueError(
            f"{where}: box_px must be [x1, y1, x2, y2] in source pixels, x1 < x2 and y1 < y2, got {value!r}; "
            f"correct it or leave the query out"
        )
    return Box(*value)


def _without_defaults(item: Record | Query) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, default in _DEFAULTS[type(item)]:
        value = getattr(item, name)
        if value != default:
            row[name] = list(value) if isinstance(value, Box) else value
    return row


def _require_known_fields(row: dict[str, Any], cls: type, where: str) -> None:
    known = _FIELDS[cls]
    unknown = [name for name in row if name not in known]
    if unknown:
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; expected {', '.join(known)}")


def _require_types(row: dict[str, Any], types: dict[str, Any], where: str) -> None:
    for name, expected in types.items():
        if name in row and (not isinstance(row[name], expected) or isinstance(row[name], bool)):
            names = expected if isinstance(expected, tuple) else (expected,)
            wanted = " or ".join("null" if t is type(None) else t.__name__ for t in names)
            raise ValueError(f"{where}: {name} must be {wanted}, got {row[name]!r}")


# ---- what was dropped, and why


class Ledger:
    """Counts every item that was kept or dropped, drops by reason, so that nothing disappears in silence.

    Example:
        ledger = Ledger("coco train")
        ledger.keep()
        ledger.drop("000000000009", "zero-area box", "[12, 30, 12, 44]")
        ledger.require_dropped_at_most(0.01)  # ValueError: dropped 1 of 2 items ...
    """

    def __init__(self, name: str = "items") -> None:
        self.name = name
        self.num_kept = 0
        self.dropped: Counter[str] = Counter()  # reason -> items
        self.examples: dict[str, list[str]] = {}  # reason -> the first few items

    @property
    def num_dropped(self) -> int:
        """Items dropped, for any reason."""
        return self.dropped.total()

    @property
    def dropped_fraction(self) -> float:
        """Dropped items as a fraction of all, 0 when there was none."""
        return self.num_dropped / max(1, self.num_kept + self.num_dropped)

    def keep(self, n: int = 1) -> None:
        """Count `n` items that were kept."""
        self.num_kept += n

    def drop(self, item_id: str | int, reason: str, detail: str = "") -> None:
        """Count one dropped item; `reason` is one of a few fixed phrases, what differs goes into `detail`."""
        self.dropped[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES_PER_REASON:
            examples.append(f"{item_id} ({detail})" if detail else str(item_id))
            logger.warning("%s: dropped %s: %s", self.name, examples[-1], reason)
            if len(examples) == _EXAMPLES_PER_REASON:
                logger.warning("%s: further drops for this reason are only counted: %s", self.name, reason)

    def summary(self) -> str:
        """One line: "coco train: kept 97, dropped 3 (2 zero-area box, 1 crowd)"."""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
        return f"{self.name}: kept {self.num_kept}, dropped {self.num_dropped}" + (
            f" ({reasons})" if reasons else ""
        )

    def require_dropped_at_most(self, fraction: float) -> None:
        """Raise ValueError, with reasons and examples, if more than `fraction` of all items was dropped."""
        if self.dropped_fraction <= fraction:
            return
        examples = "; ".join(f"{reason}: {', '.join(items)}" for reason, items in self.examples.items())
        raise ValueError(
            f"{self.name}: dropped {self.num_dropped} of {self.num_kept + self.num_dropped} items, "
            f"{self.dropped_fraction:.2%}, more than the limit of {fraction:.2%} (for example {examples}); "
            f"repair the data or raise max_dropped_fraction"
        )

    def to_dict(self) -> dict[str, Any]:
        """The counts and examples as plain JSON values."""
        reasons = {r: {"count": n, "examples": self.examples[r]} for r, n in self.dropped.most_common()}
        return {"name": self.name, "kept": self.num_kept, "dropped": self.num_dropped, "reasons": reasons}

    def save(self, path: str | Path, **about: Any) -> None:
        """Write the counts as JSON to `path`, with what else explains the file (arguments, commit)."""
        write_json(path, {**self.to_dict(), **about})
