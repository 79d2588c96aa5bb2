"""Two runs side by side as an HTML page: differences, what they are worth, and the questions that changed."""

from collections.abc import Sequence
from html import escape

from locvlm.evals.judged import Judged
from locvlm.evals.pages.cards import draw, photograph, said_box, talk, true_box
from locvlm.evals.reports.answers import Answers
from locvlm.evals.reports.compare import Comparison, Pair, TaskComparison, p_value_text
from locvlm.evals.reports.grid import model_name, scale_of
from locvlm.evals.reports.statistics import Difference
from locvlm.geometry import Box
from locvlm.pages.shell import html_page

NUM_EXAMPLES = 12  # of questions lost, and of questions won
CLEAR = 0.05  # a p value below is printed bold


def render_page(comparison: Comparison) -> str:
    """The whole page."""
    folders = [escape(str(run.folder)) for run in (comparison.before, comparison.after)]
    return html_page(
        title=f"{comparison.before.name} and {comparison.after.name}",
        headline=_headline(comparison),
        lead="Percent, on the questions that both were asked. The interval and p are from drawing images "
        "anew, with all their questions, and scoring both runs on them. Lost were right in A and are wrong "
        "in B; won the other way round. McNemar’s exact test looks at these alone, as if each were drawn by "
        f"itself. Clear is p below {CLEAR:g}, which chance reaches in one of {1 / CLEAR:.0f} comparisons.",
        main="\n".join([_differences(comparison), *map(_flipped, comparison.tasks), _asked(comparison)]),
        about=f"A: {folders[0]} &nbsp;·&nbsp; B: {folders[1]}",
    )


def _headline(comparison: Comparison) -> str:
    firsts = [compared.changes[0] for compared in comparison.tasks if compared.changes]
    better, worse = (sum(_is_clear(change, sign) for change in firsts) for sign in (1, -1))
    before, after = escape(comparison.before.name), escape(comparison.after.name)
    number = len(firsts)
    return f"{after} beside {before}: clearly higher in {better} of {number} tasks, clearly lower in {worse}."


def _is_clear(change: Difference, sign: int) -> bool:
    return change.p_value is not None and change.p_value < CLEAR and change.value * sign > 0


def _differences(comparison: Comparison) -> str:
    rows = []
    for compared in comparison.tasks:
        for place, change in enumerate(compared.changes):
            rows.append(_difference(compared, change, is_first=place == 0))
    names = (escape(comparison.before.name), escape(comparison.after.name))
    only = ""
    if comparison.only_in_one:
        only = (
            f"<p class=notes>Asked of one of the two only: {escape(', '.join(comparison.only_in_one))}.</p>"
        )
    return (
        "<section><h2>Differences</h2>"
        f'<div class="scroll"><table class="grid"><thead><tr><th></th><th class="fact">metric</th>'
        f"<th>A<span>{names[0]}</span></th><th>B<span>{names[1]}</span></th><th>B − A</th><th>p</th>"
        f"<th>lost</th><th>won</th><th>McNemar’s p</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"</div>{only}</section>"
    )


def _difference(compared: TaskComparison, change: Difference, *, is_first: bool) -> str:
    interval, p_value = change.interval, change.p_value
    scale = scale_of(change.metric)
    between = "" if interval is None else f"{scale * interval.low:+.1f} to {scale * interval.high:+.1f}"
    kind = "best" if p_value is not None and p_value < CLEAR else "base"
    flipped = '<td class="none">·</td>' * 3
    if compared.mcnemar_p is not None and change.metric == compared.right_by:
        clear = "best" if compared.mcnemar_p < CLEAR else "base"
        flipped = (
            f"<td>{len(compared.lost):,}</td><td>{len(compared.won):,}</td>"
            f'<td class="{clear}">{p_value_text(compared.mcnemar_p)}</td>'
        )
    head, rule = "<th></th>", ""
    if is_first:
        head = f"<th>{escape(compared.task.name)}<span>{_how_many(compared)}</span></th>"
        rule = ' class="rule"'
    return (
        f'<tr{rule}>{head}<td class="fact">{escape(change.metric)}</td><td>{scale * change.before:.1f}</td>'
        f"<td>{scale * change.after:.1f}</td>"
        f'<td class="{kind}">{scale * change.value:+.1f}<small>{between}</small></td>'
        f'<td class="{kind}">{"·" if p_value is None else p_value_text(p_value)}</td>{flipped}</tr>'
    )


