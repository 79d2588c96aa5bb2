"""Charts as inline SVG text: no script, no library; colours come from the page's CSS variables by class."""

import math
from collections.abc import Sequence
from html import escape

Series = Sequence[tuple[float, float]]
MIN_POINTS_TO_SMOOTH = 40


def line_chart(series: Series, *, label: str) -> str:
    """One curve over steps with axes, the raw values faint behind their running mean, and the last value
    named.

    Args:
        series: (step, value), in order; values that are not finite are left out.
    """
    points = [(x, y) for x, y in series if math.isfinite(y)]
    if len(points) < 2:
        return f'<p class="empty">No curve: {len(points)} logged value of {escape(label)}.</p>'
    width, height, left, right, top, bottom = 560, 260, 44, 52, 14, 30
    smooth = len(points) > MIN_POINTS_TO_SMOOTH
    xs, curve = [x for x, _ in points], running_mean(points) if smooth else points
    ticks = nice_ticks(min(0.0, min(y for _, y in points)), _quantile([y for _, y in points], 0.995))
    low, high = ticks[0], ticks[-1]

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = left + (point[0] - xs[0]) / max(xs[-1] - xs[0], 1e-9) * (width - left - right)
        y = top + (high - min(point[1], high)) / (high - low) * (height - top - bottom)
        return x, y

    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)} over '
        f'steps">'
    ]
    for tick in ticks:
        _, y = place((xs[0], tick))
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in nice_ticks(xs[0], xs[-1], count=5):
        if xs[0] <= tick <= xs[-1]:
            x, _ = place((tick, low))
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{height - 8}" '
                f'text-anchor="middle">{_thousands(tick)}</text>'
            )
    if smooth:
        parts.append(f'<path class="raw" d="{_path(map(place, thin(points, 600)))}"/>')
    parts.append(f'<path class="curve" d="{_path(map(place, thin(curve, 600)))}"/>')
    x, y = place(curve[-1])
    parts.append(f'<circle class="end" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    parts.append(f'<text class="value" x="{x + 8:.1f}" y="{y + 4:.1f}">{curve[-1][1]:.3g}</text></svg>')
    return "".join(parts)


def histogram(values: Sequence[float], *, threshold: float, num_bins: int = 20) -> str:
    """How many values in [0, 1] fall into each of `num_bins`; bins from `threshold` on are drawn as good."""
    counts = [0] * num_bins
    for value in values:
        counts[min(int(value * num_bins), num_bins - 1)] += 1
    width, height, bottom, top = 560, 220, 28, 18
    step, highest = width / num_bins, max([*counts, 1])
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="histogram">']
    for index, count in enumerate(counts):
        tall = (height - bottom - top) * count / highest
        kind = "good" if index / num_bins >= threshold - 1e-9 else "bad"
        x, y = index * step + 1.5, height - bottom - tall
        title = f"{index / num_bins:.2f} to {(index + 1) / num_bins:.2f}: {count}"
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{step - 3:.1f}" '
            f'height="{max(tall, 0.8):.1f}" rx="2">'
            f"<title>{title}</title></rect>"
        )
        if count == highest:
            parts.append(
                f'<text class="tick" x="{x + step / 2 - 1.5:.1f}" y="{y - 5:.1f}" '
                f'text-anchor="middle">{count}</text>'
            )
    for tick in (0, 0.25, 0.5, 0.75, 1):
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        parts.append(
            f'<text class="tick" x="{tick * width}" y="{height - 8}" text-anchor="{anchor}">{tick:g}</text>'
        )
    x = threshold * width
    parts.append(
        f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 12}" y2="{height - bottom}"/></svg>'
    )
    return "".join(parts)


def bar(share: float, *, goal: float | None = None, at_most: bool = False) -> str:
    """A horizontal bar of `share` in [0, 1], with a tick at the goal."""
    tick = "" if goal is None else f'<i class="goal" style="left:{_percent(goal)}"></i>'
    missed = goal is not None and (share > goal if at_most else share < goal)
    kind = "bar missed" if missed else "bar"
    return f'<span class="{kind}"><b style="width:{_percent(share)}"></b>{tick}</span>'


def stacked_bar(parts: Sequence[tuple[str, float]]) -> str:
    """One bar cut into named parts by their values (seconds), with a legend below."""
    total = sum(value for _, value in parts) or 1.0
    pieces = "".join(
        f'<span class="c{index % 8}" style="width:{100 * value / total:.2f}%" '
        f'title="{escape(name)}: {duration(value)}"></span>'
        for index, (name, value) in enumerate(parts)
    )
    legend = "".join(
        f'<li><i class="c{index % 8}"></i>{escape(name)}<b>{duration(value)}</b></li>'
        for index, (name, value) in enumerate(parts)
    )
    return f'<div class="stack">{pieces}</div><ul class="legend">{legend}</ul>'


def running_mean(points: Series, share: float = 0.04) -> list[tuple[float, float]]:
    """The mean over a centred window of `share` of the points (never past either end)."""
    reach = max(1, round(len(points) * share / 2))
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    means = []
    for index, (x, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)  # shrinks towards the ends, so that they stay true
        means.append((x, (sums[index + near + 1] - sums[index - near]) / (2 * near + 1)))
    return means


def thin(points: Series, most: int) -> list[tuple[float, float]]:
    """At most about `most` of the points, evenly, the last one kept."""
    stride = max(1, math.ceil(len(points) / most))
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values that cover [low, high], about `count` intervals. Example: (0, 3.4) -> 0, 1, 2, 3, 4."""
    if high <= low:
        high = low + 1
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"; 8 -> "8 s"; 4000 -> "1 h 6 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _path(points: "map[tuple[float, float]]") -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"


def _quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def _thousands(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
