"""Kept results as one picture: ratios with goals as bars, beside them the curves of growth."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.report.kept import Kept
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline, amount

REACHED, MISSED, BESIDE, GOAL = "#3b6ea5", "#c8553d", "#9aa5b1", "#222222"
COLOURS = {True: REACHED, False: MISSED, None: BESIDE}
LINES = ("#3b6ea5", "#e09f3e", "#5a8f5a", "#8d5a97", "#777777")
_STYLE: Any = {
    "svg.fonttype": "none",  # letters stay letters: smaller, and can be searched
    "svg.hashsalt": "locvlm",  # the same file for the same results
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
}


def draw(kept: Sequence[Kept], path: Path) -> None:
    """Write the picture as SVG.

    Raises:
        ValueError: if there is nothing to draw.
    """
    bars = [h for one in kept for h in one.judged if h.unit == TIMES_AS_FAST]
    curves = [one.curve for one in kept if one.curve is not None]
    if not bars and not curves:
        raise ValueError("no result has a ratio with a goal, or a curve: there is nothing to draw")
    with mpl.rc_context(_STYLE):
        tall = max(4.2, 0.5 * len(bars) + 1.0)
        figure = plt.figure(figsize=(12.5, tall), layout="constrained")
        sides = figure.add_gridspec(1, 2, width_ratios=(1.05, 1.25))
        if bars:
            draw_bars(figure.add_subplot(sides[0]), bars)
        grid = sides[1].subgridspec(2, 2)
        for place, curve in enumerate(curves[:4]):
            draw_curve(figure.add_subplot(grid[divmod(place, 2)]), curve)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
        plt.close(figure)


def draw_bars(axes: Any, bars: Sequence[Headline]) -> None:
    """From 1, "as fast as", on a logarithmic axis, so that twice and half are equally far; goals as marks."""
    for place, one in enumerate(bars):
        axes.barh(place, one.figure - 1, left=1, height=0.55, color=COLOURS[one.is_reached])
        if one.goal is not None:
            axes.plot([one.goal] * 2, [place - 0.4, place + 0.4], color=GOAL, linewidth=1.6)
        axes.annotate(
            amount(one.figure, one.unit),
            (max(one.figure, one.goal or 0), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(bars)), [_label(one) for one in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log", base=2)
    most = max(max(one.figure, one.goal or 0) for one in bars)
    axes.set_xlim(min([0.9, *(0.9 * one.figure for one in bars)]), 1.35 * most)
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32) if tick < 1.3 * most]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_title("times as fast; mark: the goal, grey: none was set", loc="left")


def draw_curve(axes: Any, curve: Curve) -> None:
    """Both axes logarithmic: a straight line that rises by the diagonal grows in proportion."""
    for (name, line), colour in zip(curve.lines.items(), LINES, strict=False):
        axes.plot(*zip(*line, strict=True), marker="o", markersize=3.5, color=colour, label=name)
    xs = sorted({x for line in curve.lines.values() for x, _ in line})
    ys = [y for line in curve.lines.values() for _, y in line]
    axes.set_xscale("log", base=2 if xs[-1] < 10_000 else 10)
    axes.set_xticks(xs, [f"{x:,.0f}" for x in xs])
    axes.minorticks_off()
    if max(ys) > 20 * min(ys):
        axes.set_yscale("log")
        axes.set_ylim(top=40 * max(ys))  # above the lines there is room for their names
    else:
        axes.set_ylim(0, 1.15 * max(ys))
    axes.set_title("\n".join(textwrap.wrap(curve.title, 24)), loc="left")
    axes.set_xlabel(curve.x)
    axes.set_ylabel(curve.y)
    axes.legend(frameon=False, fontsize=7.5, loc="best" if max(ys) <= 20 * min(ys) else "upper left")


def _label(one: Headline) -> str:
    against = f", against {one.than}" if one.than else ""
    return "\n".join(textwrap.wrap(f"{one.what}{against}", 62))
