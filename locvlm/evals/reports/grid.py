"""A table of the paper with our figures put in: what Markdown and HTML print alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from locvlm.evals.reports.results import Results, Score, Subset
from locvlm.evals.reports.statistics import Interval
from locvlm.evals.reports.tables import Column, Measure, Row, Section, Table

NOT_RUN, NOTHING_ASKED = "not run", "none asked"
Kind = Literal["paper", "paper's own", "measured", "ours"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One figure, in the unit of its column."""

    text: str  # the figure, "-" where the paper has none, "not run" or "none asked" where we have none
    interval: Interval | None = None
    kind: Kind = "paper"


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What a row or a column is about."""

    title: str
    over: str = ""  # heading shared with its neighbours
    detail: str = ""
    marks: tuple[int, ...] = ()  # numbers of footnotes
    kind: Kind = "paper"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One row."""

    head: Head
    facts: tuple[str, ...] = ()
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Rows under a heading of their own."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A whole table, ready to print."""

    table: Table
    facts: tuple[str, ...]
    heads: tuple[Head, ...]
    blocks: tuple[Block, ...]
    footnotes: tuple[str, ...]  # number 1 first
    remarks: tuple[str, ...]  # about the whole table

    @property
    def has_ours(self) -> bool:
        """Whether anything in it was measured here."""
        cells = (cell for block in self.blocks for line in block.lines for cell in line.cells)
        return any(cell.kind in ("ours", "measured") and cell.text != NOT_RUN for cell in cells)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A run, or its answers about images of the training set, or those about all others."""

    results: Results
    subset: Subset
    kind: Kind  # "ours" for the run that the report is about, "measured" for those beside it

    def head(self, measures: Sequence[Measure | None]) -> Head:
        """The run's name, and what is behind its figures for these measures."""
        which = {"all": "", "clean": "images not in the training set", "seen": "images in the training set"}
        details = (
            what_answered(self.results, measures),
            how_many(self.results, measures, self.subset),
            which[self.subset],
        )
        return Head(title=self.results.run.name, detail=", ".join(filter(None, details)), kind=self.kind)

    def cell(self, measure: Measure | None, scale: float | None = None) -> Cell:
        """Its figure; `scale_of` the metric where none is given."""
        score = self.results.score(measure, self.subset)
        if measure is None or score is None:
            is_asked = self.subset != "all" and self.results.score(measure) is not None
            return Cell(text=NOTHING_ASKED if is_asked else NOT_RUN, kind=self.kind)
        return printed_score(score, scale_of(measure.metric) if scale is None else scale, kind=self.kind)


def build_grid(table: Table, results: Sequence[Results]) -> Grid:
    """The paper's figures with those of each run beneath, or beside where models stand side by side.

    Args:
        results: the run that the report is about, then those it is compared with.
    """
    about = [note for note in table.footnotes if note.models or note.columns]
    footnotes = [note.text for note in about]
    marks: dict[str, list[int]] = {}
    for number, note in enumerate(about, start=1):
        for title in (*note.models, *note.columns):
            marks.setdefault(title, []).append(number)
    for column in table.columns:
        if column.not_here:
            footnotes.append(f"{column.title}: {column.not_here}.")
            marks.setdefault(column.title, []).append(len(footnotes))
    is_beside = table.layout == "models side by side"
    heads, blocks = (_beside if is_beside else _beneath)(table, results, marks)
    wanted = {measure for section in table.sections for measure in table.measures(section)}
    lacking = {
        f"{measure.metric} of {measure.task}, {result.run.name}: {why}."
        for result in results
        for measure, why in result.unavailable.items()
        if measure in wanted
    }
    return Grid(
        table=table,
        facts=() if is_beside else table.facts,
        heads=heads,
        blocks=blocks,
        footnotes=tuple(footnotes),
        remarks=(
            *(note.text for note in table.footnotes if not note.models and not note.columns),
            *sorted(lacking),
        ),
    )


def _beneath(
    table: Table, results: Sequence[Results], marks: dict[str, list[int]]
) -> tuple[tuple[Head, ...], tuple[Block, ...]]:
    """Models are rows. Sections that measure the same share the rows of our runs, which follow the last."""
    heads = tuple(_column_head(column, marks) for column in table.columns)
    blocks: list[Block] = []
    for measures, alike in groupby(table.sections, key=table.measures):
        for section in alike:
            blocks.append(Block(title=section.title, lines=_paper_lines(section, marks)))
        lines = []
        for ours in parts_of_runs(results, measures):
            cells = [ours.cell(m, column.scale) for m, column in zip(measures, table.columns, strict=True)]
            facts = ("",) * len(table.facts)
            lines.append(Line(head=ours.head(measures), facts=facts, cells=tuple(cells)))
        last = blocks.pop()
        blocks.append(Block(title=last.title, lines=(*last.lines, *lines)))
    return heads, tuple(blocks)


