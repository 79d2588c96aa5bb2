"""Image-caption pairs for stage 1: COCO captions, or LLaVA JSON as CC3M-595K and LCS-558K come.

Of LLaVA JSON only what a pair consists of is decoded, into structs: CC3M's 595 thousand pairs take three
seconds. An entry, or a file, that is in any way not a plain pair is given to the plain reader, which says
what is wrong with it, or finds that it can be read (a single image in a list, several turns).
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from locvlm.annotations.coco import read_coco
from locvlm.annotations.instruct import read_llava_entries, sample_from_llava
from locvlm.constants import IMAGE_TOKEN
from locvlm.io import Ledger, first_character
from locvlm.records import ImageAnnotation

logger = logging.getLogger(__name__)


class _Message(msgspec.Struct, gc=False):
    value: str
    role: str = msgspec.field(name="from")


class _Pair(msgspec.Struct, gc=False):
    """An entry of LLaVA JSON with one image."""

    image: str
    conversations: list[_Message]
    id: str | int | msgspec.UnsetType = msgspec.UNSET


def read_image_text(path: str | Path, ledger: Ledger, *, fast: bool = True) -> Iterator[ImageAnnotation]:
    """Every image of the file with its captions; which form the file has is told by its first character.

    Of a LLaVA conversation the last answer is the caption, and the question ("Describe the image
    briefly.") is left out, as in LLaVA's stage 1. The ledger counts captions: kept, or dropped because they
    are empty, or their id was there before. Image sizes are 0 where the file does not say. `fast=False` reads
    as plain JSON from the start, to the same result.

    Raises:
        ValueError: see `read_coco` and `sample_from_llava`; and for a text-only entry.
    """
    if Path(path).suffix != ".jsonl" and first_character(path) == "{":
        yield from read_coco(captions=path, ledger=ledger, fast=fast)
        return
    pairs = _decode_pairs(Path(path)) if fast else None
    found = _plain_captions(path) if pairs is None else _decoded_captions(path, pairs)
    seen: set[str] = set()
    for image_id, image, caption in found:
        if not caption:
            ledger.drop(image_id, "empty caption")
        elif image_id in seen:
            ledger.drop(image_id, "id is there twice", image)
        else:
            ledger.keep()
            seen.add(image_id)
            yield ImageAnnotation(image_id=image_id, image=image, width=0, height=0, captions=(caption,))


def _decode_pairs(path: Path) -> list[_Pair] | None:
    """The entries of a file that is one JSON array of entries with an image each; None for another file."""
    if path.suffix == ".jsonl":
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[_Pair])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        logger.info("%s: not every entry is a pair, so it is read as plain JSON", path)
        return None


def _decoded_captions(path: str | Path, pairs: list[_Pair]) -> Iterator[tuple[str, str, str]]:
    for index, pair in enumerate(pairs):
        if _is_plain(pair):
            yield str(pair.id), pair.image, " ".join(pair.conversations[1].value.split())
        else:
            yield _caption_of(msgspec.to_builtins(pair), where=f"{path}: entry {index}")


def _is_plain(pair: _Pair) -> bool:
    """Whether the pair is one question with the image in it, and one answer."""
    if len(pair.conversations) != 2 or pair.id is msgspec.UNSET or not pair.image:
        return False
    human, gpt = pair.conversations
    return (
        (human.role, gpt.role) == ("human", "gpt")
        and human.value.count(IMAGE_TOKEN) == 1
        and gpt.value != ""
        and IMAGE_TOKEN not in gpt.value
    )


def _plain_captions(path: str | Path) -> Iterator[tuple[str, str, str]]:
    for where, entry in read_llava_entries(path):
        yield _caption_of(entry, where=where)


def _caption_of(entry: Any, *, where: str) -> tuple[str, str, str]:
    """(id, image, caption) of an entry of LLaVA JSON."""
    sample = sample_from_llava(entry, where=where)
    if sample.image is None:
        raise ValueError(f'{where}: expected an image with its caption, the entry has no "image"')
    return sample.id, sample.image, " ".join(sample.branches[0][-1].answer.split())
