"""Data file -> the questions of a task, what each is about, and the image or video that it is shown."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from locvlm.evals.asking.store import ImageMode
from locvlm.evals.task import Shows, Task
from locvlm.geometry import Box, intersection
from locvlm.records import Objective, Query, Record

LOCATED: tuple[Objective, ...] = ("locpred", "negpred", "revloc")  # what asks for or about locations


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One query of one record: the unit that is asked, answered and scored."""

    record: Record
    index: int  # of the query within its record
    shown: str | None  # what the model is shown; differs from the record's own image under "shuffled"
    shows: Shows = (
        "image"  # otherwise `shown`, and the record's `image`, is a video: its middle frame, or all
    )

    @property
    def id(self) -> str:
        """Unique within a task, the same in every run."""
        return f"{self.record.id}/{self.index}"

    @property
    def query(self) -> Query:
        """What is asked."""
        return self.record.queries[self.index]


def read_questions(
    records: Path, task: Task, *, images: ImageMode = "real", seed: int = 0, limit: int | None = None
) -> list[Question]:
    """The task's questions, in file order; `limit` keeps the first records that hold any.

    Args:
        records: the file that the task's reader reads, with the options of `task.data`.

    Raises:
        ValueError: if there are none, a record id occurs twice, or a record is about a video or lacks the
            size of its image where boxes are asked for or answered.
    """
    kept: list[tuple[Record, list[int]]] = []
    seen = set()
    for record in replace(task.data, file=str(records)).records():
        if record.id in seen:
            raise ValueError(f"{records}: record id {record.id!r} occurs twice; answers are told apart by it")
        seen.add(record.id)
        indices = [i for i, query in enumerate(record.queries) if query.objective == task.data.objective]
        if indices and (limit is None or len(kept) < limit):
            record = record if task.data.shows == "image" else _of_video(record, records, task.data.shows)
            _require_askable(record, records, task.data.objective)
            kept.append((record, indices))
    if not kept:
        raise ValueError(
            f"{records} holds no {task.data.objective} query; task {task.name} has nothing to ask"
        )
    shown = shuffled_images([r.image for r, _ in kept], seed=seed) if images == "shuffled" else {}
    return [
        Question(
            record=record,
            index=index,
            shown=shown.get(record.image, record.image),
            shows=task.data.shows,
        )
        for record, indices in kept
        for index in indices
    ]


def _of_video(record: Record, records: Path, shows: Shows) -> Record:
    """The record of a video, as that of an image."""
    if record.video is None:
        raise ValueError(
            f"{records}: record {record.id!r} is about no video, got image {record.image!r}; its task asks "
            f"about videos (`shows: {shows}`)"
        )
    return replace(record, image=record.video, video=None)


def _require_askable(record: Record, records: Path, objective: Objective) -> None:
    """Refuse before anything is asked what could not be scored afterwards, or would be asked blindly."""
    if record.video is not None:
        raise ValueError(
            f"{records}: record {record.id!r} is about the video {record.video!r}; this task shows "
            f"images: one with `shows: frame` asks about the middle frame of each video, one with "
            f"`shows: video` about the whole"
        )
    if objective in LOCATED and (record.width <= 0 or record.height <= 0):
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
        "source": query.source,
    }


def overlap_fraction(record: Record, box_px: Box | None) -> float:
    """The largest share of a box that another box known from the same record covers."""
    if box_px is None or box_px.area == 0:
        return 0.0
    others = {query.box_px for query in record.queries if query.box_px is not None} - {box_px}
    shared = [intersection(box_px, other) for other in others]
    return max((part.area / box_px.area for part in shared if part is not None), default=0.0)
