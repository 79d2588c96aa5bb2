"""Descriptions of single objects, as data_builders/prefcoco.py writes them -> `ObjectAnnotation.phrases`.

A record file: one record per image, with a revloc query for every described object, whose phrase is the
description, with the object's class and box as the annotation file has them.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from locvlm.geometry import Box
from locvlm.io import Ledger, read_records
from locvlm.records import ImageAnnotation

_Key = tuple[str, str, Box]  # image id, class, box in source pixels


def add_descriptions(
    images: Iterable[ImageAnnotation], path: str | Path, ledger: Ledger
) -> list[ImageAnnotation]:
    """The images with their objects' descriptions as phrases, in place of those they have.

    The ledger counts described objects of these images: kept, or dropped because the image has no object
    of this class with this box. Descriptions of further images are left alone.

    Raises:
        ValueError: for a file that holds no records, or describes none of these images.
    """
    phrases = _read_phrases(path)
    described = {image_id for image_id, _, _ in phrases}
    result = []
    for image in images:
        if image.image_id in described:
            keys = [(image.image_id, item.category, item.box_px) for item in image.objects]
            found = [tuple(phrases.pop(key, ())) for key in keys]
            ledger.keep(sum(map(bool, found)))
            pairs = zip(image.objects, found, strict=True)
            image = replace(image, objects=tuple(replace(item, phrases=texts) for item, texts in pairs))
        result.append(image)
    here = {image.image_id for image in result}
    if not described & here:
        raise ValueError(
            f"{path} describes none of the {len(here)} images; expected the output of "
            f"data_builders/prefcoco.py, made from the same annotation file"
        )
    for image_id, category, box in phrases:
        if image_id in here:
            ledger.drop(image_id, "no object of this class and box", f"{category} {list(box)}")
    return result


def _read_phrases(path: str | Path) -> dict[_Key, dict[str, None]]:
    """What each object is described as: different texts in their order, white space tidied."""
    phrases: dict[_Key, dict[str, None]] = {}
    for record in read_records(path):
        image_id = str(record.source.get("image_id", record.id))
        for query in record.queries:
            if query.objective == "revloc" and query.box_px is not None:
                key = (image_id, query.category, query.box_px)
                phrases.setdefault(key, {})[" ".join(query.phrase.split())] = None
    return phrases
