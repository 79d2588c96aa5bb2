"""The paper's tables with our figures in them, and what is behind those, as one HTML page."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from locvlm.evals.pages.charts import bar
from locvlm.evals.pages.grid import block, cell_html, grid_html, head_html
from locvlm.evals.remarks import describe_remarks
from locvlm.evals.reports.answers import Answers
from locvlm.evals.reports.benchmark import Benchmark
from locvlm.evals.reports.diagnoses import Diagnosis, Flips, Group
from locvlm.evals.reports.grid import Grid, cell_of, model_name, parts_of_runs, printed_score, scale_of
from locvlm.evals.reports.results import SUBSETS, Results
from locvlm.evals.reports.tables import Measure
from locvlm.pages.shell import html_page

MANY_GROUPS = 12  # in a breakdown: more are listed without their intervals
COUNTS = ("asked", "answered", "failed", "unreadable")
_SUBSET_TITLES = {"all": "all", "clean": "others", "seen": "in training set"}
_BREAKDOWN_TITLES = {
    "size": "size of the box",
    "distance": "distance from the centre",
    "answer": "true answer",
}


def render_page(benchmark: Benchmark, *, examples: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        examples: task -> link to the page with its examples.
    """
    run = [grid for grid in benchmark.grids if grid.has_ours]
    rest = [grid for grid in benchmark.grids if not grid.has_ours]
    sections = [
        *(_table_section(grid) for grid in run),
        _others(benchmark),
        _not_run(rest, benchmark),
        _tasks(benchmark, examples),
        *(_asked(results) for results in benchmark.results),
    ]
    return html_page(
        title=benchmark.title,
        headline=_headline(benchmark),
        lead=_lead(benchmark),
        main="\n".join(section for section in sections if section),
        about=" &nbsp;·&nbsp; ".join(escape(str(results.run.folder)) for results in benchmark.results),
    )


def _headline(benchmark: Benchmark) -> str:
    tables = benchmark.tables
    wanted = {m for t in tables for section in t.sections for m in t.measures(section) if m is not None}
    found = sum(benchmark.main.score(measure) is not None for measure in wanted)
    return f"{found} of {len(wanted)} figures of the paper’s tables, measured."


def _lead(benchmark: Benchmark) -> str:
    answered = benchmark.main.run.answers.values()
    models = dict.fromkeys(model_name(answers.meta.checkpoint) for answers in answered)
    decodings = dict.fromkeys(answers.meta.decoding for answers in answered)
    trained_on = ""
    if benchmark.trained_on is not None:
        number = sum(benchmark.main.num_seen.values())
        trained_on = (
            f" {number:,} questions are about images of the training set; they are scored apart, for every "
            f"model alike."
        )
    return (
        f"{escape(', '.join(models))}, decoded {escape(', '.join(decodings))}. Percent; beneath a figure its "
        "95% interval, from drawing images anew with all their questions. An answer that cannot be read, and "
        f"a question that could not be asked, count as wrong.{trained_on}"
    )


# ---- tables


