"""Predictions on disk: an append-only JSONL per task and image mode, beside a note of what they were made
with.

    predictions/locpred.jsonl         one Prediction a line, in the order answered
    predictions/locpred.meta.json     task version, checkpoint, contract, records, image mode, decoding
    predictions/locpred.blank.jsonl   the same questions about blank images

A run that was killed leaves whole lines and at most one torn one, which is cut off before the run goes on. So
are the lines of questions whose image could not be read: they are asked again.
"""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from locvlm.io import Ledger, atomic_writer, read_json, read_jsonl, write_jsonl
from locvlm.records import Prediction

logger = logging.getLogger(__name__)

ImageMode = Literal["real", "blank", "shuffled"]
IMAGE_MODES: tuple[ImageMode, ...] = ("real", "blank", "shuffled")
UNREADABLE_IMAGE = "unreadable image"  # what `Prediction.failed` begins with where the image is the reason


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


def lacks_image(prediction: Prediction) -> bool:
    """Whether a question could not be asked because its image could not be read."""
    return prediction.failed.startswith(UNREADABLE_IMAGE)


def open_predictions(path: Path, meta: PredictionMeta) -> list[Prediction]:
    """The predictions that `path` already holds (none for a new file), after cutting off a torn last line.

    Those of questions whose image could not be read are taken out of the file: with a corrected folder, or a
    repaired image, they can be asked. Where the folders have moved, the note is brought up to date.

    Raises:
        ValueError: if they were made with anything else than `meta` says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not meta_path(path).exists():
        if path.exists():
            raise ValueError(
                f"{path} holds predictions of unknown origin (no {meta_path(path).name}); remove it"
            )
        _write_meta(path, meta)
        path.touch()
        return []
    before = read_meta(path)
    _require_same_meta(path, got=asdict(before), expected=asdict(meta))
    if before != meta:
        _write_meta(path, meta)  # the report looks for images where the note says
    path.touch()
    _cut_torn_line(path)
    predictions = read_predictions(path)
    kept = [prediction for prediction in predictions if not lacks_image(prediction)]
    if len(kept) < len(predictions):
        write_jsonl(path, (asdict(prediction) for prediction in kept))
    return kept


def append_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Append whole lines in one write, and see them onto the disk."""
    lines = "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in predictions)
    with path.open("ab") as out:
        out.write(lines.encode("utf-8"))
        out.flush()
        os.fsync(out.fileno())


def require_readable_images(path: Path, *, image_root: Path, max_dropped_fraction: float) -> None:
    """Count the questions of a predictions file whose image could not be read, and log how many they are.

    Raises:
        ValueError: if they are more than `max_dropped_fraction` of all; names the first and the folder.
    """
    ledger = Ledger(path.stem)
    for prediction in read_predictions(path):
        if lacks_image(prediction):
            why = prediction.failed.removeprefix(f"{UNREADABLE_IMAGE}: ")
            ledger.drop(prediction.id, UNREADABLE_IMAGE, why)
        else:
            ledger.keep()
    try:
        ledger.require_dropped_at_most(max_dropped_fraction)
    except ValueError as error:
        raise ValueError(
            f"{error}. The images were looked for in {image_root}; with another --image-root or repaired "
            f"images, start again: only these questions are asked again"
        ) from error
    if ledger.num_dropped:
        logger.warning("%s; they count as wrong", ledger.summary())


def _write_meta(path: Path, meta: PredictionMeta) -> None:
    with atomic_writer(meta_path(path)) as out:
        out.write(json.dumps(asdict(meta), indent=2) + "\n")


def _require_same_meta(path: Path, *, got: dict[str, Any], expected: dict[str, Any]) -> None:
    moved = {"checkpoint", "image_root", "records"}  # fingerprint and sha256 tell what is in the folders
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
