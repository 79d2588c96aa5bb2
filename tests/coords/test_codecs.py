import random

import pytest
from transformers.models.kosmos2.processing_kosmos2 import (
    clean_text_and_extract_entities_with_bboxes,
    coordinate_to_patch_index,
)

from locvlm.coords.codec import CODECS, build_codec
from locvlm.coords.notation import ParseFailure, round_half_even
from locvlm.geometry import Box, Point, build_frame

PAPER_BOX = Box(10 / 512, 120 / 512, 30 / 512, 145 / 512)  # the paper's worked example, of 512 x 512 pixels

WORKED_EXAMPLE = {
    ("nfp", "bbox"): "(0.0195, 0.2344, 0.0586, 0.2832)",
    ("ivb", "bbox"): "(4, 52, 13, 63)",
    ("diga", "bbox"): "(0, 4, 3, 11, 6, 0)",
    ("nfp", "point"): "(0.0391, 0.2588)",
    ("ivb", "point"): "(9, 58)",
    ("diga", "point"): "(0, 4, 2, -5)",
}
# The same box as other systems write it.
ELSEWHERE = {
    ("shikra", "bbox"): "[0.020, 0.234, 0.059, 0.283]",
    ("llava", "bbox"): "[0.02, 0.23, 0.06, 0.28]",
    ("thousand", "bbox"): "[20, 234, 59, 283]",
    ("kosmos2", "bbox"): "<object><patch_index_0224><patch_index_0289></object>",
    ("shikra", "point"): "[0.039, 0.259]",
    ("llava", "point"): "[0.04, 0.26]",
    ("thousand", "point"): "[39, 259]",
    ("kosmos2", "point"): "<object><patch_index_0257></object>",
}


def codec_named(name, canvas=224):
    return build_codec(name, canvas=canvas, patch=14)


def random_location(rng, kind):
    if kind == "point":
        return Point(rng.random(), rng.random())
    xs, ys = sorted(rng.random() for _ in "ab"), sorted(rng.random() for _ in "ab")
    return Box(xs[0], ys[0], xs[1], ys[1])


@pytest.mark.parametrize(("name", "kind"), WORKED_EXAMPLE)
def test_the_papers_worked_example_digit_for_digit(name, kind):
    location = PAPER_BOX if kind == "bbox" else PAPER_BOX.center
    assert codec_named(name).encode(location) == WORKED_EXAMPLE[name, kind]


@pytest.mark.parametrize(("name", "kind"), ELSEWHERE)
def test_the_same_box_as_other_systems_write_it(name, kind):
    location = PAPER_BOX if kind == "bbox" else PAPER_BOX.center
    assert codec_named(name).encode(location) == ELSEWHERE[name, kind]


def test_every_codec_has_its_name_and_a_worked_example():
    assert [codec_named(name).name for name in CODECS] == list(CODECS)
    assert {name for name, _ in (*WORKED_EXAMPLE, *ELSEWHERE)} == set(CODECS)


@pytest.mark.parametrize(("name", "kind"), WORKED_EXAMPLE)
def test_the_worked_example_is_the_same_through_a_frame(name, kind):
    box = build_frame("stretch", (512, 512), 224).to_fraction(Box(10, 120, 30, 145))
    assert codec_named(name).encode(box if kind == "bbox" else box.center) == WORKED_EXAMPLE[name, kind]


@pytest.mark.parametrize("canvas", [28, 112, 224, 336])
@pytest.mark.parametrize("kind", ["bbox", "point"])
@pytest.mark.parametrize("name", CODECS)
def test_decode_inverts_encode_up_to_the_stated_error(name, kind, canvas):
    codec = codec_named(name, canvas)
    rng = random.Random(0)
    corners = [Box(0, 0, 1, 1), Box(1, 1, 1, 1)] if kind == "bbox" else [Point(0, 0), Point(1, 1)]
    for location in [*corners, *(random_location(rng, kind) for _ in range(1000))]:
        text = codec.encode(location)
        decoded = codec.decode(f"It is located at {text}", kind)
        assert not isinstance(decoded, ParseFailure), (location, decoded)
        assert type(decoded) is type(location)
        # 1e-12: float arithmetic on numbers below 1
        error = max(abs(a - b) for a, b in zip(location, decoded, strict=True))
        assert error <= codec.max_error + 1e-12
        # what was read is written the same way again (DIGA may find the patch next door: the centre moved)
        if name != "diga":
            assert codec.encode(decoded) == text


@pytest.mark.parametrize("name", CODECS)
def test_the_stated_error_is_reached_and_so_not_exaggerated(name):
    codec = codec_named(name)
    # flat boxes, as Kosmos-2's error is largest for those that lie within one row of patches
    boxes = [Box(v, v, v + 0.3, v + 0.001) for v in (i / 99991 for i in range(3000))]
    worst = max(abs(codec.decode(codec.encode(box), "bbox").x1 - box.x1) for box in boxes)
    assert worst > 0.9 * codec.max_error
    if name != "kosmos2":
        points = [box.x1 for box in boxes]
        worst = max(abs(codec.decode(codec.encode(Point(v, v)), "point").x - v) for v in points)
        assert worst > 0.9 * codec.max_error


def test_kosmos_2_locations_are_those_of_its_processor():
    codec = codec_named("kosmos2")
    rng = random.Random(0)
    flat = [Box(x, y, x + 0.2 * rng.random(), y + 0.01) for x, y in ((rng.random() / 2, 0.4),) * 200]
    for box in [*flat, *(random_location(rng, "bbox") for _ in range(1000))]:
        first, last = coordinate_to_patch_index(tuple(box), 32)
        text = f"<object><patch_index_{first:04d}><patch_index_{last:04d}></object>"
        assert codec.encode(box) == text
        [(_, _, [read])] = clean_text_and_extract_entities_with_bboxes(f"<phrase>it</phrase>{text}")[1]
        assert codec.decode(f"<phrase>it</phrase>{text}", "bbox") == pytest.approx(Box(*read))


def test_halves_go_to_the_even_number_whichever_way_they_were_computed():
    assert [round_half_even(v) for v in (51.5, 52.5, 53.5)] == [52, 52, 54]
    assert 90 * (224 / 640) != 31.5  # the noise is real
    assert round_half_even(90 * (224 / 640)) == 32
    assert codec_named("ivb").encode(Point(52.5 / 224, 51.5 / 224)) == "(52, 52)"
    assert codec_named("nfp").encode(Point(0.00625, 0.00635)) == "(0.0062, 0.0064)"


def test_a_box_smaller_than_its_patch_has_negative_deviations():
    diga = codec_named("diga")
    box = Box(
        1 / 224, 16 / 224, 4 / 224, 20 / 224
    )  # inside patch column 0, row 1, away from its centre (7, 21)
    text = diga.encode(box)
    assert text == "(0, 1, 6, 5, -3, -1)"
    assert diga.decode(text, "bbox") == pytest.approx(box)


@pytest.mark.parametrize(("canvas", "last"), [(224, 15), (336, 23)])
def test_anchors_follow_from_canvas_and_patch(canvas, last):
    diga = codec_named("diga", canvas)
    assert diga.encode(Point(1, 1)) == f"({last}, {last}, 7, 7)"
    assert diga.decode(f"({last + 1}, 0, 0, 0)", "point").reason == "out of range"


@pytest.mark.parametrize(
    "text",
    [
        "(4, 52, 13, 63)",
        "[4, 52, 13, 63]",
        "It is located at (4,52,13,63).",
        "( 4 ,52,\n 13 , 63 )",
        "[[4, 52, 13, 63]]",
        "in terms of (x1,y1,x2,y2) bbox: (4, 52, 13, 63)",
        "(4, 52), no: (4, 52, 13, 63) or (1, 1, 2, 2)",
        "(4, 52, 999, 63) (4, 52, 13, 63)",
    ],
)
def test_brackets_spacing_and_text_around_do_not_matter(text):
    assert codec_named("ivb").decode(text, "bbox") == Box(4 / 224, 52 / 224, 13 / 224, 63 / 224)


