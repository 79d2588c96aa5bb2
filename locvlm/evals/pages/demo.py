"""The demo's report as one HTML page: styles, SVG and images are inline, it asks nothing of the network."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

from locvlm.coords.contract import CoordinateContract
from locvlm.evals.metrics import OVERLAP_LIMITS, SIZE_LIMITS, Judged, box_iou
from locvlm.evals.pages import gallery
from locvlm.evals.pages.charts import bar, histogram, line_chart, stacked_bar
from locvlm.evals.pages.demo_video import video_sections
from locvlm.evals.parse import SIDES
from locvlm.evals.reports.demo import Report, columns
from locvlm.evals.reports.demo_figures import BASELINE_GOAL, FIGURES, Figure, figure_value, is_met
from locvlm.evals.reports.demo_video import VideoReport
from locvlm.evals.reports.statistics import bootstrap_interval
from locvlm.pages.shell import html_page

_SMALL, _MEDIUM = SIZE_LIMITS[0][1], SIZE_LIMITS[1][1]
_GROUPS = {  # breakdown -> group -> how the table names it
    "size": {
        "small": f"small <span>side below {_SMALL:.0%} of the image’s</span>",
        "medium": f"medium <span>{_SMALL:.0%} to {_MEDIUM:.0%}</span>",
        "large": f"large <span>{_MEDIUM:.0%} and above</span>",
    },
    "overlap": {
        OVERLAP_LIMITS[0][0]: "free <span>no other object’s box over it</span>",
        OVERLAP_LIMITS[1][0]: "overlapped <span>by another object’s box</span>",
    },
}
# Tables 4 and 13, LocVLM-B on COCO train images: all, left, right; then all, above, below.
PAPER_SPATIAL = {
    "the paper’s LocVLM-B on COCO": ((69.5, 79.7, 59.2), (65.4, 64.2, 65.9)),
    "the same, two examples": ((76.5, 90.4, 61.5), (74.1, 73.5, 74.4)),
}


def render_page(report: Report, video: VideoReport | None = None) -> str:
    """The whole page; with sections about clips, if a model was asked about them."""
    sections = (
        gallery.scenes(report),
        gallery.descriptions(report),
        _curves(report),
        _comparison(report),
        _breakdowns(report),
        _spatial(report),
        gallery.failures(report),
        *(video_sections(video, report.seconds) if video is not None else ()),
        _contract(report),
        _timing(report),
    )
    return html_page(
        title=report.title,
        headline=_headline(report),
        lead=_lead(report),
        top=_headline_figures(report),
        main="\n".join(section for section in sections if section),
        about=_about(report),
    )


def _headline(report: Report) -> str:
    values = {f: figure_value(report.main.scores, f) for f in FIGURES if f.goal is not None}
    verdicts = [is_met(figure, value) for figure, value in values.items() if value is not None]
    located = values[FIGURES[0]]
    if located is None:
        return "A model that is asked where things are."
    met = "every goal is met" if all(verdicts) else f"{sum(verdicts)} of {len(verdicts)} goals are met"
    return f"Asked where things are, it finds {100 * located:.0f} of 100; {met}."


def _lead(report: Report) -> str:
    asked = sum(len(rows) for name, rows in report.main.judged.items() if name != "present")
    num_scenes = count_scenes(report.main.judged)
    took = f" in {_minutes(report.seconds)}" if report.seconds else ""
    return (
        f"A vision-language model trained{took}, then asked {asked:,} questions about {num_scenes:,} scenes "
        f"held out from all training. Decoding is {escape(report.main.meta.decoding)}; boxes are compared in "
        f"pixels of the source image; an answer that cannot be read counts as wrong."
    )


def _headline_figures(report: Report) -> str:
    cards, judged = [], report.main.judged
    for figure in FIGURES:
        value = figure_value(report.main.scores, figure)
        if value is None or figure.goal is None:
            continue
        word = "met" if is_met(figure, value) else "missed"
        scale = 20.0 if figure.at_most else 1.0  # a ceiling of 1% would be invisible on a full bar
        goal = f"goal: at {'most' if figure.at_most else 'least'} {100 * figure.goal:g}%"
        interval = bootstrap_interval(figure.metric, rows) if (rows := judged.get(figure.task)) else None
        if interval is not None:
            goal += f" · 95% interval {100 * interval.low:.1f} to {100 * interval.high:.1f}"
        cards.append(
            f'<div class="figure"><div class="name">{figure.title}'
            f'<span class="verdict {word}">{word}</span></div>'
            f'<div class="value">{100 * value:.1f}<small>%</small></div>'
            f"{bar(value * scale, goal=figure.goal * scale, at_most=figure.at_most)}"
            f'<p>{figure.note}<span class="aim">{goal}</span></p></div>'
        )
    return f'<div class="figures">{"".join(cards)}</div>' if cards else ""


def _curves(report: Report) -> str:
    if not report.curves:
        return ""
    charts = "".join(
        f"<div><h3>{escape(curve.label)} <span>{escape(curve.name)}</span></h3>"
        f"{line_chart(curve.points, label=f'{curve.label} {curve.name}')}</div>"
        for curve in report.curves
    )
    return (
        "<section><h2>How it learned</h2><p>Loss per supervised token over optimizer steps: the running "
        f'mean, and faintly what was logged.</p><div class="curves">{charts}</div></section>'
    )


def _comparison(report: Report) -> str:
    heads = columns(report)
    head = "".join(f"<th>{escape(heading)}</th>" for heading, _, _ in heads)
    body = []
    for figure in FIGURES:
        if figure.goal is None:  # left and right have a section of their own
            continue
        values = [figure_value(evaluation.scores, figure, images) for _, evaluation, images in heads]
        if all(value is None for value in values):
            continue
        cells = "".join(
            _cell(figure, value, images, is_main=evaluation is report.main and images == "real")
            for value, (_, evaluation, images) in zip(values, heads, strict=True)
        )
        goal = f"{'≤' if figure.at_most else '≥'} {100 * figure.goal:g}"
        body.append(
            f"<tr><th>{figure.title}<span>{figure.note}</span></th>{cells}<td class=base>{goal}</td></tr>"
        )
    return (
        "<section><h2>Against what knows nothing</h2><p>Percent. Shown a blank image, or the image of "
        "another scene, the same checkpoint can answer from the words alone; the centre box, as large as "
        "the median object, needs no model. Boxes found on blank and shuffled images should stay at or "
        f"below {100 * BASELINE_GOAL:g}.</p>"
        f'<div class="scroll"><table><thead><tr><th></th>{head}<th>goal</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{_counts(report)}</section>"
    )


def _cell(figure: Figure, value: float | None, images: str, *, is_main: bool) -> str:
    if value is None:
        return '<td class="none">·</td>'
    if is_main:
        kind = "best" if is_met(figure, value) else "best off"
    else:
        too_good = (
            images in ("blank", "shuffled") and figure.flat == "locpred_acc50" and value > BASELINE_GOAL
        )
        kind = "off" if too_good else "base"
    return f'<td class="{kind}">{100 * value:.1f}</td>'


def _counts(report: Report) -> str:
    names = ("asked", "answered", "failed", "unreadable")
    files = {task: escape(Path(meta.records).name) for task, meta in report.main.metas.items()}
    rows = "".join(
        f"<tr><th>{escape(task)}<span>version {result['version']}, {files.get(task.split('.')[0], '')}"
        f"</span></th>{''.join(f'<td>{result[name]:,}</td>' for name in names)}</tr>"
        for task, result in report.main.scores["tasks"].items()
    )
    head = "".join(f"<th>{name}</th>" for name in names)
    return (
        "<details><summary>how many were asked, answered, failed, unreadable</summary>"
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        "</details>"
    )


def _breakdowns(report: Report) -> str:
    located = report.main.judged.get("locpred", [])
    if not located:
        return ""
    tasks = report.main.scores["tasks"]
    rows: list[str] = []
    for breakdown, groups in _GROUPS.items():
        found = tasks["locpred"]["breakdowns"].get(breakdown, {})
        named = tasks.get("revloc", {}).get("breakdowns", {}).get(breakdown, {})
        for index, (group, title) in enumerate(groups.items()):
            if group not in found:
                continue
            f = found[group]
            name = f"{100 * named[group]['exact_name']:.1f}" if group in named else "·"
            rule = ' class="rule"' if rows and index == 0 else ""
            rows.append(
                f"<tr{rule}><th>{title}</th><td>{f['asked']:,}</td><td>{100 * f['acc50']:.1f}</td>"
                f"<td>{100 * f['miou']:.1f}</td><td>{100 * f['absent_fraction']:.1f}</td><td>{name}</td></tr>"
            )
    table = (
        "<table><thead><tr><th></th><th>asked</th><th>finds it</th><th>mean IoU</th><th>denies it</th>"
        f"<th>names it</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    chart = histogram([box_iou(row) for row in located], threshold=0.5)
    return (
        "<section><h2>Which objects are hard</h2><p>Percent of the questions about objects of each kind.</p>"
        f'<div class="two"><div class="scroll">{table}</div><div><h3>Overlap with the true box '
        f"<span>IoU, all questions about present objects</span></h3>{chart}</div></div>"
        f"{_classes(tasks)}</section>"
    )


def _classes(tasks: dict[str, Any]) -> str:
    groups = tasks["locpred"]["breakdowns"].get("category", {})
    if len(groups) < 2:
        return ""
    ordered = sorted(groups.items(), key=lambda item: (-item[1]["acc50"], item[0]))
    items = "".join(
        f"<li><span>{escape(name)}</span>{bar(result['acc50'])}<em>{100 * result['acc50']:.0f}</em></li>"
        for name, result in ordered
    )
    return (
        '<div class="kind"><h3>Finds it, by class</h3><span>percent</span></div>'
        f'<ul class="classes">{items}</ul>'
    )


def _spatial(report: Report) -> str:
    tasks = report.main.scores["tasks"]
    rows = []
    for form, title in (("direct", "asked directly"), ("icl", "after two worked examples")):
        results = [tasks.get(f"coco_spatial_{form}_{axis}") for axis in ("horizontal", "vertical")]
        if all(result is not None for result in results):
            shares = [_side_shares(result, sides) for result, sides in zip(results, SIDES, strict=True)]
            rows.append(_row(title, chain.from_iterable(shares)))
    if not rows:
        return ""
    for title, axes in PAPER_SPATIAL.items():
        padded = [[*(value / 100 for value in axis), None, None] for axis in axes]
        rows.append(_row(title, chain.from_iterable(padded), kind="base"))
    head = "".join(
        f"<th>{name}</th>" for first, second in SIDES for name in ("all", first, second, "inverted", "both")
    )
    return (
        "<section><h2>Left or right, above or below</h2><p>COCO-Spatial, a transfer: no question of stage 2 "
        "asks how two objects lie to each other, though captions may say it; guessing gives 50. Percent of "
        "answers with the word for the side of the object asked for. Inverted: the side of the other "
        "object, as the paper’s own examples answer. Both: answers that hold both words, wrong either "
        "way.</p>"
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _side_shares(result: dict[str, Any], sides: tuple[str, str]) -> list[float | None]:
    scores, by_side = result["scores"], result["breakdowns"].get("side", {})
    per_side = [by_side.get(side, {}).get("side_accuracy") for side in sides]
    return [
        scores["side_accuracy"],
        *per_side,
        scores["side_accuracy_exemplar_gold"],
        scores["both_sides_fraction"],
    ]


def _row(title: str, shares: Iterable[float | None], kind: str = "") -> str:
    cells = "".join(
        f'<td class="{kind}">{"·" if share is None else f"{100 * share:.1f}"}</td>' for share in shares
    )
    return f'<tr><th class="{kind}">{title}</th>{cells}</tr>'


def _contract(report: Report) -> str:
    contract = CoordinateContract.from_dict(report.main.meta.contract)
    facts = {
        "codec": contract.codec,
        "location": contract.representation,
        "frame": f"{contract.frame}, to a canvas of {contract.canvas} × {contract.canvas} pixels "
        f"in patches of {contract.patch}",
        "largest error of the codec": f"{100 * contract.build_codec().max_error:.2f}% of the canvas side",
    }
    row = next((row for row in report.main.judged.get("locpred", []) if not row.prediction.failed), None)
    if row is not None:
        width, height = row.prediction.gold["width"], row.prediction.gold["height"]
        corners = ", ".join(f"{value:.1f}" for value in row.gold_box)
        text = contract.write(row.gold_box, contract.frame_for((width, height)))
        facts["for example"] = f"box ({corners}) in an image of {width} × {height} pixels is written {text}"
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return (
        "<section><h2>The coordinate contract</h2><p>How boxes become text, and in which frame. Stored in "
        f'the checkpoint, read back by evaluation, demo and export.</p><dl class="facts">{items}</dl>'
        "</section>"
    )


def _timing(report: Report) -> str:
    if not report.seconds:
        return ""
    parts = [(name.replace("_", " "), value) for name, value in report.seconds.items() if name != "total"]
    parts = [(name, value) for name, value in parts if value >= 0.5]  # the report's own phase has just begun
    return (
        f"<section><h2>How long it took</h2><p>{_minutes(report.seconds).capitalize()} on this machine, "
        f"by the clock on the wall.</p>{stacked_bar(parts)}</section>"
    )


def _minutes(seconds: dict[str, float]) -> str:
    total = seconds.get("total", sum(seconds.values()))
    return f"{total / 60:.0f} minutes" if total >= 90 else f"{total:.0f} seconds"


def _about(report: Report) -> str:
    facts = {"checkpoint": Path(report.main.meta.checkpoint).name, **report.about}
    return " &nbsp;·&nbsp; ".join(f"{escape(name)} {escape(value)}" for name, value in facts.items())


def count_scenes(judged: Mapping[str, Sequence[Judged]]) -> int:
    """Different images asked about: each task's file has record ids of its own for the same scenes."""
    predictions = [row.prediction for rows in judged.values() for row in rows]
    return len({prediction.image or prediction.record_id for prediction in predictions})
