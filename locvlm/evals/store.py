"""Predictions on disk: an append-only JSONL per task and image mode, beside a note of what they were made
with.

    predictions/locpred.jsonl         one Prediction a line, in the order answered
    predictions/locpred.meta.json     task version, checkpoint, contract, records, image mode, decoding
    predictions/locpred.blank.jsonl   the same questions about blank images

A run that was killed leaves whole lines and at most one torn one, which is cut off before the run goes on.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from locvlm.io import atomic_writer, read_json, read_jsonl
from locvlm.records import Prediction

ImageMode = Literal["real", "blank", "shuffled"]
IMAGE_MODES: tuple[ImageMode, ...] = ("real", "blank", "shuffled")


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionMeta:
    """What a predictions file was made with; a file is never continued under another one."""

    task: str  # predictions name
    version: int  # the task's
    images: ImageMode
    checkpoint: str
    fingerprint: str  # of the checkpoint's weights
    contract: dict[str, Any]
    records: str
    records_sha256: str
    image_root: str
    decoding: str
    seed: int
    num_questions: int


def predictions_path(folder: Path, name: str, images: ImageMode) -> Path:
    """Where the predictions of a task live: `name.jsonl`, `name.blank.jsonl`, `name.shuffled.jsonl`."""
    return folder / "predictions" / (f"{name}.jsonl" if images == "real" else f"{name}.{images}.jsonl")


def meta_path(path: Path) -> Path:
    """The note beside a predictions file."""
    return path.with_suffix(".meta.json")


def read_meta(path: Path) -> PredictionMeta:
    """The note beside the predictions file `path`.

    Raises:
        ValueError: if it is missing or of another layout.
    """
    beside = meta_path(path)
    if not beside.exists():
        raise ValueError(f"no {beside}: predictions without it cannot be scored; run eval/run.py again")
    try:
        return PredictionMeta(**read_json(beside))
    except TypeError as error:
        raise ValueError(f"{beside} does not describe predictions: {error}") from error


def read_predictions(path: Path) -> list[Prediction]:
    """All predictions of a file.

    Raises:
        ValueError: for a malformed line or an id that occurs twice (with file and line number).
    """
    seen: dict[str, int] = {}
    predictions = []
    for number, row in read_jsonl(path):
        try:
            prediction = Prediction(**row)
        except TypeError as error:
            raise ValueError(f"{path}:{number} is not a prediction: {error}") from error
        if prediction.id in seen:
            raise ValueError(
                f"{path}:{number} answers {prediction.id!r} again, as line {seen[prediction.id]} did"
            )
        seen[prediction.id] = number
        predictions.append(prediction)
    return predictions


def open_predictions(path: Path, meta: PredictionMeta) -> list[Prediction]:
    """The predictions that `path` already holds (none for a new file), after cutting off a torn last line.

    Raises:
        ValueError: if they were made with anything else than `meta` says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not meta_path(path).exists():
        if path.exists():
            raise ValueError(
                f"{path} holds predictions of unknown origin (no {meta_path(path).name}); remove it"
            )
        with atomic_writer(meta_path(path)) as out:
            out.write(json.dumps(asdict(meta), indent=2) + "\n")
        path.touch()
        return []
    _require_same_meta(path, got=asdict(read_meta(path)), expected=asdict(meta))
    path.touch()
    _cut_torn_line(path)
    return read_predictions(path)


def append_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Append whole lines in one write, and see them onto the disk."""
    lines = "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in predictions)
    with path.open("ab") as out:
        out.write(lines.encode("utf-8"))
        out.flush()
        os.fsync(out.fileno())


def _require_same_meta(path: Path, *, got: dict[str, Any], expected: dict[str, Any]) -> None:
    moved = {
        "checkpoint",
        "image_root",
        "records",
    }  # folders may move; fingerprint and sha256 tell what is in them
    for name in expected:
        if name not in moved and got[name] != expected[name]:
            raise ValueError(
                f"{path} was made with {name} = {got[name]!r}, this run has {expected[name]!r}; "
                f"choose another --output-dir or remove the file"
            )


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        text = file.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            file.truncate(whole)
