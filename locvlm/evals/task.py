"""A task: one benchmark split as a declaration in `eval/tasks/*.yaml`, read strictly.

name: locpred
version: 1            # bump when a score may change: prompt, split, parsing or metric
paper: "section 3.3"
data: {reader: records, file: localize_val.jsonl, objective: locpred}
prompt: "{question}"  # double quotes, or \\n stays two characters
decode: {greedy: true, max_new_tokens: 48}
parse: location
metrics: [acc50, miou, unreadable_fraction]
breakdowns: [size]
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from locvlm.config import convert, read_yaml
from locvlm.evals.metrics import BREAKDOWNS, METRICS
from locvlm.evals.parse import PARSERS
from locvlm.records import Objective

QUESTION_SLOT = "{question}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskData:
    """Which questions of which file are asked."""

    file: str  # record JSONL, relative to the data root
    objective: Objective  # only queries of this objective are asked
    reader: Literal["records"] = "records"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How answers are generated; the report names it (the paper samples at 0.2, section 4)."""

    greedy: bool = True
    max_new_tokens: int = 48
    temperature: float = 0.2  # only where not greedy
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"decode.max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not self.greedy and self.temperature <= 0:
            raise ValueError(
                f"decode.temperature must be positive to sample, got {self.temperature}; or set greedy: true"
            )

    def describe(self) -> str:
        """In words: "greedy" or "sampled at temperature 0.2, seed 0"."""
        return "greedy" if self.greedy else f"sampled at temperature {self.temperature:g}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is asked, how the answer is read, and what is computed from it.

    Raises:
        ValueError: for a parser, metric or breakdown that does not exist (the error lists those that do),
            or a prompt without "{question}".
    """

    name: str
    version: int
    data: TaskData
    parse: str
    metrics: tuple[str, ...]
    paper: str = ""  # the section or table that this task reproduces
    prompt: str = QUESTION_SLOT
    decode: Decoding = field(default_factory=Decoding)
    breakdowns: tuple[str, ...] = ()
    predictions: str = ""  # name of the task whose answers are scored; this task's own when empty

    def __post_init__(self) -> None:
        _require_known("parse", (self.parse,), PARSERS)
        _require_known("metrics", self.metrics, METRICS)
        _require_known("breakdowns", self.breakdowns, BREAKDOWNS)
        if QUESTION_SLOT not in self.prompt:
            raise ValueError(f"task {self.name}: the prompt must hold {QUESTION_SLOT}, got {self.prompt!r}")
        if not self.metrics:
            raise ValueError(f"task {self.name}: name at least one metric of {', '.join(METRICS)}")

    @property
    def predictions_name(self) -> str:
        """The stem of the predictions file: tasks that ask the same questions share one."""
        return self.predictions or self.name

    def prompt_for(self, question: str) -> str:
        """`question` in this task's prompt; braces in the question are left alone."""
        return self.prompt.replace(QUESTION_SLOT, question)


def _require_known(field_name: str, names: tuple[str, ...], known: dict[str, Any]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown {field_name} {name!r}, expected one of {', '.join(known)}{hint}")


def load_task(path: Path) -> Task:
    """The task declared in a yaml file; the file is named like the task.

    Raises:
        ValueError: for unknown keys, wrong types, or a name that differs from the file's.
    """
    values = read_yaml(path)
    try:
        task: Task = convert(Task, values, "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if task.name != path.stem:
        raise ValueError(
            f"{path} declares task {task.name!r}; name the file {task.name}.yaml or the task {path.stem!r}"
        )
    return task


def load_tasks(folder: Path, names: tuple[str, ...]) -> list[Task]:
    """The named tasks of a folder, in the order asked for; a name with `*` takes all that match.

    Raises:
        ValueError: for a name that no file carries, and for tasks that share predictions but ask differently.
    """
    available = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    chosen: dict[str, Path] = {}
    for name in names:
        matches = {stem: path for stem, path in available.items() if Path(stem).match(name)}
        if not matches:
            near = get_close_matches(name, available, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no task {name!r} in {folder}, expected one of {', '.join(available)}{hint}")
        chosen.update(matches)
    tasks = [load_task(path) for path in chosen.values()]
    for task in tasks:
        if task.predictions:
            _require_same_questions(task, load_task(available[task.predictions]))
    return tasks


def _require_same_questions(task: Task, other: Task) -> None:
    for name in ("data", "prompt", "decode"):
        if getattr(task, name) != getattr(other, name):
            raise ValueError(
                f"task {task.name} scores the answers of {other.name}, so its `{name}` must be the same: "
                f"got {getattr(task, name)}, expected {getattr(other, name)}"
            )
