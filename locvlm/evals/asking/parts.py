"""Predictions that several processes make: each writes a part of its own, then the parts become one file.

    predictions/locpred.part-0-of-2.jsonl    as locpred.jsonl is, with a note beside it

The ranks of one start put their parts together at its end. Processes that know nothing of each other
(`--shard`, the jobs of an array) leave theirs to the next start without a shard, or to `eval/score.py`. In
either case the file is the one that a single process writes.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from locvlm.evals.asking.store import (
    PredictionMeta,
    is_open,
    locked,
    meta_path,
    put_in_order,
    read_meta,
    read_predictions,
    require_same_meta,
    write_meta,
)
from locvlm.records import Prediction
from locvlm.shard import Shard

_PART = re.compile(r"\.part-(\d+)-of-(\d+)\.jsonl$")


def part_of(path: Path, shard: Shard) -> Path:
    """What a shard writes of the predictions file `path`; the file itself where the shard is all."""
    if shard.count == 1:
        return path
    return path.with_name(f"{path.stem}.part-{shard.index}-of-{shard.count}.jsonl")


def parts_of(path: Path) -> dict[Shard, Path]:
    """The parts that there are of the predictions file `path`, in order."""
    found = {}
    for part in path.parent.glob(f"{glob.escape(path.stem)}.part-*-of-*.jsonl"):
        if match := _PART.search(part.name):
            found[Shard(int(match[1]), int(match[2]))] = part
    return dict(sorted(found.items(), key=lambda item: (item[0].count, item[0].index)))


def answered_in(path: Path, meta: PredictionMeta) -> list[Prediction]:
    """What the file holds, if it is there, without the open questions.

    Raises:
        ValueError: if it was made with anything else than `meta` says.
    """
    if not path.exists():
        return []
    require_same_meta(path, got=read_meta(path), expected=meta)
    found = read_predictions(path, may_be_torn=True)
    return [prediction for prediction in found if not is_open(prediction)]


def collect_parts(path: Path, meta: PredictionMeta, order: Sequence[str]) -> None:
    """Put what the parts hold into the predictions file `path`, in the order of the questions.

    Args:
        order: the ids of all questions.

    Raises:
        ValueError: if a process still writes one of them, or one was made with other things than `meta` says.
    """
    parts = parts_of(path)
    if not parts:
        return
    with _locked_together(path, parts):
        held = [path, *parts.values()] if path.exists() else [*parts.values()]
        for file in held:
            require_same_meta(file, got=read_meta(file), expected=meta)
        write_meta(path, meta)
        put_in_order(path, _together(held), order)
        _remove(parts)


def collect_folder(folder: Path) -> None:
    """`collect_parts` for all predictions of an evaluation folder, without the questions.

    Raises:
        ValueError: if the parts do not hold all answers, saying how many are missing, and what to do.
    """
    found = (folder / "predictions").glob("*.part-*-of-*.jsonl")
    for path in sorted({part.with_name(_PART.sub(".jsonl", part.name)) for part in found}):
        _collect_complete(path, parts_of(path))


def _collect_complete(path: Path, parts: Mapping[Shard, Path]) -> None:
    with _locked_together(path, parts):
        held = [path, *parts.values()] if path.exists() else [*parts.values()]
        meta = read_meta(held[0])
        for file in held:
            require_same_meta(file, got=read_meta(file), expected=meta)
        predictions = _together(held)
        is_whole = path.exists() and len(read_predictions(path, may_be_torn=True)) == meta.num_questions
        is_in_order = not path.exists() and len({shard.count for shard in parts}) == 1
        if len(predictions) != meta.num_questions or not (is_whole or is_in_order):
            raise ValueError(
                f"{path.name} is in parts ({', '.join(map(str, parts))}) with {len(predictions)} of "
                f"{meta.num_questions} answers; start the missing ones again, or eval/run.py as before but "
                f"without --shard: it puts together what is there and asks the rest"
            )
        write_meta(path, meta)
        put_in_order(path, predictions, [prediction.id for prediction in predictions])
        _remove(parts)


def _locked_together(path: Path, parts: Mapping[Shard, Path]) -> ExitStack:
    with ExitStack() as stack:
        for file in (path, *parts.values()):
            stack.enter_context(locked(file))
        return stack.pop_all()


def _together(files: Sequence[Path]) -> list[Prediction]:
    """The predictions of all files, each once; one with an answer goes before one that is open."""
    found: dict[str, Prediction] = {}
    for file in files:
        for prediction in read_predictions(file, may_be_torn=True):
            if prediction.id not in found or is_open(found[prediction.id]):
                found[prediction.id] = prediction
    return [*found.values()]


def _remove(parts: Mapping[Shard, Path]) -> None:
    for part in parts.values():
        part.unlink()
        meta_path(part).unlink(missing_ok=True)
