"""Record -> Sample: wording is drawn and coordinates are written here, last of all, from the frame."""

import random
from dataclasses import replace

from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import Box, Cut, CutPolicy, Frame, has_left_right, place_box, swap_left_right
from locvlm.objectives.locpred import render_locpred
from locvlm.objectives.negpred import render_negpred
from locvlm.objectives.revloc import render_revloc
from locvlm.records import LocationKind, Query, Record, Sample, Turn


def render_query(query: Query, *, rng: random.Random, location_text: str | None, representation: str) -> Turn:
    """One question and its answer as final text.

    `location_text` is the query's box as written by the contract, `representation` what prompts call that
    form, "(x1,y1,x2,y2) bbox" or "(cx,cy) point".

    Raises:
        ValueError: for an unknown objective, or a location that the objective needs and does not get.
    """
    if query.objective == "negpred":
        return render_negpred(query.phrase, rng=rng, representation=representation)
    if query.objective == "caption":
        return Turn(question="", answer=query.answer)
    if query.objective == "vqa":
        return Turn(question=query.question, answer=query.answer)
    if query.objective not in ("locpred", "revloc"):
        raise ValueError(
            f"unknown objective {query.objective!r}; expected locpred, negpred, revloc, caption or vqa"
        )
    if location_text is None:
        raise ValueError(f"a {query.objective} query needs its location as text, got none for {query}")
    if query.objective == "locpred":
        return render_locpred(
            query.phrase, rng=rng, location_text=location_text, representation=representation
        )
    return render_revloc(query.phrase, rng=rng, location_text=location_text)


def render_record(
    record: Record,
    contract: CoordinateContract,
    *,
    seed: int,
    epoch: int,
    flip: bool = False,
    location_kind: LocationKind | None = None,
    cut_policy: CutPolicy | None = None,
) -> Sample:
    """The record as text, one branch per query, in their order.

    The same arguments give the same text, whatever was rendered before: every query draws from its own
    `random.Random(f"{seed}/{epoch}/{record.id}/{k}")`.

    flip           mirror the image: boxes follow the frame, left and right are swapped in phrases. A
                   record with verbatim text (captions, questions, answers) that holds one of these words
                   stays as it is, and so does a video, whose pooled features may be kept: read
                   `Sample.flip` for what was done.
    location_kind  "bbox" or "point" instead of the contract's own.
    cut_policy     what becomes of an object that the frame cuts, see `place_box`; an object of which
                   nothing is left may turn LocPred into NegPred. Queries about dropped objects are left
                   out, so a sample can have fewer branches than its record has queries, or none: the
                   caller counts those.

    Raises:
        ValueError: naming the record, for a query with a box in a record without image size.
    """
    if location_kind is not None:
        contract = replace(contract, location=location_kind)
    flip = flip and can_flip(record)
    frame = _frame_of(record, contract, flip=flip)
    branches = []
    for k, query in enumerate(record.queries):
        asked, location_text = _place(query, contract, frame, cut_policy)
        if asked is None:
            continue
        if flip:
            asked = replace(asked, phrase=swap_left_right(asked.phrase))
        rng = random.Random(f"{seed}/{epoch}/{record.id}/{k}")
        turn = render_query(
            asked, rng=rng, location_text=location_text, representation=contract.representation
        )
        branches.append((turn,))
    return Sample(
        id=record.id,
        image=record.image,
        video=record.video,
        width=record.width,
        height=record.height,
        flip=flip,
        branches=tuple(branches),
    )


def can_flip(record: Record) -> bool:
    """Whether the record stays true when the image is mirrored and its phrases swap left and right."""
    return record.image is not None and not any(
        has_left_right(query.question) or has_left_right(query.answer) for query in record.queries
    )


def _frame_of(record: Record, contract: CoordinateContract, *, flip: bool) -> Frame | None:
    """Source pixels -> canvas; None where no query has a box, so that captions need no image size."""
    if all(query.box_px is None for query in record.queries):
        return None
    shown = record.image if record.video is None else record.video
    if shown is None or record.width <= 0 or record.height <= 0:
        raise ValueError(
            f"record {record.id!r} has boxes, which are source pixels, and so needs an image or a video with "
            f"its size; got image {record.image!r}, video {record.video!r}, width {record.width}, height "
            f"{record.height}"
        )
    return contract.frame_for((record.width, record.height), flip=flip)


def _place(
    query: Query, contract: CoordinateContract, frame: Frame | None, cut_policy: CutPolicy | None
) -> tuple[Query | None, str | None]:
    """The query to ask in this frame and its location as text; None for a query about a dropped object."""
    if query.box_px is None or frame is None:
        return query, None
    placed = place_box(frame, query.box_px, cut_policy)
    if isinstance(placed, Box):
        return query, contract.write(placed, frame)
    if placed is Cut.NEGATIVE and query.objective == "locpred":
        return replace(query, objective="negpred", box_px=None), None
    return None, None
