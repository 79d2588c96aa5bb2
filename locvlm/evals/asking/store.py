"""Predictions on disk: an append-only JSONL per task and image mode, beside a note of what they were made
with.

    predictions/locpred.jsonl         one Prediction a line, in the order of the questions once all are there
    predictions/locpred.meta.json     task version, checkpoint, contract, records, image mode, decoding
    predictions/locpred.blank.jsonl   the same questions about blank images
    predictions/locpred.part-0-of-2.jsonl    what one of two processes answers, see parts.py

A run that was killed leaves whole lines and at most one torn one, which is cut off before the run goes on. So
are the lines of questions whose image could not be read, or that got no answer: they are asked again.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from locvlm.io import Ledger, atomic_writer, parse_json_line, read_json, write_jsonl
from locvlm.locks import hold_lock
from locvlm.records import Prediction

logger = logging.getLogger(__name__)

ImageMode = Literal["real", "blank", "shuffled"]
IMAGE_MODES: tuple[ImageMode, ...] = ("real", "blank", "shuffled")
# what `Prediction.failed` begins with: where the image is the reason, and where the model gave no answer
UNREADABLE_IMAGE, NO_ANSWER = "unreadable image", "no answer"


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


def read_predictions(path: Path, *, may_be_torn: bool = False) -> list[Prediction]:
    """All predictions of a file.

    Args:
        may_be_torn: leave out an unfinished last line, of a process that was killed or is writing.

    Raises:
        ValueError: for a malformed line or an id that occurs twice (with file and line number).
    """
    seen: dict[str, int] = {}
    predictions = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if may_be_torn and not line.endswith(b"\n"):
            break
        row = parse_json_line(line, where=f"{path}:{number}")
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


def is_open(prediction: Prediction) -> bool:
    """Whether a question is asked again at the next start: its image, or an answer, may be there then."""
    return prediction.failed.startswith((UNREADABLE_IMAGE, NO_ANSWER))


def open_predictions(path: Path, meta: PredictionMeta) -> list[Prediction]:
    """The predictions that `path` already holds (none for a new file), after cutting off a torn last line.

    Those of open questions are taken out of the file: with a corrected folder, a repaired image, or another
    day of the server, they can be answered. Where the folders have moved, the note is brought up to date.

    Raises:
        ValueError: if they were made with anything else than `meta` says.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not meta_path(path).exists():
        if path.exists():
            raise ValueError(
                f"{path} holds predictions of unknown origin (no {meta_path(path).name}); remove it"
            )
        write_meta(path, meta)
        path.touch()
        return []
    before = read_meta(path)
    require_same_meta(path, got=before, expected=meta)
    if before != meta:
        write_meta(path, meta)  # the report looks for images where the note says
    path.touch()
    _cut_torn_line(path)
    predictions = read_predictions(path)
    kept = [prediction for prediction in predictions if not is_open(prediction)]
    if len(kept) < len(predictions):
        write_jsonl(path, (asdict(prediction) for prediction in kept))
    return kept


def append_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Append whole lines in one write, and see them onto the disk."""
    with path.open("ab") as out:
        out.write(_lines(predictions))
        out.flush()
        os.fsync(out.fileno())


def require_readable_images(path: Path, *, image_root: Path, max_dropped_fraction: float) -> None:
    """Count the questions of a predictions file without a readable image or an answer, and log how many.

    Raises:
        ValueError: if they are more than `max_dropped_fraction` of all; names the first and the folder.
    """
    ledger = Ledger(path.stem)
    for prediction in read_predictions(path):
        if is_open(prediction):
            reason, _, why = prediction.failed.partition(": ")
            ledger.drop(prediction.id, reason, why)
        else:
            ledger.keep()
    try:
        ledger.require_dropped_at_most(max_dropped_fraction)
    except ValueError as error:
        raise ValueError(
            f"{error}. The images were looked for in {image_root}; with another --image-root or repaired "
            f"images, or a model that answers, start again: only these questions are asked again"
        ) from error
    if ledger.num_dropped:
        logger.warning("%s; they count as wrong", ledger.summary())


def write_meta(path: Path, meta: PredictionMeta) -> None:
    """Write the note beside the predictions file `path`, atomically."""
    with atomic_writer(meta_path(path)) as out:
        out.write(json.dumps(asdict(meta), indent=2) + "\n")


def require_same_meta(path: Path, *, got: PredictionMeta, expected: PredictionMeta) -> None:
    """Nothing, if both say that the answers are made alike; folders may have moved.

    Raises:
        ValueError: naming the first thing that differs.
    """
    moved = {"checkpoint", "image_root", "records"}  # fingerprint and sha256 tell what is in the folders
    found, wanted = asdict(got), asdict(expected)
    for name in wanted:
        if name not in moved and found[name] != wanted[name]:
            raise ValueError(
                f"{path} was made with {name} = {found[name]!r}, this run has {wanted[name]!r}; "
                f"choose another --output-dir or remove the file"
            )


def put_in_order(path: Path, predictions: Sequence[Prediction], order: Sequence[str]) -> None:
    """Write predictions in the order of their ids, unless the file holds them so already.

    Raises:
        ValueError: for a prediction whose id is none of `order`.
    """
    places = {name: place for place, name in enumerate(order)}
    for prediction in predictions:
        if prediction.id not in places:
            raise ValueError(
                f"{path} answers {prediction.id!r}, which this task does not ask any more; remove the file"
            )
    data = _lines(sorted(predictions, key=lambda prediction: places[prediction.id]))
    if not path.exists() or path.read_bytes() != data:
        with atomic_writer(path, binary=True) as out:
            out.write(data)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """While the block runs, no other process writes the predictions file `path`.

    Raises:
        ValueError: if one does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f"{path.name}.lock")
    lock = hold_lock(lock_path, what=f"writing {path}")
    try:
        yield
    finally:
        lock_path.unlink(missing_ok=True)
        lock.close()


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        text = file.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            file.truncate(whole)


def _lines(predictions: Iterable[Prediction]) -> bytes:
    text = "".join(json.dumps(asdict(p), ensure_ascii=False, allow_nan=False) + "\n" for p in predictions)
    return text.encode("utf-8")
