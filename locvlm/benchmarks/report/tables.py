"""Kept results as Markdown, written between two markers of a document."""

import re
from collections.abc import Sequence

from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.report.kept import Kept, of_benchmark
from locvlm.benchmarks.result import Headline, amount

SUMMARY = "summary"  # README's block: what has a goal
END = "<!-- end of benchmark -->"
_BLOCK = re.compile(rf"(<!-- benchmark: (\w+) -->\n).*?({re.escape(END)})", re.DOTALL)
NOTHING = "No result is kept yet.\n"


def fill(document: str, kept: Sequence[Kept]) -> str:
    """The document with every block made anew: `<!-- benchmark: NAME -->` up to `<!-- end of benchmark -->`.

    Raises:
        ValueError: if it has no such block.
    """
    if not _BLOCK.search(document):
        raise ValueError(f"the document has no block between <!-- benchmark: NAME --> and {END}")
    return _BLOCK.sub(lambda found: f"{found[1]}{block(found[2], kept)}{found[3]}", document)


def outside(document: str) -> str:
    """The document without its blocks: what people wrote."""
    return _BLOCK.sub("", document)


def block(name: str, kept: Sequence[Kept]) -> str:
    """What stands between the markers."""
    if name == SUMMARY:
        return summary(kept)
    parts = []
    for one in of_benchmark(kept, name):
        parts.append(
            f"{one.machine} (`benchmarks/results/{one.path.name}`):\n\n{headline_table(one.headline)}"
        )
        if one.curve is not None:
            parts.append(curve_table(one.curve))
            parts.append(shares_table(one.curve))
    return "\n".join(parts) if parts else NOTHING


def summary(kept: Sequence[Kept]) -> str:
    """A table for each machine of what has a goal, and of what else the same was held against."""
    machines = list(dict.fromkeys(one.machine for one in kept))
    tables = []
    for machine in machines:
        quoted = [h for one in kept if one.machine == machine for h in one.judged]
        if quoted:
            tables.append(f"{machine}:\n\n{headline_table(quoted)}")
    return "\n".join(tables) if tables else NOTHING


def headline_table(quoted: Sequence[Headline]) -> str:
    """What, the figure, the goal; a goal that is missed says so."""
    if all(one.goal is None for one in quoted):
        rows = [f"| {one.what} | {one.told()} |" for one in quoted]
        return "\n".join(["| | measured |", "|---|---|", *rows]) + "\n"
    rows = [f"| {one.what} | {one.told()} | {_goal(one)} |" for one in quoted]
    return "\n".join(["| | measured | goal |", "|---|---|---|", *rows]) + "\n"


def curve_table(curve: Curve) -> str:
    """A line of the curve each."""
    xs = sorted({x for line in curve.lines.values() for x, _ in line})
    head = [f"{curve.y}, by {curve.x}", *(f"{x:,g}" if x < 1000 else f"{x:,.0f}" for x in xs)]
    rows = [
        [name, *("" if (y := dict(line).get(x)) is None else amount(y, "s") for x in xs)]
        for name, line in curve.lines.items()
    ]
    return _table(head, rows)


def shares_table(curve: Curve) -> str:
    """What takes the time at both ends of the lines; "" where nobody looked."""
    if not curve.shares:
        return ""
    kinds = list(dict.fromkeys(kind for shares in curve.shares.values() for kind in shares))
    rows = [
        [where, *(f"{shares[kind]:.0%}" if kind in shares else "" for kind in kinds)]
        for where, shares in curve.shares.items()
    ]
    return _table(["where the time goes", *kinds], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return text.replace("<", "&lt;")  # Python names functions such as <genexpr>


def _goal(one: Headline) -> str:
    if one.goal is None:
        return ""
    asked = f"{'at least' if one.limit == '>=' else 'at most'} {amount(one.goal, one.unit)}"
    return asked if one.is_reached else f"{asked}: **missed**"
