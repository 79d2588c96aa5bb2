"""Plots of an audit as inline SVG; colours come from the page's styles by class."""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 560, 220, 20, 28
_MOST_LABELS = 10
_WIDEST = 64  # of a column


def columns(counts: Mapping[str, int], *, label: str) -> str:
    """A column for each name in order, the highest with its count; names below, thinned where many."""
    if not counts:
        return f'<p class="empty">Nothing to count: {escape(label)}.</p>'
    step, highest = _WIDTH / len(counts), max(1, *counts.values())
    every = -(-len(counts) // _MOST_LABELS)
    parts, is_named = [_open(_WIDTH, _HEIGHT, label)], False
    for index, (name, count) in enumerate(counts.items()):
        tall = (_HEIGHT - _TOP - _BOTTOM) * count / highest
        x, y = index * step, _HEIGHT - _BOTTOM - tall
        middle, wide = x + step / 2, min(0.88 * step, _WIDEST)
        parts.append(
            f'<rect class="good" x="{middle - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" '
            f'height="{max(tall, 0.8 if count else 0):.1f}" rx="2">'
            f"<title>{escape(name)}: {count:,}</title></rect>"
        )
        if count == highest and not is_named:
            is_named = True
            anchor = "start" if middle < 40 else "end" if middle > _WIDTH - 40 else "middle"
            at = x if anchor == "start" else x + step if anchor == "end" else middle
            parts.append(
                f'<text class="tick" x="{at:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">{count:,}</text>'
            )
        if index % every == 0:
            parts.append(
                f'<text class="tick" x="{middle:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
    return "".join([*parts, "</svg>"])


def heat_map(cells: Sequence[Sequence[int]], *, label: str) -> str:
    """A field of squares, rows from the top, the fuller the darker."""
    size, side = len(cells), 18
    highest = max(1, *(count for row in cells for count in row))
    parts = [_open(size * side, size * side, label)]
    for row, counts in enumerate(cells):
        parts += [
            f'<rect fill="currentColor" fill-opacity="{0.04 + 0.9 * count / highest:.3f}" '
            f'x="{column * side}" y="{row * side}" width="{side - 1}" height="{side - 1}" rx="2">'
            f"<title>{count:,}</title></rect>"
            for column, count in enumerate(counts)
        ]
    return "".join([*parts, "</svg>"])


def binned(counts: Mapping[int, int], *, most: int) -> dict[str, int]:
    """Counts of whole numbers from the least to `most`, what is above in one last column."""
    if not counts:
        return {}
    low, high = min(counts), max(counts)
    shown = {str(n): counts.get(n, 0) for n in range(low, min(high, low + most - 1) + 1)}
    above = sum(count for n, count in counts.items() if n > low + most - 1)
    return {**shown, f"{low + most} on": above} if above else shown


def _open(width: int, height: int, label: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
