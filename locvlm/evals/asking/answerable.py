"""Which tasks a model can do at all, said before it is asked anything."""

import logging
from dataclasses import replace

from locvlm.answering.answerer import Answerer, num_frames_of
from locvlm.evals.asking.questions import LOCATED
from locvlm.evals.bundle import Selection
from locvlm.evals.task import Task

logger = logging.getLogger(__name__)


def require_answerable(answerer: Answerer, task: Task) -> None:
    """Nothing, if the model can do the task.

    Raises:
        ValueError: for locations where the model has no way of writing them; for whole videos where it was
            made for images alone; and as its `answer` and `option_scores` do: for likelihoods, which a server
            does not tell, say.
    """
    if task.data.shows == "video":
        try:
            num_frames_of(answerer)
        except ValueError as error:
            raise ValueError(f"task {task.name} shows whole videos: {error}") from error
    if task.data.objective in LOCATED and answerer.contract is None:
        raise ValueError(
            f"task {task.name} is about locations, and this model has no known way of writing them; for a "
            f"server, or a LLaVA of another training, --convention declares one"
        )
    if task.choose == "likelihood":
        answerer.option_scores([], [])
    else:
        answerer.answer([], task.decode)


def answerable_by(answerer: Answerer, selection: Selection) -> Selection:
    """The selection without those tasks of bundles that the model cannot do.

    Raises:
        ValueError: for such a task that was asked for by itself, and if no task is left.
    """
    tasks, left_out = [], dict(selection.left_out)
    for task in selection.tasks:
        try:
            require_answerable(answerer, task)
            tasks.append(task)
        except ValueError as error:
            if task.name not in selection.of_bundles:
                raise
            left_out[task.name] = str(error)
            logger.warning("left out: %s: %s", task.name, error)
    chosen = replace(selection, tasks=tasks, left_out=left_out)
    if not tasks:
        raise ValueError(f"nothing to ask this model:{chosen.describe_left_out()}")
    return chosen
