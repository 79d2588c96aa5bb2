"""A task: one benchmark split as a declaration in `eval/tasks/*.yaml`, read strictly.

name: vqav2_val
version: 1            # bump when a score may change: prompt, split, parsing or metric
paper: "Table 5"
data:
  reader: vqav2       # of locvlm/evals/readers.py; `records`, what data_builders/ write, if none is named
  file: vqav2/v2_OpenEnded_mscoco_val2014_questions.json  # below --data-root
  options: {annotations: vqav2/v2_mscoco_val2014_annotations.json}  # the reader's own; files as above
  objective: vqa      # only queries of this objective are asked
  image_root: coco/val2014  # below --data-root, unless --image-root is given
  shows: image        # "frame": of a video, the middle one; "video" is for models that see it whole
  source: "where to get the files"
prompt: "{question}"  # double quotes, or \\n stays two characters
decode: {greedy: true, max_new_tokens: 48}
parse: text
metrics: [vqa_accuracy, unreadable_fraction]
breakdowns: [answer_type]
"""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from locvlm.answering.answerer import Decoding
from locvlm.config import read_declared
from locvlm.evals.metrics import BREAKDOWNS, METRICS
from locvlm.evals.parse import PARSERS
from locvlm.evals.readers import READERS, checked_options
from locvlm.io import sha256_of
from locvlm.records import Objective, Record

QUESTION_SLOT = "{question}"
Shows = Literal["image", "frame", "video"]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskData:
    """Which questions of which file are asked, and about which images.

    Raises:
        ValueError: for a reader that does not exist, or an option that it does not have.
    """

    file: str  # relative to the data root
    objective: Objective  # only queries of this objective are asked
    reader: str = "records"
    options: dict[str, Any] = field(default_factory=dict)  # of the reader
    image_root: str = ""  # relative to the data root; where the program's --image-root says, if empty
    source: str = ""  # where to get the files
    shows: Shows = "image"  # videos lie below `image_root`, too

    def __post_init__(self) -> None:
        checked_options(self.reader, self.options)

    def below(self, root: Path) -> "TaskData":
        """The same with all paths below `root`, and so independent of it."""
        options = checked_options(self.reader, self.options)
        return replace(
            self,
            file=str(root / self.file),
            options={
                name: root / value if isinstance(value, Path) else value for name, value in options.items()
            },
            image_root=str(root / self.image_root) if self.image_root else "",
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        options = checked_options(self.reader, self.options).values()
        return (Path(self.file), *(value for value in options if isinstance(value, Path)))

    def records(self) -> Iterator[Record]:
        """What the files hold, for all objectives.

        Raises:
            ValueError: for a file that is missing, saying where to get it, or one of another form.
        """
        for file in self.files:
            if not file.is_file():
                get_it = f"; get it: {self.source}" if self.source else ""
                raise ValueError(
                    f"no file {file.name} at {file}{get_it}; or pass the folder that holds it as --data-root"
                )
        options = checked_options(self.reader, self.options)
        return READERS[self.reader](Path(self.file), **options)

    def sha256(self) -> str:
        """Of the file; where there are options, of all files and options together."""
        if not self.options:
            return sha256_of(self.file)
        options = checked_options(self.reader, self.options).items()
        told = {name: sha256_of(value) if isinstance(value, Path) else value for name, value in options}
        text = json.dumps([sha256_of(self.file), self.reader, told], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class _AlwaysThe(random.Random):
    """Draws that always take the n-th, from 1: the wording is fixed where it is drawn otherwise."""

    def __init__(self, number: int) -> None:
        super().__init__(0)
        self._number = number

    def choice(self, seq: Sequence[Item]) -> Item:  # type: ignore[override]
        """The n-th.

        Raises:
            ValueError: if there are fewer.
        """
        if self._number > len(seq):
            raise ValueError(f"wording {self._number} was asked for, there are {len(seq)}: {list(seq)}")
        return seq[self._number - 1]


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
    wording: int = 0  # number of the objective's prompt, from 1; 0 draws one for each question
    choose: Literal["generate", "likelihood"] = "generate"  # "likelihood": the likeliest option is the answer
    options: tuple[str, ...] = ()  # to choose from, where the data set has none of its own for each question
    predictions: str = ""  # name of the task whose answers are scored; this task's own when empty

    def __post_init__(self) -> None:
        _require_known("parse", (self.parse,), PARSERS)
        _require_known("metrics", self.metrics, METRICS)
        _require_known("breakdowns", self.breakdowns, BREAKDOWNS)
        if QUESTION_SLOT not in self.prompt:
            raise ValueError(f"task {self.name}: the prompt must hold {QUESTION_SLOT}, got {self.prompt!r}")
        if self.wording < 0:
            raise ValueError(f"task {self.name}: wording is a number from 1, or 0, got {self.wording}")
        if self.options and self.choose == "generate":
            raise ValueError(f"task {self.name}: options are for `choose: likelihood`, got {self.options}")
        if not self.metrics:
            raise ValueError(f"task {self.name}: name at least one metric of {', '.join(METRICS)}")

    @property
    def predictions_name(self) -> str:
        """The stem of the predictions file: tasks that ask the same questions share one."""
        return self.predictions or self.name

    def prompt_for(self, question: str) -> str:
        """`question` in this task's prompt; braces in the question are left alone."""
        return self.prompt.replace(QUESTION_SLOT, question)

    def located(
        self, data_root: Path, *, records: Path | None = None, image_root: Path | None = None
    ) -> "Task":
        """The same with the paths of this machine.

        Args:
            records: a record file to ask about, instead of the task's own data.
            image_root: folder of the images, instead of the task's own.

        Raises:
            ValueError: if nothing says where the images are.
        """
        data = self.data.below(data_root)
        if records is not None:
            data = TaskData(
                file=str(records), objective=data.objective, image_root=data.image_root, shows=data.shows
            )
        if image_root is not None:
            data = replace(data, image_root=str(image_root))
        if not data.image_root:
            raise ValueError(f"task {self.name} does not say where its images are; give --image-root")
        return replace(self, data=data)

    def draws(self, seed: str) -> random.Random:
        """What the wording of a question is drawn from."""
        return _AlwaysThe(self.wording) if self.wording else random.Random(seed)

    def describe_answers(self) -> str:
        """How answers come about, in words: "greedy", "the likeliest option, per token"."""
        return self.decode.describe() if self.choose == "generate" else "the likeliest option, per token"


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
    return read_declared(Task, path)


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
    for name in ("data", "prompt", "decode", "wording", "choose", "options"):
        if getattr(task, name) != getattr(other, name):
            raise ValueError(
                f"task {task.name} scores the answers of {other.name}, so its `{name}` must be the same: "
                f"got {getattr(task, name)}, expected {getattr(other, name)}"
            )
