"""Segments of many images, kept in a journal."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from locvlm.building.journal import Journal
from locvlm.building.segmenting.coco_file import Found
from locvlm.building.segmenting.segment import Picture, Segmented, Segmenter
from locvlm.data.image import load_image
from locvlm.io import Ledger, resolve_inside
from locvlm.progress import progress

Placed = tuple[int, str]  # an image's place among all images, and its path relative to the image root


def segment_images(part: Sequence[Placed], root: Path | None, segmenter: Segmenter, journal: Journal) -> None:
    """Segment what is not in the journal yet, and add it.

    Args:
        root: folder or zip of the images; None for a segmenter that does not load them.
    """
    todo = [name for _, name in part if name not in journal]
    pictures = (Picture(name, partial(load_image, resolve_inside(root or ".", name))) for name in todo)
    answers = progress(
        segmenter.segment(pictures), what="images", total=len(part), done=len(part) - len(todo), unit="image"
    )
    for name, answer in zip(todo, answers, strict=True):
        journal.add(name, answer.to_json())


def found_images(part: Sequence[Placed], journal: Journal, ledger: Ledger | None = None) -> Iterator[Found]:
    """The images that there is an answer for, in their order; the ledger counts those and the others."""
    for place, name in part:
        answer = Segmented.from_json(journal[name])
        if not answer.failed:
            yield Found(place, name, answer)
        if ledger is not None and answer.failed:
            ledger.drop(name, answer.failed, answer.detail)
        elif ledger is not None:
            ledger.keep()