def _how_many(compared: TaskComparison) -> str:
    more = [
        f", {number:,} more of {name} only"
        for name, number in (("A", compared.num_only_before), ("B", compared.num_only_after))
        if number
    ]
    return f"{len(compared.pairs):,} questions{''.join(more)}"


def _flipped(compared: TaskComparison) -> str:
    """Questions that changed between right and wrong."""
    if compared.right_by is None or not (compared.lost or compared.won):
        return ""
    blocks = [
        _examples(compared, title, pairs)
        for title, pairs in (
            ("Won: wrong in A, right in B", compared.won),
            ("Lost: right in A, wrong in B", compared.lost),
        )
    ]
    shown = [row for pair in (*compared.won, *compared.lost) for row in pair]
    key = ""
    if any(isinstance(row.reading, Box) for row in shown):
        key = (
            '<div class="key"><span><i class="true"></i>true box</span><span><i class="asked"></i>A’s box'
            '</span><span><i class="said"></i>B’s box</span></div>'
        )
    return f"<section><h2>{escape(compared.task.name)}: what changed</h2>{key}{''.join(blocks)}</section>"


def _examples(compared: TaskComparison, title: str, pairs: Sequence[Pair]) -> str:
    if not pairs:
        return ""
    by_id = {first.prediction.id: (first, second) for first, second in pairs}
    chosen = draw([first for first, _ in pairs], NUM_EXAMPLES, seed=f"flipped/{compared.task.name}/{title}")
    cards = "".join(_card(compared, *by_id[row.prediction.id]) for row in chosen)
    return (
        f'<div class="kind"><h3>{title}</h3><span class="num">{len(chosen)} of {len(pairs):,}, drawn at '
        f'random</span></div><div class="six">{cards}</div>'
    )


def _card(compared: TaskComparison, first: Judged, second: Judged) -> str:
    boxes = [*true_box(first), *said_box(first, "asked"), *said_box(second)]
    shot = photograph(compared.after, second, boxes)
    return f"<article>{shot}{talk(second, [('A', first), ('B', second)])}</article>"


def _asked(comparison: Comparison) -> str:
    """With what both were made, and how much of it could be read."""
    names = ("asked", "answered", "failed", "unreadable")
    rows = []
    for compared in comparison.tasks:
        for letter, answers in (("A", compared.before), ("B", compared.after)):
            rows.append(_asked_row(letter, answers, names))
    heads = "".join(f"<th>{name}</th>" for name in names)
    return (
        '<section><h2>What they were asked</h2><div class="scroll"><table class="grid"><thead><tr><th></th>'
        f'<th class="fact"></th>{heads}<th class="fact">model</th><th class="fact">decoding, contract</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _asked_row(letter: str, answers: Answers, names: Sequence[str]) -> str:
    facts, counts = answers.facts(), answers.counts()
    cells = "".join(f"<td>{counts[name]:,}</td>" for name in names)
    head = "<th></th>"
    if letter == "A":
        head = f"<th>{escape(facts['task'])}<span>{escape(facts['questions'])}</span></th>"
    return (
        f'<tr>{head}<td class="fact">{letter}</td>{cells}'
        f'<td class="fact">{escape(model_name(facts["model"]))}<small>{escape(facts["weights"])}</small></td>'
        f'<td class="fact">{escape(facts["decoding"])}<small>{escape(facts["contract"])}</small>'
        f"<small>{escape(facts.get('judge', ''))}</small></td></tr>"
    )
