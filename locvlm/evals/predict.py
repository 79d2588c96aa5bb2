"""Task x checkpoint -> predictions on disk: questions grouped by image, batched, resumable.

Every question gets a line. An image that cannot be read gives a line marked `failed`, which the next start
asks again; nothing is skipped in silence.
"""

import io
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from locvlm.data.archive import locate
from locvlm.data.image import UnreadableImage, load_image
from locvlm.evals.answer import Answerer, Asked, answerer_of
from locvlm.evals.score import flatten, judge, score_rows
from locvlm.evals.store import (
    UNREADABLE_IMAGE,
    ImageMode,
    PredictionMeta,
    append_predictions,
    open_predictions,
    predictions_path,
)
from locvlm.evals.task import Task
from locvlm.geometry import Box, Cut, intersection, place_box
from locvlm.io import read_records, resolve_inside, sha256_of
from locvlm.objectives.render import render_query
from locvlm.records import Prediction, Query, Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One query of one record: the unit that is asked, answered and scored."""

    record: Record
    index: int  # of the query within its record
    shown: str | None  # image that the model is shown; differs from the record's own under "shuffled"

    @property
    def id(self) -> str:
        """Unique within a task, the same in every run."""
        return f"{self.record.id}/{self.index}"

    @property
    def query(self) -> Query:
        """What is asked."""
        return self.record.queries[self.index]


@dataclass(frozen=True, kw_only=True, slots=True)
class AskOptions:
    """How questions are put; part of what a predictions file was made with."""

    image_root: Path
    images: ImageMode = "real"
    batch_size: int = 64  # questions decoded together, about: an image's questions stay together
    seed: int = 0  # draws the wording of each question, and the shuffled images


def read_questions(
    records: Path, task: Task, *, images: ImageMode = "real", seed: int = 0, limit: int | None = None
) -> list[Question]:
    """The task's questions, in file order; `limit` keeps the first records that hold any.

    Raises:
        ValueError: if there are none, a record id occurs twice, or a record lacks the size of its image.
    """
    kept: list[tuple[Record, list[int]]] = []
    seen = set()
    for record in read_records(records):
        if record.id in seen:
            raise ValueError(f"{records}: record id {record.id!r} occurs twice; answers are told apart by it")
        seen.add(record.id)
        indices = [i for i, query in enumerate(record.queries) if query.objective == task.data.objective]
        if indices and (limit is None or len(kept) < limit):
            _require_size(record, records)
            kept.append((record, indices))
    if not kept:
        raise ValueError(
            f"{records} holds no {task.data.objective} query; task {task.name} has nothing to ask"
        )
    shown = shuffled_images([r.image for r, _ in kept], seed=seed) if images == "shuffled" else {}
    return [
        Question(record=record, index=index, shown=shown.get(record.image, record.image))
        for record, indices in kept
        for index in indices
    ]


def _require_size(record: Record, records: Path) -> None:
    """Refuse before anything is asked what could not be scored afterwards."""
    if record.width <= 0 or record.height <= 0:
        raise ValueError(
            f"{records}: record {record.id!r} has no image size, got width {record.width} and height "
            f"{record.height}; answers are scored in pixels of the image: write its width and height into "
            f"the record"
        )


def shuffled_images(images: Sequence[str | None], *, seed: int) -> dict[str | None, str | None]:
    """Image -> another image: one cycle through all in a seeded order, so none is shown as itself.

    Raises:
        ValueError: for fewer than two different images.
    """
    distinct = sorted({image for image in images if image is not None})
    if len(distinct) < 2:
        raise ValueError(f"shuffled images need at least 2 different images, got {len(distinct)}")
    random.Random(f"shuffled/{seed}").shuffle(distinct)
    return dict(zip(distinct, distinct[1:] + distinct[:1], strict=True))


def predict_task(
    answerer: Answerer,
    task: Task,
    *,
    records: Path,
    folder: Path,
    options: AskOptions,
    checkpoint: tuple[str, str],
    limit: int | None = None,
) -> Path:
    """Answer the task's questions into `folder/predictions`; what is answered there is not asked again.

    Args:
        checkpoint: its path, and its `answer.fingerprint`.

    Raises:
        ValueError: if the file holds answers of another checkpoint, task version, file or image mode.
    """
    questions = read_questions(records, task, images=options.images, seed=options.seed, limit=limit)
    path = predictions_path(folder, task.predictions_name, options.images)
    meta = PredictionMeta(
        task=task.predictions_name,
        version=task.version,
        images=options.images,
        checkpoint=checkpoint[0],
        fingerprint=checkpoint[1],
        contract=answerer.contract.to_dict(),
        records=str(records),
        records_sha256=sha256_of(records),
        image_root=str(options.image_root),
        decoding=task.decode.describe(),
        seed=options.seed,
        num_questions=len(questions),
    )
    done = {prediction.id for prediction in open_predictions(path, meta)}
    left = [question for question in questions if question.id not in done]
    if done:
        logger.info("%s: %d of %d questions are answered already", path.name, len(done), len(questions))
    with tqdm(total=len(questions), initial=len(done), desc=path.stem, unit="q", disable=None) as progress:
        for predictions in ask(answerer, task, left, options):
            append_predictions(path, predictions)
            progress.update(len(predictions))
    return path


def ask(
    answerer: Answerer, task: Task, questions: Sequence[Question], options: AskOptions
) -> Iterator[list[Prediction]]:
    """Predictions, batch by batch, in the order of the questions."""
    for batch in batches(questions, options.batch_size):
        yield _ask_batch(answerer, task, batch, options)


def batches(questions: Sequence[Question], size: int) -> Iterator[list[list[Question]]]:
    """Questions grouped by image, as many groups together as stay within `size` questions (at least one)."""
    batch: list[list[Question]] = []
    for _, members in groupby(questions, key=_image_key):
        group = list(members)
        if batch and sum(map(len, batch)) + len(group) > size:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _image_key(question: Question) -> tuple[str, int, int]:
    record = question.record
    return (record.id if record.image is None else f"image {record.image}", record.width, record.height)


def _ask_batch(
    answerer: Answerer, task: Task, batch: Sequence[Sequence[Question]], options: AskOptions
) -> list[Prediction]:
    asked: list[Asked] = []
    waiting: list[
        int
    ] = []  # places in `result` of the predictions that wait for an answer, in the order asked
    result: list[Prediction] = []
    for group in batch:
        pixels, failure = _look(answerer, group[0], options)
        first = len(result)
        result += [_unanswered(answerer, task, q, failure=failure, seed=options.seed) for q in group]
        places = [place for place in range(first, len(result)) if not result[place].failed]
        if places:
            asked.append(Asked(pixels=pixels, questions=[result[place].question for place in places]))
            waiting += places
    answers = answerer.answer(
        asked,
        max_new_tokens=task.decode.max_new_tokens,
        temperature=None if task.decode.greedy else task.decode.temperature,
        seed=task.decode.seed,
    )
    for place, text in zip(waiting, chain.from_iterable(answers), strict=True):
        result[place] = replace(result[place], answer=text)
    return result


def _look(answerer: Answerer, question: Question, options: AskOptions) -> tuple[np.ndarray | None, str]:
    """Pixels of the image to show (None for text-only records), and why there are none."""
    record = question.record
    if record.image is None or question.shown is None:
        return None, ""
    if options.images == "blank":
        return answerer.blank_pixels(), ""
    size = (record.width, record.height) if question.shown == record.image else None
    try:
        image = load_image(resolve_inside(options.image_root, question.shown), size)
    except UnreadableImage as error:
        return None, f"{UNREADABLE_IMAGE}: {error}"
    return answerer.pixels(image), ""


def _unanswered(answerer: Answerer, task: Task, question: Question, *, failure: str, seed: int) -> Prediction:
    """The prediction of a question before it is answered: text and gold, or why it cannot be asked."""
    record, query = question.record, question.query
    text = ""
    if not failure:
        location, failure = _location_text(answerer, record, query)
    if not failure:
        turn = render_query(
            query,
            rng=random.Random(f"eval/{seed}/{question.id}"),
            location_text=location,
            representation=answerer.contract.representation,
        )
        text = task.prompt_for(turn.question)
    return Prediction(
        id=question.id,
        record_id=record.id,
        image=record.image,
        question=text,
        answer="",
        gold=gold_of(record, query),
        failed=failure,
    )


def _location_text(answerer: Answerer, record: Record, query: Query) -> tuple[str | None, str]:
    """The location that a question holds or asks for, written; or why it cannot be asked about."""
    if query.box_px is None:
        return None, ""
    frame = answerer.contract.frame_for((record.width, record.height))
    box = place_box(frame, query.box_px)
    if isinstance(box, Cut):
        return None, f"the {answerer.contract.frame} frame cuts the object away"
    return answerer.contract.write(box, frame), ""


def gold_of(record: Record, query: Query) -> dict[str, Any]:
    """What scoring compares with; boxes as [x1, y1, x2, y2] source pixels."""
    return {
        "objective": query.objective,
        "phrase": query.phrase,
        "category": query.category or query.phrase,
        "answer": query.answer,
        "box_px": None if query.box_px is None else list(query.box_px),
        "width": record.width,
        "height": record.height,
        "overlap_fraction": overlap_fraction(record, query.box_px),
    }


def overlap_fraction(record: Record, box_px: Box | None) -> float:
    """The largest share of a box that another box known from the same record covers."""
    if box_px is None or box_px.area == 0:
        return 0.0
    others = {query.box_px for query in record.queries if query.box_px is not None} - {box_px}
    shared = [intersection(box_px, other) for other in others]
    return max((part.area / box_px.area for part in shared if part is not None), default=0.0)


class SmallEvaluation:
    """Flat scores (`locpred_acc50`, `absent_acc` ...) on the first questions of each task; for use in
    training.

    Args:
        data_root: folder of the record files that the tasks name.

    Raises:
        ValueError: before anything is trained, if a record file has nothing to ask or an image is missing.
    """

    def __init__(
        self, tasks: Sequence[Task], *, data_root: Path, options: AskOptions, num_questions: int
    ) -> None:
        self._tasks, self._options = tasks, options
        self._questions: dict[str, list[Question]] = {}  # predictions name -> what is asked
        for task in tasks:
            records = data_root / task.data.file
            questions = read_questions(records, task, images=options.images, seed=options.seed)
            self._questions[task.predictions_name] = questions[:num_questions]
        for questions in self._questions.values():
            _require_images(questions, options.image_root)

    def __call__(self, model: Any, tokenizer: Any) -> dict[str, float]:
        """The scores of a model, which is left in the mode it was in. Nothing is written."""
        was_training = model.training
        model.eval()
        answerer = answerer_of(model, tokenizer)
        try:
            answered = {
                task.predictions_name: list(
                    chain.from_iterable(
                        ask(answerer, task, self._questions[task.predictions_name], self._options)
                    )
                )
                for task in {task.predictions_name: task for task in self._tasks}.values()
            }
        finally:
            model.train(was_training)
        scores = {}
        for task in self._tasks:
            predictions = answered[task.predictions_name]
            rows = [judge(p, parse=task.parse, contract=answerer.contract) for p in predictions]
            scores[task.name] = score_rows(task, rows)
        return flatten(scores)


def _require_images(questions: Sequence[Question], image_root: Path) -> None:
    for question in questions:
        if question.shown is not None and not _is_there(resolve_inside(image_root, question.shown)):
            raise ValueError(
                f"no image {question.shown!r} in {image_root}, about which record {question.record.id!r} "
                f"asks; give the folder of the images"
            )


def _is_there(path: Path) -> bool:
    """Whether there is such a file, or such a member of an archive."""
    try:
        found = locate(path)
    except FileNotFoundError:
        return False
    return isinstance(found, io.BytesIO) or Path(found).is_file()