def _table_section(grid: Grid) -> str:
    table = grid.table
    protocol = f"<p>{escape(_sentence(table.protocol))}</p>" if table.protocol else ""
    return (
        f"<section><h2>{escape(table.title)} <small>{escape(table.paper)}</small></h2>"
        f"{protocol}{grid_html(grid)}</section>"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _others(benchmark: Benchmark) -> str:
    measures = benchmark.other_measures()
    if not measures:
        return ""
    parts = parts_of_runs(benchmark.results, measures)
    rows = []
    for task, of_task in groupby(measures, key=lambda measure: measure.task):
        for place, measure in enumerate(of_task):
            cells = "".join(cell_html(part.cell(measure)) for part in parts)
            name = "" if place else escape(task)
            rows.append(f'<tr><th>{name}</th><td class="fact">{escape(measure.metric)}</td>{cells}</tr>')
    heads = "".join(head_html(part.head(measures)) for part in parts)
    return (
        "<section><h2>Other tasks</h2><p>Which no table of the paper reports.</p>"
        f'<div class="scroll"><table class="grid flat"><thead><tr><th></th><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _not_run(grids: Sequence[Grid], benchmark: Benchmark) -> str:
    if not grids:
        return ""
    missing = benchmark.not_run()
    parts = []
    for grid in grids:
        names = [task for task in grid.table.tasks() if task in missing]
        told = [f"{task}: {benchmark.sources[task]}" for task in names if task in benchmark.sources]
        where = "".join(f"<li>{escape(text)}</li>" for text in told)
        parts.append(
            f"<details class=task><summary><b>{escape(grid.table.paper)}</b> {escape(grid.table.title)} "
            f"<span>{escape(', '.join(names))}</span></summary>{grid_html(grid)}"
            f"{f'<ul class=notes>{where}</ul>' if where else ''}</details>"
        )
    return (
        "<section><h2>Not run</h2><p>Tables of which nothing was measured, with the tasks that eval/run.py "
        f"would have to be given.</p>{''.join(parts)}</section>"
    )


# ---- task by task


def _tasks(benchmark: Benchmark, examples: Mapping[str, str]) -> str:
    parts = [
        _task(benchmark.main, answers, benchmark.diagnoses[name], examples.get(name, ""))
        for name, answers in benchmark.main.run.answers.items()
    ]
    return (
        f"<section><h2>Task by task</h2><p>Everything that was measured of {escape(benchmark.title)}, and "
        f"what a single figure hides.</p>{''.join(parts)}</section>"
    )


def _task(results: Results, answers: Answers, found: Diagnosis, link: str) -> str:
    name = answers.task.name
    first = cell_of(results, Measure(task=name, metric=found.metric))
    counts = answers.counts()
    told = ", ".join(f"{counts[count]:,} {count}" for count in COUNTS)
    examples = f'<p><a href="{escape(link)}">Examples, right and wrong</a></p>' if link else ""
    blocks = [
        _scores(results, answers),
        *(_groups(name, groups, found.metric) for name, groups in found.breakdowns.items()),
        _said(found.said),
        _flips(found.flips) if found.flips is not None else "",
    ]
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in answers.facts().items())
    return (
        f'<details class="task"><summary><b>{escape(name)}</b> {escape(found.metric)} {first.text} '
        f"<span>{told}</span></summary>{examples}"
        f'<div class="blocks">{"".join(filter(None, blocks))}</div>'
        f'<dl class="facts">{facts}</dl></details>'
    )


def _scores(results: Results, answers: Answers) -> str:
    name = answers.task.name
    subsets = [
        subset
        for subset in SUBSETS
        if any(key[0] == subset and key[1].task == name for key in results.scores)
    ]
    rows = []
    for metric in answers.task.metrics:
        measure = Measure(task=name, metric=metric)
        cells = "".join(cell_html(cell_of(results, measure, subset)) for subset in subsets)
        rows.append(f"<tr><th>{escape(metric)}</th>{cells}</tr>")
    if len(subsets) > 1:
        numbers = [len(answers.rows) - results.num_seen[name], results.num_seen[name]]
        asked = "".join(f"<td>{number:,}</td>" for number in (len(answers.rows), *numbers))
        rows.append(f"<tr><th>questions</th>{asked}</tr>")
    heads = "".join(f"<th>{_SUBSET_TITLES[subset]}</th>" for subset in subsets) if len(subsets) > 1 else ""
    head = f"<tr><th></th>{heads}</tr>" if heads else ""
    return block("scores", head, rows, is_wide=len(subsets) > 1)


def _groups(name: str, groups: Sequence[Group], metric: str) -> str:
    title = f"{_BREAKDOWN_TITLES.get(name, name.replace('_', ' '))}, by {metric}"
    scale = scale_of(metric)
    if len(groups) > MANY_GROUPS:
        return _many_groups(title, groups, scale)
    rows = [
        f"<tr><th>{escape(group.title)}</th><td>{group.score.questions:,}</td>"
        f"{cell_html(printed_score(group.score, scale))}<td class=draw>{bar(group.score.value)}</td></tr>"
        for group in groups
    ]
    return block(title, "<tr><th></th><th>questions</th><th></th><th></th></tr>", rows)


def _many_groups(title: str, groups: Sequence[Group], scale: float) -> str:
    """One line each, in columns, the best first."""
    ordered = sorted(groups, key=lambda group: (-group.score.value, group.title))
    items = "".join(
        f"<li><span>{escape(group.title)}</span>{bar(group.score.value)}"
        f"<em>{scale * group.score.value:.0f}</em></li>"
        for group in ordered
    )
    return f'<div class="whole"><h3>{escape(title)}</h3><ul class="classes">{items}</ul></div>'


def _said(said: dict[str, dict[str, int]]) -> str:
    """What was said (columns) where something was true (rows)."""
    if not said:
        return ""
    words = list(dict.fromkeys(word for counts in said.values() for word in counts))
    rows = []
    for true, counts in said.items():
        cells = "".join(
            f'<td class="{"ok" if word == true else "off" if counts[word] else "none"}">{counts[word]:,}</td>'
            for word in words
        )
        rows.append(f"<tr><th>true: {escape(true)}</th>{cells}</tr>")
    heads = "".join(f"<th>{escape(word)}</th>" for word in words)
    return block("what was said", f"<tr><th></th>{heads}</tr>", rows)


def _flips(flips: Flips) -> str:
    """Pairs asked in both orders."""
    lines = {
        "both right": flips.both_right,
        "both wrong, as opposites": flips.both_inverted,
        **{f"“{word}” both times": number for word, number in flips.same_word.items()},
        "no side, or both, in an answer": flips.other,
    }
    rows = [
        f"<tr><th>{escape(title)}</th><td>{number:,}</td><td class=draw>{bar(number / flips.pairs)}</td></tr>"
        for title, number in lines.items()
    ]
    share = f"{100 * flips.consistent_fraction:.1f}% of {flips.pairs:,} pairs"
    return block(f"both orders of a pair: {share} answered as opposites", "", rows)


# ---- what was asked


def _asked(results: Results) -> str:
    rows = []
    for answers in results.run.answers.values():
        facts, counts = answers.facts(), answers.counts()
        cells = "".join(f"<td>{counts[name]:,}</td>" for name in COUNTS)
        odd = escape(describe_remarks(answers.remarks()))
        model, weights = escape(model_name(facts["model"])), escape(facts["weights"])
        decoding, contract = escape(facts["decoding"]), escape(facts["contract"])
        judge = f"<small>judge {escape(facts['judge'])}</small>" if "judge" in facts else ""
        rows.append(
            f"<tr><th>{escape(facts['task'])}<span>{escape(Path(facts['questions']).name)}</span></th>{cells}"
            f'<td class="fact">{odd}</td>'
            f'<td class="fact">{model}<small>{weights}</small></td>'
            f'<td class="fact">{decoding}<small>{contract}</small>{judge}</td></tr>'
        )
    heads = "".join(f"<th>{name}</th>" for name in COUNTS)
    return (
        f"<section><h2>What {escape(results.run.name)} was asked</h2><p>Asked is answered and failed; "
        "unreadable are the answers that say nothing that was asked for. Beneath a task the file of its "
        f'questions.</p><div class="scroll"><table class="grid"><thead><tr><th></th>{heads}'
        '<th class="fact">remarks</th><th class="fact">model</th>'
        '<th class="fact">decoding, contract</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )
