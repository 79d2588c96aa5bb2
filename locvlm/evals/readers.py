"""Data files -> the records that a task asks about: one reader for each form that data sets are published in.

A reader is a function of a path and of options that it names; an option of the type Path is a file beside it.
It gives one record per image with all that is asked about it, so that the questions share the image's prefix.
What scoring needs beside the answer stands in `Query.source`, under the names of the data set.
"""

import inspect
import logging
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from locvlm.annotations.refcoco import read_refcoco
from locvlm.annotations.video_qa import read_tgif_qa, read_video_qa, read_video_qa_list
from locvlm.annotations.vqa import ImageNames, VqaQuestion, read_gqa, read_vqav2, records_of_questions
from locvlm.annotations.vsr import read_vsr
from locvlm.annotations.whatsup import read_whatsup, read_whatsup_pairs
from locvlm.annotations.yes_no import read_yes_no
from locvlm.config import convert
from locvlm.io import Ledger, read_records
from locvlm.records import ImageAnnotation, Query, Record

logger = logging.getLogger(__name__)

_MAX_DROPPED_FRACTION = 0.01  # of a benchmark's questions; its figure would not be comparable with more


# ---- readers


def read_gqa_records(path: Path) -> Iterator[Record]:
    """GQA's questions; `source` holds question_id, types and isBalanced."""
    ledger = Ledger(f"questions of {path.name}")
    yield from records_of_questions(_counted(read_gqa(path, ledger), ledger), dataset="gqa")


def read_vqav2_records(path: Path, *, annotations: Path, names: ImageNames = "2014") -> Iterator[Record]:
    """VQAv2's questions; `source` holds question_id, the ten answers, question_type and answer_type.

    Args:
        annotations: the file with the answers of the same split.
        names: how images are called, see `read_vqav2`.
    """
    ledger = Ledger(f"questions of {path.name}")
    questions = read_vqav2(path, annotations, ledger, names=names)
    yield from records_of_questions(_counted(questions, ledger), dataset="vqav2")


def _counted(questions: Iterator[VqaQuestion], ledger: Ledger) -> Iterator[VqaQuestion]:
    yield from questions
    ledger.require_dropped_at_most(_MAX_DROPPED_FRACTION)


def read_refcoco_records(
    path: Path, *, instances: Path | None = None, split: str | None = None
) -> Iterator[Record]:
    """Referring expressions, asked both ways: the task's objective takes one of them.

    revloc   each object once; `source["references"]` are all its expressions, the first is its `phrase`
    locpred  each expression once, said again where two people said the same

    `source["annotation_id"]` is the object's.

    Args:
        instances: the instances.json beside UNC's refs, which hold no boxes, or COCO's own.
        split: one of those that the file names.
    """
    ledger, repairs = Ledger(f"objects of {path.name}"), Counter[str]()
    images = read_refcoco(
        path, instances=instances, split=split, ledger=ledger, repairs=repairs, keep_repeated=True
    )
    for image in images:
        yield Record(
            id=image.image_id,
            image=image.image,
            width=image.width,
            height=image.height,
            queries=tuple(_refcoco_queries(image)),
            source={"file": path.name, **({"split": split} if split else {})},
        )
    for what, number in repairs.items():
        logger.info("%s: %d times: %s", path.name, number, what)
    ledger.require_dropped_at_most(_MAX_DROPPED_FRACTION)


def _refcoco_queries(image: ImageAnnotation) -> Iterator[Query]:
    for item in image.objects:
        about = {"annotation_id": item.annotation_id}
        if item.phrases:
            yield Query(
                objective="revloc",
                phrase=item.phrases[0],
                category=item.category,
                box_px=item.box_px,
                source={**about, "references": list(item.phrases)},
            )
        for phrase in item.phrases:
            yield Query(
                objective="locpred", phrase=phrase, category=item.category, box_px=item.box_px, source=about
            )


READERS: dict[str, Callable[..., Iterator[Record]]] = {
    "records": read_records,  # what data_builders/ write
    "pope": read_yes_no,
    "gqa": read_gqa_records,
    "vqav2": read_vqav2_records,
    "refcoco": read_refcoco_records,
    "vsr": read_vsr,
    "whatsup": read_whatsup,  # subsets A and B
    "whatsup_pairs": read_whatsup_pairs,  # COCO-spatial and GQA-spatial
    "video_qa": read_video_qa,  # ActivityNet-QA, and the others as Video-ChatGPT's followers hand them round
    "video_qa_list": read_video_qa_list,  # MSRVTT-QA and MSVD-QA
    "tgif_qa": read_tgif_qa,
}


# ---- their options


def checked_options(reader: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a reader by the types that it names.

    Raises:
        ValueError: for a reader or an option that does not exist, one of another type, or a missing one.
    """
    if reader not in READERS:
        raise ValueError(
            f"unknown reader {reader!r}, expected one of {', '.join(READERS)}{_near(reader, READERS)}"
        )
    known = _options_of(reader)
    for name in options:
        if name not in known:
            names = ", ".join(known) or "none"
            raise ValueError(
                f"the reader {reader} has no option {name!r}, it has {names}{_near(name, known)}"
            )
    for name, (_, is_required) in known.items():
        if is_required and name not in options:
            raise ValueError(f"the reader {reader} needs the option {name!r}")
    return {name: convert(known[name][0], value, f"options.{name}") for name, value in options.items()}


def _options_of(reader: str) -> dict[str, tuple[Any, bool]]:
    """Name -> (type, whether it has to be given)."""
    function = READERS[reader]
    hints = typing.get_type_hints(function)
    return {
        name: (hints[name], parameter.default is parameter.empty)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _near(name: str, known: Any) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
