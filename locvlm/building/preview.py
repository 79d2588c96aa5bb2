"""A page of samples of a record file, to look at before training: photographs with their boxes, and the
dialogues as a model will read them.
"""

import random
from collections.abc import Mapping
from html import escape
from pathlib import Path

from locvlm.building.manifest import read_manifest
from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import Box
from locvlm.io import atomic_writer, parse_json_line, record_from_json
from locvlm.objectives.render import render_record
from locvlm.pages.photographs import COLORS, coloured_photograph
from locvlm.pages.shell import html_page
from locvlm.records import Record, Sample

NUM_SAMPLES = 24
MAX_DIALOGUES = 12  # of a sample; further ones are counted
LOCVLM_B = CoordinateContract(canvas=224, patch=14)  # with the default codec and frame


def write_preview(path: Path, records: Path, *, image_root: Path | None, seed: int = 0) -> None:
    """Write a page of up to 24 records drawn at random from a record file."""
    lines, total = _draw_lines(records, NUM_SAMPLES, seed)
    samples = [record_from_json(parse_json_line(line, where=str(records))) for line in lines]
    counts = read_manifest(records).counts
    queries = ", ".join(f"{count:,} {name}" for name, count in counts.get("queries", {}).items())
    cards = "".join(record_card(record, image_root) for record in samples)
    page = html_page(
        title=records.name,
        headline=f"{len(samples)} of {total:,} records.",
        lead=(
            f"Drawn at random from {escape(records.name)}, which asks {queries}. Coordinates are written as "
            f"LocVLM-B would read them ({LOCVLM_B.codec}, {LOCVLM_B.frame} to {LOCVLM_B.canvas} × "
            f"{LOCVLM_B.canvas}); wording is drawn anew in every epoch."
        ),
        main=f'<section class="scenes">{cards}</section>',
    )
    with atomic_writer(path) as file:
        file.write(page)


def _draw_lines(path: Path, number: int, seed: int) -> tuple[list[bytes], int]:
    """`number` lines of a file in their order, each as likely as any other, and the number of all."""
    rng = random.Random(f"{seed}/preview")
    kept: list[tuple[int, bytes]] = []
    total = 0
    with open(path, "rb") as file:
        for total, line in enumerate(file, start=1):
            if len(kept) < number:
                kept.append((total, line))
            elif (place := rng.randrange(total)) < number:
                kept[place] = (total, line)
    return [line for _, line in sorted(kept)], total


def record_card(record: Record, image_root: Path | None, contract: CoordinateContract = LOCVLM_B) -> str:
    """A record's photograph with its boxes, and its dialogues."""
    sample = render_record(record, contract, seed=0, epoch=0)
    return sample_card(sample, image_root, _colors(record))


def sample_card(sample: Sample, image_root: Path | None, colors: Mapping[Box, tuple[str, str]]) -> str:
    """A sample's photograph with boxes (source pixels) in their (colour, name), and its dialogues."""
    talk = "".join(
        f"<dt>{escape(turn.question) or '(no question)'}</dt><dd>{escape(turn.answer)}</dd>"
        for branch in sample.branches[:MAX_DIALOGUES]
        for turn in branch
    )
    further = len(sample.branches) - MAX_DIALOGUES
    talk += f"<dt>and {further} more</dt>" if further > 0 else ""
    names = "".join(
        f'<span style="color:{color}">{escape(name)}</span>' for box, (color, name) in colors.items()
    )
    return (
        f"<article>{_picture(sample, image_root, colors)}"
        f'<p class="names">{names}</p><dl class="talk">{talk}</dl>'
        f"<code>{escape(sample.id)}</code></article>"
    )


def _picture(sample: Sample, image_root: Path | None, colors: Mapping[Box, tuple[str, str]]) -> str:
    shown = sample.image if sample.video is None else sample.video
    if shown is None or image_root is None:
        return ""
    boxes = [(color, name, box) for box, (color, name) in colors.items()]
    size = (sample.width, sample.height)
    return coloured_photograph(image_root, shown, size, boxes, is_video=sample.video is not None)


def _colors(record: Record) -> dict[Box, tuple[str, str]]:
    """Box (source pixels) -> (colour, what is in it), each box once.

    Questions about objects that tell nothing of boxes have them in `source["boxes_px"]`, by name.
    """
    names: dict[Box, str] = {}
    for query in record.queries:
        if query.box_px is not None:
            names.setdefault(query.box_px, query.phrase)
    for name, corners in record.source.get("boxes_px", {}).items():
        names.setdefault(Box(*corners), name)
    return {box: (COLORS[k % len(COLORS)], name) for k, (box, name) in enumerate(names.items())}
