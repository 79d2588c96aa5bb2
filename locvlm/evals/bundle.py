"""A bundle: tasks that belong together, such as all of the paper's, run as far as their data is here.

name: paper
parts:
  - {of: "Table 9: POPE", tasks: [pope_random, pope_popular, pope_adversarial]}

Where a task is named by itself, missing data is an error. Those of a bundle that cannot be asked are left
out, each with its reason and where to get what is missing.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from locvlm.config import read_declared
from locvlm.evals.task import Task, load_tasks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Tasks of a bundle that show one thing."""

    of: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Tasks that belong together.

    Raises:
        ValueError: if there are none, or one is named twice.
    """

    name: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError(f"bundle {self.name} names no task")
        twice = sorted({name for name in self.tasks if self.tasks.count(name) > 1})
        if twice:
            raise ValueError(f"bundle {self.name} names {', '.join(twice)} twice")

    @property
    def tasks(self) -> tuple[str, ...]:
        """All names, in order."""
        return tuple(name for part in self.parts for name in part.tasks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What is asked of what was asked for, with the paths of this machine."""

    tasks: list[Task]
    left_out: dict[str, str]  # task -> why
    of_bundles: frozenset[str] = frozenset()  # names of tasks that nobody asked for by themselves

    def describe_left_out(self) -> str:
        """A line for each task that is left out; empty for none."""
        return "".join(f"\nleft out: {name}: {why}" for name, why in self.left_out.items())


def load_bundle(path: Path) -> Bundle:
    """The bundle declared in a yaml file; the file is named like the bundle.

    Raises:
        ValueError: naming the file, for unknown keys, wrong types, a name that differs from the file's, and
            what `Bundle` refuses.
    """
    return read_declared(Bundle, path)


def select_tasks(
    names: Sequence[str],
    task_dir: Path,
    data_root: Path,
    *,
    records: Path | None = None,
    image_root: Path | None = None,
) -> Selection:
    """The tasks and bundles of these names; of a bundle, those that can be asked.

    Args:
        task_dir: where tasks are declared; bundles are, in the folder `bundles` beside it.
        records: as for `Task.located`, and so is `image_root`.

    Raises:
        ValueError: for a name that is neither, and if no task can be asked, with the reason for each.
    """
    bundles = {path.stem: path for path in sorted((task_dir.parent / "bundles").glob("*.yaml"))}
    chosen: dict[str, Task] = {}
    left_out: dict[str, str] = {}
    named: set[str] = set()
    for name in names:
        members = load_bundle(bundles[name]).tasks if name in bundles else (name,)
        for task in load_tasks(task_dir, members):
            try:
                located = task.located(data_root, records=records, image_root=image_root)
                if name in bundles:
                    _require_here(located)
                chosen[task.name] = located
                named |= set() if name in bundles else {task.name}
            except ValueError as error:
                if name not in bundles:
                    raise
                left_out[task.name] = str(error)
    left_out = {name: why for name, why in left_out.items() if name not in chosen}
    selection = Selection(
        tasks=[*chosen.values()], left_out=left_out, of_bundles=frozenset(chosen.keys() - named)
    )
    if not chosen:
        raise ValueError(f"nothing to ask, with the data below {data_root}:{selection.describe_left_out()}")
    for name, why in left_out.items():
        logger.warning("left out: %s: %s", name, why)
    return selection


def _require_here(task: Task) -> None:
    """Refuse a task whose files or images are not here, saying where to get them."""
    missing = [str(file) for file in task.data.files if not file.is_file()]
    root = Path(task.data.image_root)
    is_in_archive = any(path.is_file() for path in (root, *root.parents))
    if not root.is_dir() and not is_in_archive:
        missing.append(f"{root} (images)")
    if missing:
        get_it = task.data.source or "its YAML does not say where"
        raise ValueError(f"there is no {', no '.join(missing)}; get it: {get_it}")
