import json
import random
from dataclasses import replace

import pytest

from locvlm.coords.codec import CODECS
from locvlm.coords.contract import CoordinateContract, require_same
from locvlm.coords.notation import ParseFailure
from locvlm.geometry import Box, Point

CONTRACT = CoordinateContract(canvas=224, patch=14)


def test_the_default_writes_the_papers_example_from_source_pixels():
    frame = CONTRACT.frame_for((512, 512))
    assert CONTRACT.write(Box(10, 120, 30, 145), frame) == "(4, 52, 13, 63)"
    assert CONTRACT.representation == "(x1,y1,x2,y2) bbox"
    points = replace(CONTRACT, location="point")
    assert points.write(Box(10, 120, 30, 145), frame) == "(9, 58)"
    assert points.representation == "(cx,cy) point"


@pytest.mark.parametrize("kind", ["bbox", "point"])
@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("codec", CODECS)
def test_reading_what_was_written_gives_the_source_box_within_the_codecs_error(codec, mode, kind):
    contract = replace(CONTRACT, codec=codec, frame=mode, location=kind)
    rng = random.Random(1)
    for _ in range(100):
        size = (rng.randint(20, 900), rng.randint(20, 900))
        frame = contract.frame_for(size, exif=rng.randint(1, 8), flip=rng.random() < 0.5)
        # a box that every frame shows whole: around the centre of the image
        cx, cy, r = size[0] / 2, size[1] / 2, 0.4 * min(size) * rng.random() + 0.5
        box = Box(cx - r, cy - 0.7 * r, cx + r, cy + 0.7 * r)
        read = contract.read(f"It is located at {contract.write(box, frame)}", frame)
        assert not isinstance(read, ParseFailure)
        limit_px = (
            contract.build_codec().max_error
            * 224
            * max(1 / abs(frame.matrix[0] or frame.matrix[1]), 1 / abs(frame.matrix[4] or frame.matrix[3]))
        )
        wanted = box if kind == "bbox" else box.center
        assert max(abs(a - b) for a, b in zip(wanted, read, strict=True)) <= limit_px + 1e-6


def test_a_location_of_another_kind_is_a_failure_not_a_guess():
    failure = CONTRACT.read("(9, 58)", CONTRACT.frame_for((512, 512)))
    assert failure == ParseFailure("wrong count", "(9, 58) has 2 numbers, not 4")


@pytest.mark.parametrize(
    ("codec", "text", "count"),
    [
        ("ivb", "(4, 52, 13, 63)", 1),
        ("ivb", "[[4, 52, 13, 63]]", 1),
        ("ivb", "(4, 52, 13, 63) and (1, 2, 30, 40), no: [5, 6, 7, 8].", 3),
        ("ivb", "(4, 52, 13, 63), (4, 52, 13, 63)", 1),  # the same place twice
        ("ivb", "(4, 52, 13, 63) (4, 52, 13, 999) (4, 52)", 1),  # the others are none
        ("ivb", "(x1,y1,x2,y2): nowhere", 0),
        ("diga", "(0, 4, 3, 11, 6, 0) (0, 4, 3, 12, 6, 0)", 2),
        ("nfp", "(0.1, 0.2, 0.3, 0.4)(0.1, 0.2, 0.3, 0.5)", 2),
        (
            "kosmos2",
            "<object><patch_index_0033><patch_index_0990></object> or <object><patch_index_0034>"
            "<patch_index_0990></object>",
            2,
        ),
    ],
)
def test_different_locations_of_a_text_are_counted(codec, text, count):
    assert replace(CONTRACT, codec=codec).count(text) == count


def test_a_cut_box_is_written_as_its_visible_part_and_an_invisible_one_refused():
    contract = replace(CONTRACT, frame="crop")
    frame = contract.frame_for((448, 224))  # shows x in [112, 336]
    assert contract.write(Box(100, 0, 212, 224), frame) == "(0, 0, 100, 224)"
    with pytest.raises(ValueError, match="no area on the canvas"):
        contract.write(Box(0, 0, 100, 224), frame)
    with pytest.raises(ValueError, match="no area on the canvas"):
        contract.write(Box(200, 5, 200, 9), frame)


def test_a_frame_for_another_canvas_is_refused():
    frame = replace(CONTRACT, canvas=336).frame_for((512, 512))
    with pytest.raises(ValueError, match=r"contract\.frame_for"):
        CONTRACT.write(Box(10, 120, 30, 145), frame)
    with pytest.raises(ValueError, match=r"contract\.frame_for"):
        CONTRACT.read("(4, 52, 13, 63)", frame)


def test_it_survives_json():
    contract = CoordinateContract(codec="diga", frame="pad", location="point", canvas=336, patch=14)
    assert CoordinateContract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


@pytest.mark.parametrize(
    "change",
    [
        {"bins": 3},
        {"codec": "vlm"},
        {"frame": "squash"},
        {"canvas": 225},
        {"patch": 0},
        {"location": "mask"},
        {"canvas": "224"},
    ],
    ids=str,
)
def test_unknown_values_are_refused(change):
    with pytest.raises(ValueError, match="coordinate contract"):
        CoordinateContract.from_dict(CONTRACT.to_dict() | change)


def test_a_missing_key_is_not_filled_in():
    values = CONTRACT.to_dict()
    del values["frame"]
    with pytest.raises(ValueError, match="expected the keys"):
        CoordinateContract.from_dict(values)


def test_a_mismatch_names_every_differing_field_with_both_values():
    require_same(CONTRACT, CoordinateContract(canvas=224, patch=14))
    with pytest.raises(
        ValueError, match="codec: got 'nfp', expected 'ivb'; frame: got 'pad', expected 'stretch'"
    ):
        require_same(replace(CONTRACT, codec="nfp", frame="pad"), CONTRACT)


def test_a_mirrored_point_is_read_back_unmirrored():
    contract = replace(CONTRACT, location="point")
    frame = contract.frame_for((448, 448), flip=True)
    assert contract.read("(24, 50)", frame) == pytest.approx(Point(400, 100))
