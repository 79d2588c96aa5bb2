"""Answers of one task as an HTML page: right and wrong ones, drawn at random."""

from collections.abc import Sequence
from html import escape

from locvlm.evals.judged import Judged
from locvlm.evals.pages.cards import draw, photograph, said_box, talk, true_box
from locvlm.evals.reports.answers import Answers
from locvlm.evals.reports.diagnoses import is_right, right_metric
from locvlm.geometry import Box
from locvlm.pages.shell import html_page

NUM_EXAMPLES = 12  # of each kind


def render_examples(answers: Answers, *, seed: int = 0) -> str:
    """The whole page."""
    rows = answers.rows
    metric = right_metric(answers.task, rows)
    if metric is None:
        kinds = [("Answers", rows)]
        counted = f"{len(rows):,} answers."
    else:
        right = [row for row in rows if is_right(metric, row)]
        wrong = [row for row in rows if not is_right(metric, row)]
        kinds = [("Right", right), ("Wrong", wrong)]
        counted = f"{len(right):,} right, {len(wrong):,} wrong."
    counts = answers.counts()
    facts = answers.facts()
    return html_page(
        title=answers.task.name,
        headline=counted,
        lead=f"{escape(facts['task'])}: asked {counts['asked']:,}, answered {counts['answered']:,}, failed "
        f"{counts['failed']:,}, unreadable {counts['unreadable']:,}; decoding {escape(facts['decoding'])}. "
        f"{f'Right is what {escape(metric)} counts.' if metric else 'Nothing calls a single answer right.'}",
        main="".join(_kind(answers, title, found, seed) for title, found in kinds),
        about=f"{escape(facts['model'])} &nbsp;·&nbsp; {escape(facts['questions'])} &nbsp;·&nbsp; "
        f"{escape(facts['contract'])}",
    )


def _kind(answers: Answers, title: str, rows: Sequence[Judged], seed: int) -> str:
    if not rows:
        return f"<section><h2>{title}</h2><p>None.</p></section>"
    shown = draw(rows, NUM_EXAMPLES, seed=f"examples/{seed}/{answers.task.name}/{title}")
    cards = "".join(_card(answers, row) for row in shown)
    return (
        f"<section><h2>{title}</h2><p>{len(shown)} of {len(rows):,}, drawn at random.</p>{_key(shown)}"
        f'<div class="six">{cards}</div></section>'
    )


def _card(answers: Answers, row: Judged) -> str:
    shot = photograph(answers, row, [*true_box(row), *said_box(row)])
    return f"<article>{shot}{talk(row, [('', row)])}</article>"


def _key(rows: Sequence[Judged]) -> str:
    """What the colours of boxes mean, where there are any."""
    kinds = dict(kind for row in rows for kind in _kinds(row))
    items = "".join(f'<span><i class="{kind}"></i>{title}</span>' for kind, title in kinds.items())
    return f'<div class="key">{items}</div>' if items else ""


def _kinds(row: Judged) -> list[tuple[str, str]]:
    titles = {"true": "true box", "asked": "box in the question"}
    kinds = [(kind, titles[kind]) for kind, _ in true_box(row)]
    return [*kinds, ("said", "box in its answer")] if isinstance(row.reading, Box) else kinds
