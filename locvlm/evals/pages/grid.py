"""Tables of figures as HTML: one of the paper with ours put in, and small ones of two or three columns."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from locvlm.evals.reports.grid import NOT_RUN, NOTHING_ASKED, Cell, Grid, Head, Kind, Line

_CLASSES: dict[Kind, str] = {"paper": "base", "paper's own": "own", "measured": "measured", "ours": "ours"}


def grid_html(grid: Grid) -> str:
    """A table with its footnotes."""
    width = 1 + len(grid.facts) + len(grid.heads)
    body = []
    for block in grid.blocks:
        if block.title:
            body.append(f'<tr class="part"><th colspan="{width}">{escape(block.title)}</th></tr>')
        body += [_line(line) for line in block.lines]
    notes = "".join(f"<li>{escape(note)}</li>" for note in grid.footnotes)
    remarks = "".join(f"<p>{escape(note)}</p>" for note in grid.remarks)
    under = (
        f'<div class="notes">{f"<ol>{notes}</ol>" if notes else ""}{remarks}</div>'
        if notes or remarks
        else ""
    )
    return (
        f'<div class="scroll"><table class="grid"><thead>{_heads(grid)}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{under}"
    )


def _heads(grid: Grid) -> str:
    """The headings; over them, in a row of their own, those that columns share."""
    facts = "".join(f'<th class="fact">{escape(fact)}</th>' for fact in grid.facts)
    titles = f"<tr><th></th>{facts}{''.join(head_html(head) for head in grid.heads)}</tr>"
    if not any(head.over for head in grid.heads):
        return titles
    shared = "".join(
        f'<th colspan="{len(list(heads))}" class="over">{escape(over)}</th>'
        for over, heads in groupby(grid.heads, key=lambda head: head.over)
    )
    return f'<tr><th colspan="{1 + len(grid.facts)}"></th>{shared}</tr>{titles}'


def head_html(head: Head) -> str:
    """The heading of a column."""
    return f'<th class="{_CLASSES[head.kind]}">{_titled(head)}</th>'


def _titled(head: Head) -> str:
    marks = ",".join(map(str, head.marks))
    detail = f"<span>{escape(head.detail)}</span>" if head.detail else ""
    return f"{escape(head.title)}{f'<sup>{marks}</sup>' if marks else ''}{detail}"


def _line(line: Line) -> str:
    facts = "".join(f'<td class="fact">{escape(fact)}</td>' for fact in line.facts)
    name = _CLASSES[line.head.kind]
    return (
        f'<tr class="{name}"><th>{_titled(line.head)}</th>{facts}{"".join(map(cell_html, line.cells))}</tr>'
    )


def cell_html(cell: Cell) -> str:
    """One figure, its interval beneath it."""
    if cell.text in (NOT_RUN, NOTHING_ASKED, "-"):
        return f'<td class="none">{"·" if cell.text == "-" else cell.text}</td>'
    interval = cell.interval
    between = "" if interval is None else f"<small>{interval.low:.1f} – {interval.high:.1f}</small>"
    return f'<td class="{_CLASSES[cell.kind]}">{cell.text}{between}</td>'


def block(title: str, head: str, rows: Sequence[str], *, is_wide: bool = False) -> str:
    """A small table under a title; `head` and `rows` are rows as HTML."""
    kind = ' class="wide"' if is_wide else ""
    return (
        f'<div{kind}><h3>{escape(title)}</h3><div class="scroll"><table class="grid">'
        f"{f'<thead>{head}</thead>' if head else ''}<tbody>{''.join(rows)}</tbody></table></div></div>"
    )
