"""The paper's tables, declared in `eval/tables/*.yaml` and read strictly: what is measured, and as printed.

name: table_8
paper: "Table 8"
title: Object hallucination
protocol: "Is there {obj} in the image? Two present and two absent objects an image."
columns:
  - {title: Hal-COCO, task: hal_coco, metric: accuracy}
sections:
  - rows:
      - {model: LocVLM-B, figures: [88.3]}
footnotes:
  - {text: "Not in the released code.", columns: [Hal-COCO]}

A section may ask other tasks than the columns name, under the same headings: Table 4 has one for questions
asked directly and one for those after two examples.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from locvlm.config import read_declared
from locvlm.evals.metrics import BREAKDOWNS, METRICS


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One score: of a task's answers, or of those in one group of a breakdown, "side: left"."""

    task: str
    metric: str
    group: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One quantity of a table, printed as `scale` times the score."""

    title: str
    split: str = ""  # of the data set, as the paper says
    task: str = ""  # every section says it, where this does not
    metric: str = ""
    group: str = ""  # of a breakdown: "side: left"
    heading: str = ""  # over this column and its neighbours of the same heading
    scale: float = 100.0
    not_here: str = ""  # why it cannot be measured here, where it has no metric

    def __post_init__(self) -> None:
        if bool(self.metric) == bool(self.not_here):
            raise ValueError(f"column {self.title!r} needs a metric, or not_here with the reason for none")
        if self.metric and self.metric not in METRICS:
            raise ValueError(f"unknown metric {self.metric!r}, expected one of {', '.join(METRICS)}")
        breakdown, _, group = self.group.partition(": ")
        if self.group and (breakdown not in BREAKDOWNS or not group):
            raise ValueError(
                f"group must be a breakdown and one of its groups, as in 'side: left', got {self.group!r}; "
                f"breakdowns are {', '.join(BREAKDOWNS)}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What the paper prints for one model."""

    model: str
    source: str = ""  # where the figures are printed, if not in this table
    facts: tuple[str, ...] = ()  # under the table's `facts`
    figures: tuple[float | None, ...]  # as printed, one for each column; null for a dash
    is_ours: bool = False  # the paper's own model


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Rows that share what is measured."""

    title: str = ""
    tasks: tuple[str, ...] = ()  # one for each column, the columns' own if empty
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Footnote:
    """A remark about the models and columns that it names, or about the whole table."""

    text: str
    models: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table of the paper.

    Raises:
        ValueError: if a row or a section has not one entry for each column or fact, a column has no task, a
            footnote names a model or a column that is not there, or a table with the models side by side
            does not have the same ones in every section.
    """

    name: str
    paper: str  # its number there
    title: str
    protocol: str = ""  # how it is asked and scored, and on which split
    layout: Literal["models below each other", "models side by side"] = "models below each other"
    facts: tuple[str, ...] = ()  # headings of what is told about a model
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    footnotes: tuple[Footnote, ...] = field(default=())

    def __post_init__(self) -> None:
        for section in self.sections:
            self._check_section(section)
        models = {row.model for section in self.sections for row in section.rows}
        titles = {column.title for column in self.columns}
        for note in self.footnotes:
            unknown = sorted({*note.models} - models) + sorted({*note.columns} - titles)
            if unknown:
                raise ValueError(f"a footnote is about {', '.join(unknown)}, which is not in the table")
        orders = {tuple(row.model for row in section.rows) for section in self.sections}
        if self.layout == "models side by side" and len(orders) > 1:
            raise ValueError("every section must list the same models in one order: they stand side by side")

    def _check_section(self, section: Section) -> None:
        number = len(self.columns)
        if section.tasks and len(section.tasks) != number:
            raise ValueError(f"{section.title!r} names {len(section.tasks)} tasks for {number} columns")
        for column in self.columns:
            if column.metric and not section.tasks and not column.task:
                raise ValueError(f"column {column.title!r} has no task, nor has section {section.title!r}")
        for row in section.rows:
            if len(row.figures) != number or len(row.facts) != len(self.facts):
                raise ValueError(
                    f"{row.model} has {len(row.figures)} figures and {len(row.facts)} facts, expected "
                    f"{number} and {len(self.facts)}; write null for a dash"
                )

    def measures(self, section: Section) -> list[Measure | None]:
        """What each column of a section measures; None for one that cannot be measured here."""
        tasks = section.tasks or tuple(column.task for column in self.columns)
        return [
            Measure(task=task, metric=column.metric, group=column.group) if column.metric else None
            for task, column in zip(tasks, self.columns, strict=True)
        ]

    def tasks(self) -> list[str]:
        """The tasks of all sections, each once, in their order."""
        measures = (measure for section in self.sections for measure in self.measures(section))
        return list(dict.fromkeys(measure.task for measure in measures if measure is not None))


def load_table(path: Path) -> Table:
    """The table declared in a yaml file; the file is named like the table.

    Raises:
        ValueError: naming the file, for unknown keys, wrong types, and what `Table` refuses.
    """
    return read_declared(Table, path)


def load_tables(folder: Path) -> list[Table]:
    """All tables of a folder, in name order.

    Raises:
        ValueError: if there are none.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise ValueError(f"no tables in {folder}; name their folder with --table-dir")
    return [load_table(path) for path in paths]
