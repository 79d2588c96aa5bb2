import random

import pytest

from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import Box, CutPolicy
from locvlm.objectives import locpred, negpred, revloc
from locvlm.objectives.render import render_query, render_record
from locvlm.records import Query, Record

CONTRACT = CoordinateContract(canvas=224, patch=14)
BBOX = "(x1,y1,x2,y2) bbox"
# the paper's worked example: 512 x 512 pixels, box (10, 120, 30, 145), in 224 bins
BOX = Box(10, 120, 30, 145)
DOG = {"phrase": "dog", "category": "dog"}


def make_record(*queries, width=512, height=512, **more):
    return Record(id="r", image="a.jpg", width=width, height=height, queries=queries, **more)


def texts(record, contract=CONTRACT, **options):
    sample = render_record(record, contract, **{"seed": 0, "epoch": 0, **options})
    return [(turn.question, turn.answer) for (turn,) in sample.branches]


def test_the_papers_templates_to_the_letter():
    assert locpred.PROMPTS == (
        "Where is the object described {category} located in image in terms of {repr}?",
        "What is the location of object described {category} in terms of {repr}?",
        "Localize the object described {category} in terms of {repr}?",
        "Provide a {repr} for the the object described {category}?",
        "Generate a {repr} for the the object described {category}?",
    )
    assert locpred.ANSWER == "It is located at {loc}"
    assert negpred.ABSENT_ANSWER == "There is no such object in the image"
    assert revloc.PROMPTS == (
        "Describe the object located at {loc}?",
        "Provide a caption for object at {loc}?",
        "What is at location {loc} in image?",
    )
    assert revloc.ANSWER == "There is a {category}."


def render_many(query, n=200, **options):
    return {
        render_query(query, rng=random.Random(k), representation=BBOX, **options).question for k in range(n)
    }


def test_every_prompt_is_drawn_and_negpred_asks_as_locpred_does():
    asked = {p.format(category="dog", repr=BBOX) for p in locpred.PROMPTS}
    present = render_many(Query(objective="locpred", **DOG, box_px=BOX), location_text="(1, 2, 3, 4)")
    absent = render_many(Query(objective="negpred", **DOG), location_text=None)
    assert present == absent == asked
    described = render_many(Query(objective="revloc", **DOG, box_px=BOX), location_text="(1, 2, 3, 4)")
    assert described == {p.format(loc="(1, 2, 3, 4)") for p in revloc.PROMPTS}


def test_locations_are_written_from_source_pixels_in_the_contracts_frame():
    record = make_record(
        Query(objective="locpred", **DOG, box_px=BOX),
        Query(objective="negpred", phrase="cat", category="cat"),
        Query(objective="revloc", **DOG, box_px=BOX),
    )
    (where, at), (_, absent), (what, name) = texts(record)
    assert "dog" in where
    assert BBOX in where
    assert at == "It is located at (4, 52, 13, 63)"
    assert absent == "There is no such object in the image"
    assert "(4, 52, 13, 63)" in what
    assert name == "There is a dog."


def test_verbatim_queries_stay_verbatim_and_need_no_image_size():
    record = make_record(
        Query(objective="caption", answer="A {dog}."),
        Query(objective="vqa", question="Left?", answer="no"),
        width=0,
        height=0,
    )
    assert texts(record) == [("", "A {dog}."), ("Left?", "no")]


def test_phrases_with_braces_are_not_templates():
    record = make_record(Query(objective="locpred", phrase="a {loc} {0} sign", box_px=BOX))
    ((question, answer),) = texts(record)
    assert "described a {loc} {0} sign" in question
    assert answer == "It is located at (4, 52, 13, 63)"


@pytest.mark.parametrize(
    ("codec", "bbox", "point"),
    [
        ("nfp", "(0.0195, 0.2344, 0.0586, 0.2832)", "(0.0391, 0.2588)"),
        ("ivb", "(4, 52, 13, 63)", "(9, 58)"),
        ("diga", "(0, 4, 3, 11, 6, 0)", "(0, 4, 2, -5)"),
    ],
)
def test_one_record_serves_every_codec_and_location_kind(codec, bbox, point):
    record = make_record(Query(objective="locpred", **DOG, box_px=BOX))
    contract = CoordinateContract(codec=codec, canvas=224, patch=14)
    assert texts(record, contract)[0][1] == f"It is located at {bbox}"
    question, answer = texts(record, contract, location_kind="point")[0]
    assert answer == f"It is located at {point}"
    assert "(cx,cy) point" in question


def test_wording_is_drawn_anew_each_epoch_and_the_same_when_asked_again():
    record = make_record(*[Query(objective="locpred", **DOG, box_px=BOX)] * 8)
    first = texts(record)
    assert first == texts(record)
    assert len({question for question, _ in first}) > 1
    assert first != texts(record, epoch=1)
    assert first != texts(record, seed=1)


