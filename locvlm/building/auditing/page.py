"""An audit as a page: verdicts, plots, and samples to look at."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from locvlm.building.auditing.boxes import NUM_BINS
from locvlm.building.auditing.charts import binned, columns, heat_map
from locvlm.building.auditing.entries import Entry, is_image_key
from locvlm.building.auditing.report import Audit
from locvlm.building.auditing.verdicts import Verdict
from locvlm.building.preview import record_card, sample_card
from locvlm.coords.contract import CoordinateContract
from locvlm.io import resolve_inside
from locvlm.pages.shell import html_page
from locvlm.records import Record

_CLASSES_SHOWN = 60
_MOST_COLUMNS = 24
_KINDS = {"locpred": "what is there", "negpred": "what is absent"}


def audit_page(audit: Audit, image_root: Path | None, contract: CoordinateContract) -> str:
    """The whole page; without `image_root` its samples have no photographs."""
    tally = audit.tally
    measured = sum(verdict.holds is not None for verdict in audit.verdicts)
    broken = audit.num_broken
    headline = (
        f"{broken} of {measured} limits {'is' if broken == 1 else 'are'} broken."
        if broken
        else f"All {measured} limits that could be measured hold."
    )
    sections = [
        _questions(audit),
        _objects(audit),
        _classes(tally.objects),
        _prompts(audit),
        _leaks(audit),
        _tokens(audit),
        _samples(audit, image_root, contract),
    ]
    return html_page(
        title=audit.file.name,
        headline=headline,
        lead=(
            f"{escape(audit.file.name)}: {tally.num_entries:,} entries about "
            f"{len(tally.image_times):,} images or videos, {tally.num_questions:,} questions."
        ),
        top=f'<div class="figures">{"".join(map(_card, audit.verdicts))}</div>',
        main="".join(sections),
    )


def _card(verdict: Verdict) -> str:
    badge = {
        True: '<span class="verdict met">holds</span>',
        False: '<span class="verdict missed">broken</span>',
        None: "",
    }[verdict.holds]
    value = "–" if verdict.got is None else escape(verdict.got_text)
    return (
        f'<div class="figure"><div class="name">{escape(verdict.what[:1].upper() + verdict.what[1:])}{badge}'
        f'</div><div class="value">{value}</div><p>{escape(verdict.detail)}'
        f'<span class="aim">{escape(verdict.limit_text)}</span></p></div>'
    )


def _section(title: str, text: str, body: str) -> str:
    return f"<section><h2>{title}</h2><p>{text}</p>{body}</section>"


def _table(head: Sequence[str], rows: str, *, kind: str) -> str:
    cells = "".join(f"<th>{name}</th>" for name in head)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _plots(plots: Mapping[str, str]) -> str:
    return (
        '<div class="curves">'
        + "".join(f"<div><h3>{title}</h3>{plot}</div>" for title, plot in plots.items())
        + "</div>"
    )


def _questions(audit: Audit) -> str:
    tally = audit.tally
    queries = dict(tally.counts.queries.most_common())
    text = (
        "What a conversation asks is told by the wording of its answers."
        if "conversation" in queries
        else "As an epoch asks them, one dialogue each."
    )
    plots = {
        "By objective": columns(queries, label="questions by objective"),
        "Questions of an entry": columns(
            binned(tally.questions, most=_MOST_COLUMNS), label="entries by their number of questions"
        ),
    }
    return _section("Questions", text, _plots(plots))


def _objects(audit: Audit) -> str:
    boxes = audit.boxes
    if not boxes["num_objects"]:
        return _section("Objects", "No boxes: conversations hold coordinates as text, if any.", "")
    bins = {f"{k / NUM_BINS:.2f}": count for k, count in enumerate(boxes["side_histogram"])}
    plots = {
        "Side, as a fraction of the image's": columns(bins, label="objects by the root of their share"),
        "COCO's size classes, of boxes": columns(boxes["size_classes"], label="objects by size class"),
    }
    names = list(boxes["quantiles"]["width"])
    units = {"width": "px", "height": "px", "area": "%", "side": "%", "aspect": ""}
    rows = "".join(
        f"<tr><th>{name}{units[name] and ', ' + units[name]}</th>"
        + "".join(f"<td>{_number(found[column], units[name])}</td>" for column in names)
        + "</tr>"
        for name, found in boxes["quantiles"].items()
    )
    table = _table(["", *names], rows, kind="flat")
    field = heat_map(boxes["centres"], label="centres of objects")
    centres = f"<div style='max-width:300px'><h3>Where their centres are</h3>{field}</div>"
    return _section(
        "Objects",
        f"{boxes['num_objects']:,} objects with a box, each counted once for its record. Side is the root of "
        f"the area, both as shares of the image's.",
        f'{_plots(plots)}<div class="two" style="margin-top:36px">{table}{centres}</div>',
    )


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f}"
    return f"{value:,.0f}" if unit == "px" else f"{value:.2f}"


def _classes(objects: Mapping[str, int]) -> str:
    if not objects:
        return ""
    ordered = sorted(objects.items(), key=lambda item: (-item[1], item[0]))
    most = ordered[0][1]
    items = "".join(
        f'<li><span>{escape(name)}</span><span class="bar">'
        f'<b style="width:{100 * count / most:.1f}%"></b></span><em>{count:,}</em></li>'
        for name, count in ordered[:_CLASSES_SHOWN]
    )
    further = len(ordered) - _CLASSES_SHOWN
    text = f"{len(ordered):,} of them" + (f", the {_CLASSES_SHOWN} most frequent." if further > 0 else ".")
    return _section("Classes", text, f'<ul class="classes">{items}</ul>')


def _prompts(audit: Audit) -> str:
    lengths = audit.tally.counts.lengths
    if not any(lengths.values()):
        return ""
    guess = audit.guess
    text = "No prompt may tell what its answer is (paper app. B)."
    if guess is not None:
        absent, present = (
            ", ".join(f"<code>{escape(name)}</code>" for name in names) or "nothing"
            for names in (guess.telling_absent, guess.telling_present)
        )
        text += f" What speaks most for absence: {absent}; for presence: {present}."
    plots = {
        f"Words of {what}": columns(
            binned(lengths[kind], most=_MOST_COLUMNS), label=f"prompts by the words of {what}"
        )
        for kind, what in _KINDS.items()
    }
    return _section("Absent or present", text, _plots(plots))


def _leaks(audit: Audit) -> str:
    if audit.leaks is None or not any(map(is_image_key, audit.tally.image_times)):
        return ""
    rows = "".join(
        f"<tr><th>{escape(leak.file)}</th><td>{leak.num_images:,}</td>"
        f'<td class="{"off" if leak.shared else "ok"}">{len(leak.shared):,}</td>'
        f'<td class="fact">{escape(", ".join(leak.shared[:3]))}</td></tr>'
        for leak in audit.leaks
    )
    return _section(
        "Images of evaluations",
        "An image of COCO is the same under its names of 2014 and of 2017.",
        _table(["", "its images", "also here", ""], rows, kind="grid"),
    )


def _tokens(audit: Audit) -> str:
    if audit.lengths is None or not len(audit.lengths.packed):
        return ""
    plots = {}
    titles = {"packed": "A sample in a packed row", "longest": "Its longest dialogue alone"}
    for name, title in titles.items():
        counts, edges = np.histogram(getattr(audit.lengths, name), bins=_MOST_COLUMNS)
        named: dict[str, int] = {}
        for count, edge in zip(counts, edges, strict=False):
            named[f"{edge:,.0f}"] = named.get(f"{edge:,.0f}", 0) + int(count)
        plots[title] = columns(named, label=f"samples by tokens, {name}")
    return _section("Tokens", "Those of the image or video included.", _plots(plots))


def _samples(audit: Audit, image_root: Path | None, contract: CoordinateContract) -> str:
    cards = "".join(
        _sample(entry, image_root, contract) for _, entry in sorted(audit.tally.samples, key=_number_of)
    )
    text = "Drawn at random; coordinates and wording as an epoch reads them first."
    return _section("Samples", text, f'<div class="scenes">{cards}</div>')


def _number_of(drawn: tuple[int, Entry]) -> int:
    return drawn[0]


def _sample(entry: Entry, image_root: Path | None, contract: CoordinateContract) -> str:
    try:
        resolve_inside(image_root or ".", entry.shown or "none")
    except ValueError:  # an image that is elsewhere is not shown
        image_root = None
    if isinstance(entry.item, Record):
        return record_card(entry.item, image_root, contract)
    return sample_card(entry.item, image_root, {})
