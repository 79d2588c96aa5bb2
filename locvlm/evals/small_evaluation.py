"""Flat scores on the first questions of some tasks, with a model in memory: for use in training."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from locvlm.answering.locvlm import answerer_of
from locvlm.data.archive import locate
from locvlm.data.still import find_video
from locvlm.evals.asking.ask import AskOptions, ask
from locvlm.evals.asking.questions import Question, read_questions
from locvlm.evals.score import FLAT_SCORES, flatten, judge, score_rows
from locvlm.evals.task import Task, load_tasks
from locvlm.io import resolve_inside

_MAX_BATCH_TOKENS = 8192  # 4 GB of keys and values at 7B in bf16: the optimizer's states are there, too


class SmallEvaluation:
    """Flat scores (`locpred_acc50`, `video_locpred_acc50` ...) on the first questions of each task.

    Args:
        data_root: folder of the record files that the tasks name.

    Raises:
        ValueError: before anything is trained, if a record file has nothing to ask, or an image or video is
            missing.
    """

    def __init__(
        self, tasks: Sequence[Task], *, data_root: Path, options: AskOptions, num_questions: int
    ) -> None:
        self._tasks, self._options = tasks, options
        self._questions: dict[str, list[Question]] = {}  # predictions name -> what is asked
        for task in tasks:
            located = replace(task, data=task.data.below(data_root))
            questions = read_questions(
                Path(located.data.file), located, images=options.images, seed=options.seed
            )
            self._questions[task.predictions_name] = questions[:num_questions]
        for questions in self._questions.values():
            _require_images(questions, options.image_root)

    @classmethod
    def of_tasks(
        cls, task_dir: Path, names: Sequence[str], *, data_root: str, image_root: str, num_questions: int
    ) -> "SmallEvaluation":
        """Of declared tasks, by their names, about the images or videos of one folder."""
        return cls(
            load_tasks(task_dir, tuple(names)),
            data_root=Path(data_root),
            options=AskOptions(image_root=Path(image_root)),
            num_questions=num_questions,
        )

    def __call__(self, model: Any, tokenizer: Any) -> dict[str, float]:
        """The scores of a model, which is left in the mode it was in. Nothing is written."""
        was_training = model.training
        model.eval()
        answerer = answerer_of(model, tokenizer, max_batch_tokens=_MAX_BATCH_TOKENS)
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
        return {**_plain_names(scores), **flatten(scores)}


def _plain_names(scores: dict[str, Any]) -> dict[str, float]:
    """`video_locpred_acc50`, `gqa_exact_match` ...: figures of tasks that have no name of their own."""
    named = {task for task, _ in FLAT_SCORES.values()}
    return {
        f"{task}_{metric}": value
        for task, result in scores.items()
        for metric, value in result["scores"].items()
        if task not in named
    }


def _require_images(questions: Sequence[Question], image_root: Path) -> None:
    for question in questions:
        if question.shown is None:
            continue
        path = resolve_inside(image_root, question.shown)
        if not (_is_there(path) if question.shows == "image" else find_video(path).is_file()):
            what = "image" if question.shows == "image" else "video"
            raise ValueError(
                f"no {what} {question.shown!r} in {image_root}, about which record {question.record.id!r} "
                f"asks; give the folder of the {what}s"
            )


def _is_there(path: Path) -> bool:
    """Whether there is such a file, or such a member of an archive."""
    try:
        found = locate(path)
    except FileNotFoundError:
        return False
    return isinstance(found, io.BytesIO) or Path(found).is_file()
