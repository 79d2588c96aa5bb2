"""Task x model -> predictions on disk: resumable, and shared out over ranks or the jobs of an array.

Every question gets a line. An image that cannot be read gives a line marked `failed`, which the next start
asks again; nothing is skipped in silence.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from locvlm import dist
from locvlm.answering.answerer import Answerer
from locvlm.evals.asking.ask import AskOptions, ask_windows, windows
from locvlm.evals.asking.parts import answered_in, collect_parts, part_of
from locvlm.evals.asking.questions import Question, read_questions
from locvlm.evals.asking.store import (
    PredictionMeta,
    append_predictions,
    locked,
    open_predictions,
    predictions_path,
    put_in_order,
    read_predictions,
)
from locvlm.evals.task import Task
from locvlm.progress import progress_bar
from locvlm.shard import Shard

logger = logging.getLogger(__name__)

ALL = Shard(0, 1)


def predict_task(
    answerer: Answerer,
    task: Task,
    *,
    records: Path,
    folder: Path,
    options: AskOptions,
    checkpoint: tuple[str, str],
    limit: int | None = None,
    shard: Shard = ALL,
) -> Path:
    """Answer the task's questions into `folder/predictions`; what is answered there is not asked again.

    Several ranks answer a part each, and leave one file. A `shard` answers its part and leaves that: the next
    call without one, or `parts.collect_folder`, makes one file of all parts.

    Args:
        checkpoint: its path, and its `answering.checkpoints.fingerprint`.

    Returns:
        The file that holds the answers: the shard's part, or all.

    Raises:
        ValueError: if the file holds answers of another checkpoint, task version, file or image mode, or
            another process writes it.
    """
    questions = read_questions(records, task, images=options.images, seed=options.seed, limit=limit)
    path = predictions_path(folder, task.predictions_name, options.images)
    meta = PredictionMeta(
        task=task.predictions_name,
        version=task.version,
        images=options.images,
        checkpoint=checkpoint[0],
        fingerprint=checkpoint[1],
        contract=answerer.contract.to_dict() if answerer.contract else {},
        records=str(records),
        records_sha256=replace(task.data, file=str(records)).sha256(),
        image_root=str(options.image_root),
        decoding=task.describe_answers(),
        seed=options.seed,
        num_questions=len(questions),
    )
    if shard.count > 1:
        return _answer_share(answerer, task, questions, options, path=path, meta=meta, shard=shard)
    order = [question.id for question in questions]
    if dist.is_main():
        collect_parts(path, meta, order)  # of an earlier start
    dist.wait()
    ranks = Shard(dist.rank(), dist.world_size())
    _answer_share(answerer, task, questions, options, path=path, meta=meta, shard=ranks)
    dist.wait()
    if dist.is_main():
        collect_parts(path, meta, order)
    dist.wait()
    return path


def _answer_share(
    answerer: Answerer,
    task: Task,
    questions: Sequence[Question],
    options: AskOptions,
    *,
    path: Path,
    meta: PredictionMeta,
    shard: Shard,
) -> Path:
    """Answer a shard's windows into its part of the predictions file `path`; the part."""
    part = part_of(path, shard)
    share = shard.take(list(windows(questions, options.batch_size)))
    own = {question.id for window in share for question in window}
    with locked(part):
        before = open_predictions(part, meta)
        elsewhere = [] if part == path else answered_in(path, meta)
        done = {prediction.id for prediction in (*before, *elsewhere)}.intersection(own)
        if done:
            logger.info("%s: %d of %d questions are answered already", part.name, len(done), len(own))
        left = [missing for window in share if (missing := [q for q in window if q.id not in done])]
        bar = progress_bar(
            what=part.stem, total=len(own), done=len(done), unit="q", is_shown=dist.is_main() and bool(left)
        )
        with bar:
            for predictions in ask_windows(answerer, task, left, options):
                append_predictions(part, predictions)
                bar.update(len(predictions))
        put_in_order(part, read_predictions(part), [question.id for question in questions])
    return part
