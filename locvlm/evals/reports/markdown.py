"""The tables as Markdown."""

from collections.abc import Sequence

from locvlm.evals.remarks import describe_remarks
from locvlm.evals.reports.benchmark import Benchmark
from locvlm.evals.reports.grid import Cell, Grid, Head, Line, parts_of_runs
from locvlm.evals.reports.results import Results

COUNTS = ("asked", "answered", "failed", "unreadable")


def to_markdown(benchmark: Benchmark, *, is_whole: bool = True) -> str:
    """Every table, what was asked of whom, and what was not run.

    Args:
        is_whole: with the tables of which nothing was measured.
    """
    parts = [
        f"# {escape(benchmark.title)}: the paper's tables",
        "Percent. In parentheses 95% intervals: images drawn anew with all their questions.",
        *(grid_markdown(grid) for grid in benchmark.grids if grid.has_ours or is_whole),
    ]
    if benchmark.other_measures():
        parts += ["## Other tasks", _others(benchmark)]
    for results in benchmark.results:
        parts += [f"## What {escape(results.run.name)} was asked", asked_markdown(results)]
    if benchmark.not_run() and is_whole:
        parts += ["## Not run", "\n".join(_not_run(benchmark))]
    return "\n\n".join(parts) + "\n"


def grid_markdown(grid: Grid) -> str:
    """One table with its footnotes."""
    table = grid.table
    label = "" if table.layout == "models side by side" else "Model"
    lines = [[label, *grid.facts, *(_head(head) for head in grid.heads)]]
    for block in grid.blocks:
        if block.title:
            lines.append([f"*{escape(block.title)}*"] + [""] * (len(lines[0]) - 1))
        lines += [_line(line) for line in block.lines]
    parts = [f"## {table.paper}: {escape(table.title)}"]
    if table.protocol:
        parts.append(f"{escape(table.protocol[0].upper() + table.protocol[1:])}.")
    parts.append(rows_markdown(lines))
    notes = [f"{number}. {escape(text)}" for number, text in enumerate(grid.footnotes, start=1)]
    notes += [f"- {escape(text)}" for text in grid.remarks]
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts)


def asked_markdown(results: Results) -> str:
    """How many questions of each task were asked, and with what they were answered."""
    lines = [["Task", *COUNTS, "Questions", "Model", "Decoding", "Judge", "Contract", "Remarks"]]
    for answers in results.run.answers.values():
        facts, counts = answers.facts(), answers.counts()
        told = [facts.get(name, "") for name in ("questions", "model", "decoding", "judge", "contract")]
        told.append(describe_remarks(answers.remarks()))
        lines.append([escape(facts["task"]), *(f"{counts[name]:,}" for name in COUNTS), *map(escape, told)])
    return rows_markdown(lines)


def rows_markdown(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line holds the headings."""
    rule = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def escape(text: str) -> str:
    """Text that Markdown prints as it is, in one table cell."""
    for mark in "\\`*_{}[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _others(benchmark: Benchmark) -> str:
    measures = benchmark.other_measures()
    parts = parts_of_runs(benchmark.results, measures)
    lines = [["Task", "Metric", *(_head(part.head(measures)) for part in parts)]]
    for measure in measures:
        cells = [_cell(part.cell(measure)) for part in parts]
        lines.append([escape(measure.task), escape(measure.metric), *cells])
    return rows_markdown(lines)


def _not_run(benchmark: Benchmark) -> list[str]:
    sources = benchmark.sources
    return [
        f"- {escape(task)}" + (f": {escape(sources[task])}" if task in sources else "")
        for task in benchmark.not_run()
    ]


def _line(line: Line) -> list[str]:
    cells = [_cell(cell) for cell in line.cells]
    return [_head(line.head, is_bold=line.head.kind == "ours"), *map(escape, line.facts), *cells]


def _head(head: Head, *, is_bold: bool = False) -> str:
    title = escape(f"{head.over} {head.title}".strip())
    title = f"**{title}**" if is_bold or head.kind == "ours" else title
    detail = f" ({escape(head.detail)})" if head.detail else ""
    return title + "".join(f"<sup>{mark}</sup>" for mark in head.marks) + detail


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.kind == "ours" and cell.text[0].isdigit() else cell.text
    return text if cell.interval is None else f"{text} ({cell.interval.low:.1f} to {cell.interval.high:.1f})"
