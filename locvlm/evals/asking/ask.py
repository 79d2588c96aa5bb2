"""Questions -> predictions in memory: an image's questions together, images opened ahead, every failure told.

What is said here of images goes for videos too, of which a model sees one frame or as many as it was made
for.

Questions are asked in windows, each of which is answered in one call and then saved in one piece. Which
questions share a window depends on all questions and the size alone, not on which are left or who asks them:
so a run that was killed, and one that is spread over ranks, decodes the same batches as any other, and gives
the same answers even where rounding depends on the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path

from PIL import Image

from locvlm.answering.answerer import Answerer, Asked, NoAnswer, num_frames_of
from locvlm.data.image import UnreadableImage, load_image
from locvlm.data.still import load_clip, load_middle_frame
from locvlm.evals.asking.look_ahead import look_ahead
from locvlm.evals.asking.questions import Question, gold_of
from locvlm.evals.asking.store import NO_ANSWER, UNREADABLE_IMAGE, ImageMode
from locvlm.evals.task import Task
from locvlm.geometry import Cut, place_box
from locvlm.io import resolve_inside
from locvlm.records import Prediction, Query, Record

_BLANK_SIZE = (336, 336)  # of a blank image, where the record does not tell its own
MEAN_COLOR = (123, 117, 104)  # of CLIP's images, 0..255: what a blank one shows
_THREADS, _AHEAD = 4, 64  # that open images; images that they open before they are wanted
_VIDEOS = 8  # of a window, and opened ahead, at most: 100 frames of 720p are 0.28 GB


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """What is shown of an image or video, or why that cannot be done; nothing at all for text."""

    image: Image.Image | None = None
    frames: tuple[Image.Image, ...] = ()
    failure: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskOptions:
    """How questions are put; part of what a predictions file was made with."""

    image_root: Path
    images: ImageMode = "real"
    batch_size: int = 256  # questions of a window, about: an image's questions stay together
    seed: int = 0  # draws the wording of each question, and the shuffled images


def ask(
    answerer: Answerer, task: Task, questions: Sequence[Question], options: AskOptions
) -> Iterator[list[Prediction]]:
    """Predictions, window by window, in the order of the questions."""
    return ask_windows(answerer, task, list(windows(questions, options.batch_size)), options)


def windows(questions: Sequence[Question], size: int) -> Iterator[list[Question]]:
    """Questions in order, as many images' together as stay within `size` questions (one image's at least).

    Of whole videos, a few: they are all in memory together.
    """
    window: list[Question] = []
    num_groups = 0
    for group in _by_image(questions):
        is_full = len(window) + len(group) > size or (group[0].shows == "video" and num_groups == _VIDEOS)
        if window and is_full:
            yield window
            window, num_groups = [], 0
        window, num_groups = window + group, num_groups + 1
    if window:
        yield window


def ask_windows(
    answerer: Answerer, task: Task, asked: Sequence[Sequence[Question]], options: AskOptions
) -> Iterator[list[Prediction]]:
    """Predictions of each window, in order. While one is answered, the images of the next are opened.

    Raises:
        ValueError: if whole videos are to be shown to a model of images.
    """
    grouped = [list(_by_image(window)) for window in asked]
    num_frames = num_frames_of(answerer) if task.data.shows == "video" else 0
    looks = look_ahead(
        lambda group: _look(group[0], options, num_frames),
        chain.from_iterable(grouped),
        threads=_THREADS,
        ahead=_VIDEOS if num_frames else _AHEAD,
    )
    for groups in grouped:
        shown = [next(looks) for _ in groups]
        yield _ask_window(answerer, task, groups, shown, seed=options.seed)


def _by_image(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Neighbours that are about one image, together."""
    return (list(members) for _, members in groupby(questions, key=_image_key))


def _image_key(question: Question) -> tuple[str, int, int]:
    record = question.record
    return (record.id if record.image is None else f"image {record.image}", record.width, record.height)