def _beside(
    table: Table, results: Sequence[Results], marks: dict[str, list[int]]
) -> tuple[tuple[Head, ...], tuple[Block, ...]]:
    """Models are columns, and our runs the last of them; what is measured are rows."""
    everything = [measure for section in table.sections for measure in table.measures(section)]
    parts = parts_of_runs(results, everything)
    heads = [_model_head(row, marks) for row in table.sections[0].rows]
    heads += [ours.head(everything) for ours in parts]
    blocks = []
    for section in table.sections:
        lines = []
        for place, (measure, column) in enumerate(zip(table.measures(section), table.columns, strict=True)):
            cells = [printed(row, place) for row in section.rows]
            cells += [ours.cell(measure, column.scale) for ours in parts]
            lines.append(Line(head=_column_head(column, marks), cells=tuple(cells)))
        blocks.append(Block(title=section.title, lines=tuple(lines)))
    return tuple(heads), tuple(blocks)


def parts_of_runs(results: Sequence[Results], measures: Sequence[Measure | None]) -> list[Part]:
    """Each run once; or twice, for images of the training set and for others, where there are any."""
    parts = []
    for place, result in enumerate(results):
        kind: Kind = "measured" if place else "ours"
        seen = any(result.num_seen.get(m.task) for m in measures if m is not None)
        subsets: tuple[Subset, ...] = ("clean", "seen") if seen else ("all",)
        parts += [Part(results=result, subset=subset, kind=kind) for subset in subsets]
    return parts


def _paper_lines(section: Section, marks: dict[str, list[int]]) -> tuple[Line, ...]:
    return tuple(
        Line(
            head=_model_head(row, marks),
            facts=row.facts,
            cells=tuple(printed(row, place) for place in range(len(row.figures))),
        )
        for row in section.rows
    )


def _model_head(row: Row, marks: dict[str, list[int]]) -> Head:
    marked = tuple(marks.get(row.model, ()))
    return Head(title=row.model, detail=row.source, marks=marked, kind=_kind_of(row))


def _kind_of(row: Row) -> Kind:
    return "paper's own" if row.is_ours else "paper"


def _column_head(column: Column, marks: dict[str, list[int]]) -> Head:
    return Head(
        title=column.title,
        over=column.heading,
        detail=column.split,
        marks=tuple(marks.get(column.title, ())),
    )


def printed(row: Row, place: int) -> Cell:
    """A figure of the paper as it stands there: 4.74, 47.0."""
    figure = row.figures[place]
    return Cell(text="-" if figure is None else repr(figure), kind=_kind_of(row))


def scale_of(metric: str) -> float:
    """What a score is multiplied by to be printed: percent, but for those that have a scale of their own."""
    return 1.0 if metric == "judge_score" else 100.0


def cell_of(results: Results, measure: Measure, subset: Subset = "all", *, kind: Kind = "measured") -> Cell:
    """A run's figure, outside of the paper's tables."""
    return printed_score(results.score(measure, subset), scale_of(measure.metric), kind=kind)


def printed_score(score: Score | None, scale: float = 100.0, *, kind: Kind = "measured") -> Cell:
    """One of ours, and its interval in the same unit."""
    if score is None:
        return Cell(text=NOT_RUN, kind=kind)
    interval = score.interval
    if interval is not None:
        interval = Interval(scale * interval.low, scale * interval.high)
    text = f"{scale * score.value:.{1 if scale > 1 else 2}f}"
    return Cell(text=text, interval=interval, kind=kind)


def what_answered(results: Results, measures: Sequence[Measure | None]) -> str:
    """The checkpoint and the decoding behind a run's figures in a table, in words; "" if it has none."""
    tasks = dict.fromkeys(m.task for m in measures if m is not None)
    metas = [results.run.answers[task].meta for task in tasks if task in results.run.answers]
    found = dict.fromkeys(f"{model_name(meta.checkpoint)}, {meta.decoding}" for meta in metas)
    return "; ".join(found)


def how_many(results: Results, measures: Sequence[Measure | None], subset: Subset = "all") -> str:
    """How many questions are behind each of a run's figures in a table, in words; "" if it has none."""
    scores = [results.score(measure, subset) for measure in measures]
    numbers = [score.questions for score in scores if score is not None]
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f"{low:,} questions each" if low == high else f"{low:,} to {high:,} questions each"


def model_name(checkpoint: str) -> str:
    """The last parts of a checkpoint's path that tell it from others: "stage2/final", "llava-1.5-7b-hf"."""
    *_, before, last = ("", *Path(checkpoint).parts)
    return f"{before}/{last}" if last in ("final", "export") and before else last