@pytest.mark.parametrize(
    ("name", "kind", "text", "reason"),
    [
        ("ivb", "bbox", "", "no location"),
        ("ivb", "bbox", "There is no such object in the image", "no location"),
        ("ivb", "bbox", "4, 52, 13, 63", "no location"),
        ("ivb", "bbox", "(4, 52, 13, 63", "no location"),
        ("ivb", "bbox", "(4, 52, 13, 63]", "no location"),
        ("ivb", "bbox", "(4, 52, 13, x)", "no location"),
        ("ivb", "bbox", "(4, 52, nan, 63)", "no location"),
        ("ivb", "bbox", "(4, 52, 13)", "wrong count"),
        ("ivb", "bbox", "(4, 52), (13, 63)", "wrong count"),
        ("ivb", "point", "(4, 52, 13, 63)", "wrong count"),
        ("ivb", "bbox", "(4, 52, 13, 225)", "out of range"),
        ("ivb", "bbox", "(-1, 52, 13, 63)", "out of range"),
        ("ivb", "bbox", "(13, 52, 4, 63)", "out of range"),
        ("ivb", "bbox", "(0.1, 0.2, 0.3, 0.4)", "out of range"),
        ("ivb", "bbox", f"({'9' * 5000}, 1, 2, 3)", "out of range"),
        ("nfp", "bbox", "(4, 52, 13, 63)", "out of range"),
        ("nfp", "point", "(0.5, 1.5)", "out of range"),
        ("nfp", "bbox", "(0.5)", "wrong count"),
        ("diga", "bbox", "(4, 52, 13, 63)", "wrong count"),
        ("diga", "bbox", "(16, 4, 3, 11, 6, 0)", "out of range"),
        ("diga", "bbox", "(0, -1, 3, 11, 6, 0)", "out of range"),
        ("diga", "bbox", "(0, 4, 8, 11, 6, 0)", "out of range"),  # left of the canvas
        ("diga", "bbox", "(0, 4, -3, 11, -6, 0)", "out of range"),  # turned inside out
        ("diga", "bbox", "(0, 4, 3.5, 11, 6, 0)", "out of range"),
        ("diga", "bbox", "(0.5, 4, 3, 11, 6, 0)", "out of range"),
        ("llava", "bbox", "[4, 52, 13, 63]", "out of range"),
        ("thousand", "bbox", "[4, 52, 13, 1001]", "out of range"),
        ("thousand", "bbox", "[0.1, 0.2, 0.3, 0.4]", "out of range"),
        ("kosmos2", "bbox", "<phrase>a cup</phrase> (4, 52, 13, 63)", "no location"),
        ("kosmos2", "bbox", "<patch_index_0001><patch_index_0102>", "no location"),
        ("kosmos2", "bbox", "<object><patch_index_0001></object>", "wrong count"),
        ("kosmos2", "bbox", "<object><patch_index_0001><patch_index_1024></object>", "out of range"),
        ("kosmos2", "bbox", "<object><patch_index_0102><patch_index_0001></object>", "out of range"),
    ],
)
def test_unreadable_text_says_why(name, kind, text, reason):
    failure = codec_named(name).decode(text, kind)
    assert isinstance(failure, ParseFailure)
    assert failure.reason == reason
    assert failure.detail
    assert len(failure.detail) < 200


def test_of_several_kosmos_2_objects_the_first_is_read_also_where_the_answer_is_cut_off():
    codec = codec_named("kosmos2")
    box = codec.decode("<object><patch_index_0033><patch_index_0990></object>", "bbox")
    assert box == Box(1.5 / 32, 1.5 / 32, 30.5 / 32, 30.5 / 32)
    for text in (
        "<phrase> a cup</phrase><object><patch_index_0033><patch_index_0990></delimiter_of_multi_objects/>"
        "<patch_index_0001><patch_index_0102></object>",
        "<object> <patch_index_0033> <patch_index_0990>",
        "<object><patch_index_0033><patch_index_2000></object><object><patch_index_0033><patch_index_0990>",
    ):
        assert codec.decode(text, "bbox") == box


def test_a_location_of_the_right_count_explains_more_than_one_of_the_wrong_count():
    failure = codec_named("ivb").decode("(1, 2) (1, 2, 3, 999)", "bbox")
    assert failure.reason == "out of range"
    assert "(1, 2, 3, 999)" in failure.detail


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(
    "location", [Box(0, 0, 1.1, 1), Point(-0.1, 0), Box(0.5, 0, 0.4, 1), Point(float("nan"), 0)], ids=str
)
def test_a_location_off_the_canvas_is_not_written(name, location):
    with pytest.raises(ValueError, match="canvas"):
        codec_named(name).encode(location)


def test_floating_point_noise_on_the_border_is_not_an_error():
    assert codec_named("ivb").encode(Point(1 + 1e-12, -1e-12)) == "(224, 0)"
    assert codec_named("nfp").encode(Point(1 + 1e-12, -1e-12)) == "(1.0000, 0.0000)"


def test_unknown_codecs_and_broken_grids_are_refused():
    with pytest.raises(ValueError, match="nfp, ivb, diga, shikra, llava, thousand, kosmos2"):
        codec_named("ibv")
    with pytest.raises(ValueError, match="whole patches"):
        build_codec("diga", canvas=225, patch=14)