def test_a_query_draws_the_same_whatever_stands_before_it_is_dropped():
    dropped = Query(objective="locpred", **DOG, box_px=Box(0, 0, 9, 512))
    kept = Query(objective="locpred", phrase="cat", category="cat", box_px=Box(400, 100, 600, 300))
    record = make_record(dropped, kept, width=1024)
    contract = CoordinateContract(frame="crop", canvas=224, patch=14)
    for epoch in range(10):
        (only,) = texts(record, contract, epoch=epoch)
        both = texts(make_record(kept, kept, width=1024), contract, epoch=epoch)
        assert only == both[1]


def test_a_flip_mirrors_boxes_and_swaps_left_and_right_in_phrases():
    record = make_record(Query(objective="revloc", phrase="dog on the left", category="dog", box_px=BOX))
    sample = render_record(record, CONTRACT, seed=0, epoch=0, flip=True)
    (turn,) = sample.branches[0]
    assert sample.flip
    # x1' = 512 - 30 = 482 -> 210.9, x2' = 502 -> 219.6
    assert "(211, 52, 220, 63)" in turn.question
    assert turn.answer == "There is a dog on the right."


@pytest.mark.parametrize(
    "verbatim",
    [
        Query(objective="caption", answer="A dog left of a cat."),
        Query(objective="vqa", question="What is on the right?", answer="a dog"),
    ],
)
def test_a_record_with_left_or_right_in_verbatim_text_is_not_flipped(verbatim):
    located = Query(objective="locpred", phrase="left dog", category="dog", box_px=BOX)
    sample = render_record(make_record(located, verbatim), CONTRACT, seed=0, epoch=0, flip=True)
    assert not sample.flip
    assert sample.branches[0][0].answer == "It is located at (4, 52, 13, 63)"
    assert "left dog" in sample.branches[0][0].question


def test_text_only_records_are_not_flipped():
    record = Record(id="t", image=None, queries=(Query(objective="vqa", question="a", answer="b"),))
    sample = render_record(record, CONTRACT, seed=0, epoch=0, flip=True)
    assert (sample.image, sample.flip) == (None, False)


def test_boxes_of_a_video_are_written_as_those_of_an_image_of_its_upright_size_and_it_is_not_flipped():
    query = Query(objective="locpred", phrase="dog", category="dog", box_px=BOX)
    record = Record(id="r", image=None, video="v.mp4", width=512, height=512, queries=(query,))
    sample = render_record(record, CONTRACT, seed=0, epoch=0, flip=True)
    assert (sample.image, sample.video, sample.flip) == (None, "v.mp4", False)
    assert (sample.width, sample.height) == (512, 512)
    assert sample.branches == render_record(make_record(query), CONTRACT, seed=0, epoch=0).branches


# 1024 x 512: the centre crop shows x from 256 to 768
CROP = CoordinateContract(frame="crop", canvas=224, patch=14)
OUTSIDE, HALF, LITTLE = Box(0, 0, 200, 512), Box(206, 0, 306, 512), Box(166, 0, 266, 512)


@pytest.mark.parametrize(
    ("on_cut", "box", "expected"),
    [
        ("clip", OUTSIDE, []),
        ("clip", LITTLE, []),
        ("clip", HALF, ["It is located at (0, 0, 22, 224)"]),
        ("drop", OUTSIDE, []),
        ("drop", HALF, []),
        ("negative", OUTSIDE, [negpred.ABSENT_ANSWER]),
        ("negative", LITTLE, []),
        ("negative", HALF, ["It is located at (0, 0, 22, 224)"]),
    ],
)
def test_objects_that_the_crop_cuts_follow_the_policy(on_cut, box, expected):
    policy = CutPolicy(min_visible_fraction=0.5, on_cut=on_cut)
    record = make_record(Query(objective="locpred", **DOG, box_px=box), width=1024)
    assert [answer for _, answer in texts(record, CROP, cut_policy=policy)] == expected


def test_what_is_at_a_place_outside_the_crop_is_never_asked():
    policy = CutPolicy(on_cut="negative")
    record = make_record(Query(objective="revloc", **DOG, box_px=OUTSIDE), width=1024)
    assert texts(record, CROP, cut_policy=policy) == []


def test_a_box_without_image_size_is_refused():
    with pytest.raises(ValueError, match="record 'r' has boxes, which are source pixels"):
        texts(make_record(Query(objective="locpred", **DOG, box_px=BOX), width=0))


def test_unknown_objectives_and_missing_locations_are_refused():
    with pytest.raises(ValueError, match="unknown objective 'segment'; expected locpred, negpred"):
        render_many(Query(objective="segment"), location_text=None)
    with pytest.raises(ValueError, match="a revloc query needs its location as text"):
        render_many(Query(objective="revloc", **DOG, box_px=BOX), location_text=None)
