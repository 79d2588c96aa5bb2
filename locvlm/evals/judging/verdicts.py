"""Verdicts on disk: what a judge replied about each pair, one append-only file per judge.

    OUT/verdicts/gpt-4o-mini-2024-07-18.video_qa.3fa2c1d0.jsonl

The first line says who judged and by what. Every other is a pair with the reply as it came: replies can be
read anew without asking again, and a pair that tasks or models have in common is asked once. Replies are
written as they come; what a kill tore is cut off, and asked again.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from locvlm.evals.asking.store import locked
from locvlm.evals.judging.rubric import Pair
from locvlm.io import parse_json_line

logger = logging.getLogger(__name__)

Replies = dict[Pair, str]  # the reply to each pair, in the order in which they came


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """Who judges, and by what; figures of two that differ in anything are not of one scale."""

    model: str  # as it was asked for
    version: str  # as the server calls it in its replies; empty if it does not
    rubric: str  # Rubric.label
    decoding: str

    @property
    def name(self) -> str:
        """Readable and the stem of its file: "gpt-4o-mini-2024-07-18.video_qa.3fa2c1d0"."""
        readable = f"{self.version or self.model}.{self.rubric.split()[0]}"
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', readable).lstrip('.-')}.{digest}"


def verdicts_folder(folder: Path) -> Path:
    """Where the verdicts of an evaluation folder are."""
    return folder / "verdicts"


def read_verdicts(folder: Path) -> dict[Judge, Replies]:
    """What every judge replied, of those that have a file in the evaluation folder.

    Raises:
        ValueError: naming the file and the line that is none of a verdicts file.
    """
    found: dict[Judge, Replies] = {}
    for path in sorted(verdicts_folder(folder).glob("*.jsonl")):
        rows = _whole_lines(path)
        if head := next(rows, None):
            found[_judge_of(*head)] = dict(_reply_of(where, row) for where, row in rows)
    return found


class VerdictsFile:
    """A judge's file, open for more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, pair: Pair, reply: str) -> None:
        """Note a reply; a later one about the same pair takes its place."""
        self._write({**pair._asdict(), "reply": reply})

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a judge says of one answer; wrong and 0 where `note` tells that it says nothing."""

    judge: Judge
    says_yes: bool = False
    score: int = 0  # 0 to 5
    note: Literal["", "unreadable reply", "no answer"] = ""


@dataclass(frozen=True, slots=True)
class Unjudged:
    """There is no verdict of an answer."""

    reason: str


@contextmanager
def open_verdicts(folder: Path, judge: Judge) -> Iterator[VerdictsFile]:
    """The judge's file in an evaluation folder, which is made if it is not there.

    Raises:
        ValueError: if another process writes it, or it is of another judge.
    """
    path = verdicts_folder(folder) / f"{judge.name}.jsonl"
    with locked(path), path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        opened = VerdictsFile(file)
        if head := next(_whole_lines(path), None):
            if (found := _judge_of(*head)) != judge:
                raise ValueError(f"{path} holds the verdicts of {found}, not those of {judge}; move it away")
        else:
            opened._write({"judge": asdict(judge)})
        yield opened


def _whole_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of each line; a last one that is not finished is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield f"{path}:{number}", parse_json_line(line, where=f"{path}:{number}")


def _judge_of(where: str, row: dict[str, Any]) -> Judge:
    try:
        return Judge(**row["judge"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{where}: expected who judged, got {row}; eval/judge.py writes these files, move others away"
        ) from error


def _reply_of(where: str, row: dict[str, Any]) -> tuple[Pair, str]:
    try:
        reply = row.pop("reply")
        return Pair(**row), reply
    except (KeyError, TypeError) as error:
        raise ValueError(f"{where}: expected {', '.join(Pair._fields)} and reply, got {row}") from error
