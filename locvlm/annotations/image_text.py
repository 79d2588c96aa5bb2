"""Image-caption pairs for stage 1: COCO captions, or LLaVA JSON as CC3M-595K and LCS-558K come."""

from collections.abc import Iterator
from pathlib import Path

from locvlm.annotations.coco import read_captions
from locvlm.annotations.instruct import read_llava_entries, sample_from_llava
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation


def read_image_text(path: str | Path, ledger: Ledger) -> Iterator[ImageAnnotation]:
    """Every image of the file with its captions; which form the file has is told by its first character.

    Of a LLaVA conversation the last answer is the caption, and the question ("Describe the image
    briefly.") is left out, as in LLaVA's stage 1. The ledger counts captions. Image sizes are 0 where the
    file does not say.

    Raises:
        ValueError: see `read_captions` and `sample_from_llava`; and for a text-only entry.
    """
    if Path(path).suffix != ".jsonl" and _first_character(path) == "{":
        yield from read_captions(path, ledger)
        return
    for where, entry in read_llava_entries(path):
        sample = sample_from_llava(entry, where=where)
        if sample.image is None:
            raise ValueError(f'{where}: expected an image with its caption, the entry has no "image"')
        caption = " ".join(sample.branches[0][-1].answer.split())
        if not caption:
            ledger.drop(sample.id, "empty caption")
            continue
        ledger.keep()
        yield ImageAnnotation(image_id=sample.id, image=sample.image, width=0, height=0, captions=(caption,))


def _first_character(path: str | Path) -> str:
    with open(path, encoding="utf-8") as file:
        while (character := file.read(1)).isspace():
            pass
    return character
