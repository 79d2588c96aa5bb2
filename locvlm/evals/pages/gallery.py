"""The photographs of the demo's report: scenes with boxes, descriptions, failures, as HTML.

Every text that comes from data or from a model is escaped.
"""

import hashlib
from collections.abc import Sequence
from html import escape

from locvlm.evals.metrics import Judged, box_iou
from locvlm.evals.parse import Absent, Named, Unanswered
from locvlm.evals.reports.demo import Report
from locvlm.evals.reports.demo_examples import choose_failures, choose_scenes, is_right
from locvlm.geometry import Box, Point
from locvlm.pages.photographs import framed_photograph

NUM_DESCRIPTIONS = 12
_BOX_NAMES = {"true": "true box", "said": "box in its answer", "asked": "box in the question"}


def scenes(report: Report) -> str:
    """Randomly drawn scenes with all that was asked about them."""
    by_scene: dict[str, list[tuple[str, Judged]]] = {}
    for task in ("locpred", "absent", "revloc"):
        for row in report.main.judged.get(task, []):
            by_scene.setdefault(row.prediction.record_id, []).append((task, row))
    cards = [_scene(report, by_scene[record_id]) for record_id in choose_scenes(report)]
    if not cards:
        return ""
    return (
        f"<section><h2>{len(cards)} scenes it has never seen</h2>"
        "<p>Drawn at random from the held-out set, not picked by result. Where: objects it was asked to "
        "find, with "
        "the overlap of its box and the true one. Absent: objects that are not there, and it should say so. "
        "What: "
        "the class it named when asked what is in a true box.</p>"
        f'{key("true", "said")}<div class="scenes">{"".join(cards)}</div></section>'
    )


def _scene(report: Report, rows: Sequence[tuple[str, Judged]]) -> str:
    located = [row for task, row in rows if task == "locpred"]
    boxes = [("true", row.gold_box) for row in located]
    boxes += [("said", row.reading) for row in located if isinstance(row.reading, Box)]
    said = ""
    for task, title in (("locpred", "where"), ("absent", "absent"), ("revloc", "what")):
        verdicts = "".join(verdict(task, row) for name, row in rows if name == task)
        said += f"<dt>{title}</dt><dd>{verdicts}</dd>" if verdicts else ""
    talk = "".join(dialogue(row) for _, row in rows)
    return (
        f'<article>{shot(report, rows[0][1], boxes)}<dl class="said-of">{said}</dl>'
        f'<details><summary>as asked, as answered</summary><dl class="talk">{talk}</dl></details></article>'
    )


def verdict(task: str, row: Judged) -> str:
    """The thing asked about, and what is worth saying about the answer: the overlap, or what was said
    instead.
    """
    is_ok = is_right(task, row)
    if task == "locpred" and isinstance(row.reading, Box):
        note = f"{box_iou(row):.2f}"
    else:
        note = "" if is_ok else _said(row)
    phrase = escape(row.prediction.gold["phrase"])
    return f'<span class="{"ok" if is_ok else "off"}">{phrase}<em>{note}</em></span>'


def _said(row: Judged) -> str:
    """What an answer says, in a word or two."""
    reading = row.reading
    if isinstance(reading, Named):
        return f"“{escape(reading.name)}”"
    if isinstance(reading, Unanswered):
        return "not asked"
    if isinstance(reading, Absent):
        return "“absent”"
    return "a place" if isinstance(reading, Box | Point) else "unreadable"


def dialogue(row: Judged, gold: str = "") -> str:
    """What was asked, what was answered, and what would have been right, if it is given."""
    answer = escape(row.prediction.answer or row.prediction.failed or "(no answer)")
    right = f'<dd class="gold">{escape(gold)}</dd>' if gold else ""
    return f"<dt>{escape(row.prediction.question)}</dt><dd>{answer}</dd>{right}"


def descriptions(report: Report) -> str:
    """Randomly drawn questions about a place, with the place and the answer."""
    rows = {r.prediction.record_id: r for r in report.main.judged.get("revloc", []) if r.prediction.image}
    cards = []
    for record_id in sorted(rows, key=lambda i: _shuffle_key(f"{report.seed}/{i}"))[:NUM_DESCRIPTIONS]:
        row = rows[record_id]
        is_ok = is_right("revloc", row)
        answer = escape(row.prediction.answer or row.prediction.failed)
        true = "" if is_ok else f'<em class="truth">{escape(row.prediction.gold["phrase"])}</em>'
        cards.append(
            f"<article>{shot(report, row, [('asked', row.gold_box)])}"
            f'<ul class="asks"><li class="{"ok" if is_ok else "off"}"><span>{answer}</span>{true}</li></ul>'
            "</article>"
        )
    if not cards:
        return ""
    return (
        "<section><h2>What is here?</h2><p>The other way round: the question names a box, the answer names "
        "what "
        f"is in it. Drawn at random as well.</p>{key('asked')}"
        f'<div class="six">{"".join(cards)}</div></section>'
    )


def failures(report: Report) -> str:
    """The worst answers of each kind, with the question as asked."""
    blocks = []
    for kind in choose_failures(report):
        cards = []
        for task, row in kind.shown:
            boxes = [] if task == "absent" else [("asked" if task == "revloc" else "true", row.gold_box)]
            boxes += [("said", row.reading)] if isinstance(row.reading, Box) else []
            talk = dialogue(row, _gold_text(task, row))
            cards.append(f'<article>{shot(report, row, boxes)}<dl class="talk">{talk}</dl></article>')
        blocks.append(
            f'<div class="kind"><h3>{kind.title}</h3><span class="num">{kind.total:,} of '
            f"{kind.asked:,}</span>"
            f'</div><div class="six">{"".join(cards)}</div>'
        )
    if not blocks:
        return ""
    return (
        "<section><h2>Where it fails</h2><p>The worst answers of each kind: lowest overlap first.</p>"
        f"{key('true', 'said', 'asked')}{''.join(blocks)}</section>"
    )


def _gold_text(task: str, row: Judged) -> str:
    gold = row.prediction.gold
    if task == "absent":
        return f"truth: there is no {gold['phrase']}"
    if task == "revloc":
        return f"truth: {gold['phrase']}"
    return f"IoU {box_iou(row):.2f}" if isinstance(row.reading, Box) else "truth: it is in the green box"


def key(*kinds: str) -> str:
    """What the colours of boxes mean."""
    items = "".join(f'<span><i class="{kind}"></i>{_BOX_NAMES[kind]}</span>' for kind in kinds)
    return f'<div class="key">{items}</div>'


def shot(report: Report, row: Judged, boxes: Sequence[tuple[str, Box]]) -> str:
    """The photograph of a question with boxes (source pixels) drawn over it."""
    gold = row.prediction.gold
    return framed_photograph(
        report.image_root, row.prediction.image or "", (gold["width"], gold["height"]), boxes
    )


def _shuffle_key(text: str) -> bytes:
    """Sorts in an order that has nothing to do with the text, the same on every machine."""
    return hashlib.sha256(text.encode()).digest()