def _ask_window(
    answerer: Answerer,
    task: Task,
    groups: Sequence[Sequence[Question]],
    shown: Sequence[_Shown],
    *,
    seed: int,
) -> list[Prediction]:
    asked: list[Asked] = []
    waiting: list[int] = []  # places in `result` that wait for an answer, in the order asked
    result: list[Prediction] = []
    for group, look in zip(groups, shown, strict=True):
        first = len(result)
        result += [_unanswered(answerer, task, q, failure=look.failure, seed=seed) for q in group]
        places = [place for place in range(first, len(result)) if not result[place].failed]
        if places:
            texts = [result[place].question for place in places]
            asked.append(Asked(image=look.image, frames=look.frames, questions=texts))
            waiting += places
    if task.choose == "likelihood":
        return _choose(answerer, task, asked, result, waiting)
    answers = answerer.answer(asked, task.decode)
    for place, said in zip(waiting, chain.from_iterable(answers), strict=True):
        if isinstance(said, NoAnswer):
            result[place] = replace(result[place], failed=f"{NO_ANSWER}: {said.reason}")
        else:
            result[place] = replace(result[place], answer=said)
    return result


def _choose(
    answerer: Answerer,
    task: Task,
    asked: Sequence[Asked],
    result: list[Prediction],
    waiting: Sequence[int],
) -> list[Prediction]:
    """`result` with the likeliest option of each waiting question as its answer, and what all options got."""
    left = iter(waiting)
    options = [[_options_of(task, result[next(left)]) for _ in item.questions] for item in asked]
    scores = chain.from_iterable(answerer.option_scores(asked, options))
    for place, texts, of_question in zip(waiting, chain.from_iterable(options), scores, strict=True):
        nats = {text: score.mean for text, score in zip(texts, of_question, strict=True)}
        likeliest = max(nats, key=nats.__getitem__)  # of equally likely ones, the first
        result[place] = replace(result[place], answer=likeliest, option_nats=nats)
    return result


def _options_of(task: Task, prediction: Prediction) -> list[str]:
    options = task.options or prediction.gold["source"].get("options")
    if not options:
        raise ValueError(
            f"question {prediction.id!r} has no options to choose from; a task with `choose: likelihood` "
            f"names them under `options`, or has a reader that gives them"
        )
    return list(options)


def _look(question: Question, options: AskOptions, num_frames: int) -> _Shown:
    """What to show, opened; nothing for text-only records.

    Args:
        num_frames: of a whole video.
    """
    record = question.record
    if record.image is None or question.shown is None:
        return _Shown()
    size = (record.width, record.height) if record.width > 0 else None
    if options.images == "blank":
        blank = Image.new("RGB", size or _BLANK_SIZE, MEAN_COLOR)
        return _Shown(frames=(blank,) * num_frames) if num_frames else _Shown(image=blank)
    expected = size if question.shown == record.image else None
    path = resolve_inside(options.image_root, question.shown)
    try:
        if question.shows == "video":
            return _Shown(frames=load_clip(path, num_frames, expected))
        return _Shown(image=(load_middle_frame if question.shows == "frame" else load_image)(path, expected))
    except UnreadableImage as error:
        return _Shown(failure=f"{UNREADABLE_IMAGE}: {error}")


def _unanswered(answerer: Answerer, task: Task, question: Question, *, failure: str, seed: int) -> Prediction:
    """The prediction of a question before it is answered: text and gold, or why it cannot be asked."""
    record, query = question.record, question.query
    text = ""
    if not failure:
        location, failure = _location_text(answerer, record, query)
    if not failure:
        rng = task.draws(f"eval/{seed}/{question.id}")
        text = task.prompt_for(answerer.question(query, location_text=location, rng=rng))
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
    contract = answerer.contract
    if contract is None:
        raise ValueError(f"record {record.id!r} has a box, and the model has no way of writing locations")
    frame = contract.frame_for((record.width, record.height))
    box = place_box(frame, query.box_px)
    if isinstance(box, Cut):
        return None, f"the {contract.frame} frame cuts the object away"
    return contract.write(box, frame), ""
