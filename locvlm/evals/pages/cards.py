"""Single answers as HTML: the photograph with boxes, what was asked, said and true. All text is escaped."""

import random
from collections.abc import Sequence
from html import escape
from pathlib import Path

from locvlm.evals.judged import Judged
from locvlm.evals.reports.answers import Answers
from locvlm.geometry import Box
from locvlm.pages.photographs import framed_photograph

Boxes = Sequence[tuple[str, Box]]


def draw(rows: Sequence[Judged], number: int, *, seed: str) -> list[Judged]:
    """At most `number` of the rows, drawn at random; in the order of the questions."""
    chosen = random.Random(seed).sample(range(len(rows)), min(number, len(rows)))
    return [rows[place] for place in sorted(chosen)]


def photograph(answers: Answers, row: Judged, boxes: Boxes) -> str:
    """The image that a question is about, of a video its middle; nothing for a question without one."""
    prediction = row.prediction
    if not prediction.image:
        return ""
    size = (prediction.gold["width"], prediction.gold["height"])
    return framed_photograph(
        Path(answers.meta.image_root),
        prediction.image,
        size,
        boxes if min(size) > 0 else (),
        is_video=answers.task.data.shows != "image",
    )


def true_box(row: Judged) -> list[tuple[str, Box]]:
    """The box that is asked for, or that the question is about."""
    gold = row.prediction.gold
    if gold.get("box_px") is None:
        return []
    return [("asked" if gold["objective"] == "revloc" else "true", row.gold_box)]


def said_box(row: Judged, kind: str = "said") -> list[tuple[str, Box]]:
    """The box in the answer."""
    return [(kind, row.reading)] if isinstance(row.reading, Box) else []


def talk(row: Judged, answers: Sequence[tuple[str, Judged]]) -> str:
    """The question, each answer after its name (if it has one), and the truth."""
    said = "".join(
        f"<dd>{f'<span>{escape(name)}</span> ' if name else ''}{escape(answer_text(answered))}</dd>"
        for name, answered in answers
    )
    truth = truth_text(row)
    gold = f'<dd class="gold">{escape(truth)}</dd>' if truth else ""
    return f'<dl class="talk"><dt>{escape(row.prediction.question)}</dt>{said}{gold}</dl>'


def answer_text(row: Judged) -> str:
    """What was answered, or why nothing was."""
    return row.prediction.answer or row.prediction.failed or "(an empty answer)"


def truth_text(row: Judged) -> str:
    """What should have been answered, in words; "" where a box shows it."""
    gold, source = row.prediction.gold, row.source
    if gold["objective"] == "negpred":
        return f"truth: there is no {gold['phrase']}"
    if gold["objective"] == "locpred":
        return ""
    told = source.get("answers") or source.get("references") or [gold["answer"] or gold["phrase"]]
    texts = dict.fromkeys(str(text) for text in told)
    return f"truth: {' / '.join(texts)}"
