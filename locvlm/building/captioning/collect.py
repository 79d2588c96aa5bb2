"""Asking a captioner about many images, so that a killed run goes on and gives what one run would have given.

Batches are cut from the list of all tasks, never from what is left of it: an image is always asked about in
the same company. A model in bfloat16 may answer otherwise in another batch, and would after a restart.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from locvlm.building.captioning.captioner import Answer, Captioner, Picture, Prompted
from locvlm.building.journal import Journal
from locvlm.data.image import UnreadableImage, load_image
from locvlm.io import Ledger, resolve_inside
from locvlm.progress import progress
from locvlm.records import ImageAnnotation

_READERS, _AHEAD = 4, 4  # threads that read images, and batches read ahead of the captioner

_Read = list[tuple["Task", Picture | str]]  # a batch, each task with its picture or why it cannot be read

UNREADABLE, UNANSWERED = "unreadable image", "no answer from the captioner"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """An image with what is asked about it."""

    image: ImageAnnotation
    prompts: tuple[str, ...]

    @property
    def id(self) -> str:
        """Its item in the journal."""
        return self.image.image_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a task that had no answers before; without a reason if it has them now."""

    task: Task
    reason: str = ""  # UNREADABLE or UNANSWERED
    detail: str = ""


def collect(
    tasks: Sequence[Task], captioner: Captioner, journal: Journal, *, image_root: Path, ledger: Ledger
) -> list[Task]:
    """`ask`, with a progress bar; returns the tasks that have answers and counts, in order, those without."""
    done = sum(task.id in journal for task in tasks)
    outcomes = ask(tasks, captioner, journal, image_root=image_root)
    outcomes = progress(outcomes, what=ledger.name, total=len(tasks), done=done, unit="image")
    failed = {outcome.task.id: outcome for outcome in outcomes if outcome.reason}
    for task in tasks:
        if task.id in failed:
            ledger.drop(task.id, failed[task.id].reason, failed[task.id].detail)
        else:
            ledger.keep()
    return [task for task in tasks if task.id not in failed]


def ask(
    tasks: Sequence[Task], captioner: Captioner, journal: Journal, *, image_root: Path
) -> Iterator[Outcome]:
    """Ask about every image that is not in the journal, and note the answers there, all of an image at once.

    What failed is not noted: the next start asks it again.

    Raises:
        ServerError: if the captioner is a server that seems to be down.
    """
    missing = (
        batch
        for batch in batches(tasks, captioner.prompts_per_batch)
        if any(task.id not in journal for task in batch)
    )
    waiting: deque[_Read] = deque()  # read, and not yet noted

    def readable() -> Iterator[list[Prompted]]:
        for read in _read_ahead(missing, image_root):
            waiting.append(read)
            if needs_asking(read):
                yield [Prompted(picture=p, prompts=t.prompts) for t, p in read if isinstance(p, Picture)]

    def needs_asking(read: _Read) -> bool:
        return any(isinstance(picture, Picture) and task.id not in journal for task, picture in read)

    for answers in captioner.describe(readable()):
        while not needs_asking(waiting[0]):
            yield from _note(waiting.popleft(), None, journal)
        yield from _note(waiting.popleft(), answers, journal)
    while waiting:
        yield from _note(waiting.popleft(), None, journal)


def read_answers(journal: Journal, task: Task) -> list[Answer]:
    """The answers to a task's prompts.

    Raises:
        ValueError: if there is another number of them.
    """
    value = journal[task.id]
    if len(value["answers"]) != len(task.prompts):
        raise ValueError(
            f"{journal.path}: {len(value['answers'])} answers about image {task.id}, expected "
            f"{len(task.prompts)}; it is of another build: remove it, and its images are asked about again"
        )
    return [Answer(text=text, is_cut_off=is_cut_off) for text, is_cut_off in value["answers"]]


def batches(tasks: Iterable[Task], size: int) -> Iterator[list[Task]]:
    """As many tasks together, in order, as stay within `size` prompts; at least one."""
    batch: list[Task] = []
    num_prompts = 0
    for task in tasks:
        if batch and num_prompts + len(task.prompts) > size:
            yield batch
            batch, num_prompts = [], 0
        batch.append(task)
        num_prompts += len(task.prompts)
    if batch:
        yield batch


def _note(read: _Read, answers: Sequence[list[Answer]] | None, journal: Journal) -> Iterator[Outcome]:
    """Write a batch's answers into the journal.

    Args:
        answers: of its readable pictures; None if it was not asked about, because all of them have answers.
    """
    left = iter(answers or ())
    for task, picture in read:
        if isinstance(picture, str):
            yield Outcome(task=task, reason=UNREADABLE, detail=picture)
            continue
        if answers is None:
            continue
        given = next(left)
        failure = next((answer.failure for answer in given if answer.failure), "")
        if failure:
            yield Outcome(task=task, reason=UNANSWERED, detail=failure)
            continue
        if task.id not in journal:
            rows = [[answer.text, answer.is_cut_off] for answer in given]
            journal.add(task.id, {"answers": rows})
            yield Outcome(task=task)


def _read_ahead(asked: Iterable[Sequence[Task]], image_root: Path) -> Iterator[_Read]:
    """Every batch with its pictures, or why one cannot be read; some batches ahead, by threads."""
    waiting: deque[list[tuple[Task, Future[Picture | str]]]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
        for batch in asked:
            waiting.append([(task, pool.submit(_read, task.image, image_root)) for task in batch])
            if len(waiting) > _AHEAD:
                yield [(task, read.result()) for task, read in waiting.popleft()]
        while waiting:
            yield [(task, read.result()) for task, read in waiting.popleft()]


def _read(image: ImageAnnotation, image_root: Path) -> Picture | str:
    path = resolve_inside(image_root, image.image)
    try:
        return Picture(path=path, image=load_image(path, (image.width, image.height)))
    except UnreadableImage as error:
        return str(error)
