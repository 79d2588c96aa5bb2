"""The part of the demo's report that is about clips: figures with their goals, and strips of frames."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from locvlm.evals.judged import Judged
from locvlm.evals.measures.vqa import exact_match
from locvlm.evals.pages.charts import bar
from locvlm.evals.pages.gallery import dialogue, key, verdict
from locvlm.evals.reports.demo_exports import exports_line
from locvlm.evals.reports.demo_figures import Figure, is_met
from locvlm.evals.reports.demo_video import (
    FIGURES,
    MINUTES_GOAL,
    VideoReport,
    baselines_of,
    choose_clips,
    commonest_shares,
    count_met,
    minutes_of,
    value_of,
)
from locvlm.evals.reports.statistics import bootstrap_interval
from locvlm.geometry import Box
from locvlm.pages.strips import film_strip

_NUM_FRAMES = 8  # of a strip: those that a segmenter was asked about, and a model was shown


def video_sections(report: VideoReport, seconds: Mapping[str, float]) -> list[str]:
    """Figures, then clips."""
    return [_figures(report, seconds), _clips(report)]


def _figures(report: VideoReport, seconds: Mapping[str, float]) -> str:
    met, goals = count_met(report)
    frame = f"<th>{escape(report.frame.label)}, middle frame</th>" if report.frame is not None else ""
    rows = "".join(_row(report, figure) for figure in FIGURES)
    num_clips = len({r.prediction.image for rows in report.whole.judged.values() for r in rows})
    return (
        f"<section><h2>Clips: {met} of {goals} goals</h2><p>The same model after a third stage, shown "
        f"{num_clips:,} clips held out from all training: some objects rest, one may move or leave, one may "
        "appear. Asked where things are, it is asked about what rests. Beside it the same questions, put to "
        "the model before that stage about the middle frame of each clip. Percent.</p>"
        f'<div class="scroll"><table><thead><tr><th></th><th>{escape(report.whole.label)}, whole clips</th>'
        f"<th>95% interval</th>{frame}<th>goal</th></tr></thead><tbody>{rows}{_minutes(report, seconds)}"
        f"</tbody></table></div>{_blind(report)}{_by_question(report)}</section>"
    )


def _row(report: VideoReport, figure: Figure) -> str:
    value = value_of(report, figure)
    if value is None:
        return ""
    kind = "best off" if figure.goal is not None and not is_met(figure, value) else "best"
    interval = bootstrap_interval(figure.metric, report.whole.judged[figure.task])
    between = "·" if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    goal = "·" if figure.goal is None else f"≥ {100 * figure.goal:g}"
    return (
        f"<tr><th>{figure.title}<span>{figure.note}</span></th>"
        f'<td class="{kind}">{100 * value:.1f}</td><td class="base">{between}</td>'
        f'{_frame_cell(report, figure)}<td class="base">{goal}</td></tr>'
    )


def _frame_cell(report: VideoReport, figure: Figure) -> str:
    if report.frame is None:
        return ""
    value = value_of(report, figure, is_frame=True)
    return '<td class="none">·</td>' if value is None else f'<td class="base">{100 * value:.1f}</td>'


def _minutes(report: VideoReport, seconds: Mapping[str, float]) -> str:
    minutes = minutes_of(seconds)
    if minutes is None:
        return ""
    kind = "best" if minutes <= MINUTES_GOAL else "best off"
    beside = "<td></td>" if report.frame is not None else ""
    return (
        "<tr><th>Minutes from stage 2<span>clips, what is asked about them, stage 3, evaluation</span></th>"
        f'<td class="{kind}">{minutes:.1f}</td><td></td>{beside}<td class="base">≤ {MINUTES_GOAL:g}</td></tr>'
    )


def _blind(report: VideoReport) -> str:
    """What can be said without seeing the clip; and whether exports answer as the checkpoint."""
    said = []
    for figure in FIGURES:
        blind = ", ".join(f"{100 * v:.1f} ({shown})" for shown, v in baselines_of(report, figure).items())
        if blind:
            said.append(f"{figure.title}: {100 * (value_of(report, figure) or 0):.1f}, without it {blind}.")
    text = f"Shown blank clips, or those of other questions. {' '.join(said)} " if said else ""
    if report.exports:
        text += f"The {exports_line(report.exports)}."
    return f"<p>{escape(text)}</p>" if text else ""


def _by_question(report: VideoReport) -> str:
    """Short answers by what is asked."""
    groups = _question_types(report.whole.scores, "video_qa")
    beside = {} if report.frame is None else _question_types(report.frame.scores, "video_qa_frame")
    if not groups:
        return ""
    guessed = commonest_shares(report)
    rows = []
    for name, found in groups.items():
        cell = f'<td class="base">{100 * beside[name]["exact_match"]:.1f}</td>' if name in beside else ""
        rows.append(
            f"<tr><th>{escape(name)}</th><td>{found['asked']:,}</td><td>{100 * found['exact_match']:.1f}</td>"
            f'{cell}<td class="base">{100 * guessed[name]:.1f}</td>'
            f'<td class="draw">{bar(found["exact_match"])}</td></tr>'
        )
    head = f"<th>{escape(report.frame.label)}, frame</th>" if beside and report.frame is not None else ""
    return (
        '<div class="kind"><h3>Says what happens, by question</h3><span>percent; the commonest answer of '
        "each kind needs no model</span></div>"
        '<div class="scroll"><table class="grid"><thead><tr><th></th><th>asked</th>'
        f"<th>{escape(report.whole.label)}</th>{head}<th>commonest answer</th><th></th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _question_types(scores: Mapping[str, Any], task: str) -> Mapping[str, Mapping[str, float]]:
    found: Mapping[str, Mapping[str, float]] = (
        scores["tasks"].get(task, {}).get("breakdowns", {}).get("question_type", {})
    )
    return found


def _clips(report: VideoReport) -> str:
    by_clip: dict[str, list[tuple[str, Judged]]] = {}
    for task, rows in report.whole.judged.items():
        for row in rows if task != "video_present" else ():
            by_clip.setdefault(row.prediction.image or "", []).append((task, row))
    cards = [_clip(report, video, by_clip[video]) for video in choose_clips(report)]
    if not cards:
        return ""
    return (
        f"<section><h2>{len(cards)} clips it has never seen</h2><p>Drawn at random from the held-out set, "
        "not picked by result. Boxes are of what rests, one for the whole clip.</p>"
        f'{key("true", "said")}<div class="clips">{"".join(cards)}</div></section>'
    )


def _clip(report: VideoReport, video: str, rows: Sequence[tuple[str, Judged]]) -> str:
    located = [row for task, row in rows if task == "video_locpred"]
    boxes = [("true", row.gold_box) for row in located]
    boxes += [("said", row.reading) for row in located if isinstance(row.reading, Box)]
    said = ""
    for task, title in (("locpred", "where"), ("absent", "absent"), ("revloc", "what")):
        verdicts = "".join(verdict(task, row) for name, row in rows if name == f"video_{task}")
        said += f"<dt>{title}</dt><dd>{verdicts}</dd>" if verdicts else ""
    asks = "".join(_short(row) for task, row in rows if task == "video_qa")
    talk = "".join(dialogue(row) for _, row in rows)
    return (
        f"<article>{film_strip(report.video_root, video, _NUM_FRAMES, boxes)}"
        f'<div class="told"><dl class="said-of">{said}</dl><ul class="asks">{asks}</ul></div>'
        f'<details><summary>as asked, as answered</summary><dl class="talk">{talk}</dl></details></article>'
    )


def _short(row: Judged) -> str:
    """A question with a short answer, and the right one where that was another."""
    is_ok = exact_match([row]) == 1.0
    said = escape(row.prediction.answer or row.prediction.failed or "(no answer)")
    true = "" if is_ok else f'<em class="truth">{escape(str(row.prediction.gold["answer"]))}</em>'
    return (
        f'<li class="{"ok" if is_ok else "off"}"><span>{escape(row.prediction.question)} <b>{said}</b></span>'
        f"{true}</li>"
    )
