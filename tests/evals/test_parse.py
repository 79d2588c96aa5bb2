import pytest

from locvlm.evals.parse import (
    Absent,
    Named,
    Sides,
    Unreadable,
    normalise,
    read_description,
    read_location,
    read_side,
)
from locvlm.geometry import Box

ABSENT = "There is no such object in the image"


@pytest.fixture
def frame(contract):
    return contract.frame_for((224, 56))  # twice the canvas's width, half its height


def test_a_box_is_read_in_source_pixels(contract, frame):
    assert read_location("It is located at (10, 20, 30, 40)", contract, frame) == Box(20, 10, 60, 20)
    assert read_location("[10,20 , 30,40]", contract, frame) == Box(20, 10, 60, 20)


@pytest.mark.parametrize(
    "answer", [ABSENT, ABSENT + ".", "there is no such  object in the image", f"No. {ABSENT}"]
)
def test_the_absent_sentence_is_read_whatever_its_case_spacing_and_end(contract, frame, answer):
    assert read_location(answer, contract, frame) == Absent()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no location"),
        ("It is on the left", "no location"),
        ("It is located at (1, 2, 3)", "wrong count"),
        ("It is located at (1, 2, 30, 400)", "out of range"),
        ("It is located at (30, 2, 10, 40)", "out of range"),
        (f"It is located at (10, 20, 30, 40). {ABSENT}", "a location and the absent sentence"),
    ],
)
def test_what_cannot_be_read_says_why_and_is_no_box(contract, frame, answer, reason):
    reading = read_location(answer, contract, frame)
    assert isinstance(reading, Unreadable)
    assert reason in reading.reason


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("There is a mug.", "mug"),
        ("there is a  Striped  Mug", "striped mug"),
        ("There is an umbrella.", "umbrella"),
    ],
)
def test_a_description_names_its_class(contract, frame, answer, name):
    assert read_description(answer, contract, frame) == Named(name)


@pytest.mark.parametrize(
    "answer", ["", "mug", "There is a", "There is a .", "It is located at (1, 2, 3, 4)", ABSENT]
)
def test_any_other_sentence_names_nothing(contract, frame, answer):
    assert isinstance(read_description(answer, contract, frame), Unreadable)


def test_sides_are_whole_words(contract, frame):
    assert read_side("To the LEFT.", contract, frame) == Sides(("left",))
    assert read_side("left of it, or right", contract, frame) == Sides(("left", "right"))
    assert read_side("above and left", contract, frame) == Sides(("left", "above"))
    for answer in ("the leftover is bright", "", "beside it"):
        assert isinstance(read_side(answer, contract, frame), Unreadable)


def test_normalising_keeps_the_words_and_nothing_else():
    assert normalise("  A Striped  cup. ") == "striped cup"
    assert normalise("anchor") == "anchor"
    assert normalise("The the") == "the"
