import pytest

from locvlm.evals.parse import (
    PARSERS,
    About,
    Absent,
    Chosen,
    Named,
    Said,
    Sides,
    Unreadable,
    YesNo,
    normalise,
    read_choice,
    read_description,
    read_location,
    read_side,
    read_text,
    read_yes_no,
    read_yes_no_lmms,
    read_yes_no_pope,
)
from locvlm.geometry import Box

ABSENT = "There is no such object in the image"


@pytest.fixture
def about(contract):
    return About(
        gold={"width": 224, "height": 56}, contract=contract
    )  # twice the canvas's width, half its height


def test_a_box_is_read_in_source_pixels(about):
    assert read_location("It is located at (10, 20, 30, 40)", about) == Box(20, 10, 60, 20)
    assert read_location("[10,20 , 30,40]", about) == Box(20, 10, 60, 20)


@pytest.mark.parametrize(
    "answer",
    [
        "(10, 20, 30, 40) or (1, 2, 3, 4)",
        "[[10, 20, 30, 40], [1, 2, 3, 4]]",
        "(10, 20, 300, 40)? No: (10, 20, 30, 40).",  # what no encoder writes is no box
    ],
)
def test_of_several_boxes_the_first_that_can_be_one_is_read(about, answer):
    assert read_location(answer, about) == Box(20, 10, 60, 20)


@pytest.mark.parametrize(
    "answer", [ABSENT, ABSENT + ".", "there is no such  object in the image", f"No. {ABSENT}"]
)
def test_the_absent_sentence_is_read_whatever_its_case_spacing_and_end(about, answer):
    assert read_location(answer, about) == Absent()


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
def test_what_cannot_be_read_says_why_and_is_no_box(about, answer, reason):
    reading = read_location(answer, about)
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
def test_a_description_names_its_class(about, answer, name):
    assert read_description(answer, about) == Named(name)


@pytest.mark.parametrize(
    "answer", ["", "mug", "There is a", "There is a .", "It is located at (1, 2, 3, 4)", ABSENT]
)
def test_any_other_sentence_names_nothing(about, answer):
    assert isinstance(read_description(answer, about), Unreadable)


def test_sides_are_whole_words(about):
    assert read_side("To the LEFT.", about) == Sides(("left",))
    assert read_side("left of it, or right", about) == Sides(("left", "right"))
    assert read_side("above and left", about) == Sides(("left", "above"))
    for answer in ("the leftover is bright", "", "beside it"):
        assert isinstance(read_side(answer, about), Unreadable)


def test_normalising_keeps_the_words_and_nothing_else():
    assert normalise("  A Striped  cup. ") == "striped cup"
    assert normalise("anchor") == "anchor"
    assert normalise("The the") == "the"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("Yes", True),
        ("yes, there is a dog.", True),
        ("No.", False),
        ("There is not a dog in the image", False),
        (ABSENT, False),
        ("", None),
        ("There is a dog.", None),  # neither word
        ("Yes and no", None),  # both
        ("nothing, nor yesterday", None),  # other words
    ],
)
def test_yes_and_no_are_whole_words_and_both_or_neither_take_no_stand(about, answer, says):
    reading = read_yes_no(answer, about)
    assert isinstance(reading, Unreadable) if says is None else reading == YesNo(says)


@pytest.mark.parametrize(
    ("answer", "says", "is_assumed"),
    [
        ("Yes, there is a snowboard.", True, False),
        ("No, there is not.", False, False),
        ("no,", False, False),  # commas are removed
        ("There is not a dog", False, False),
        ("The image shows a dog. No cat.", True, True),  # only the first sentence is read
        ("No!", True, True),  # other marks are not removed
        ("NO", True, True),
        ("nothing", True, True),
        ("", True, True),
    ],
)
def test_popes_official_reading_takes_everything_without_a_no_for_a_yes(about, answer, says, is_assumed):
    assert read_yes_no_pope(answer, about) == YesNo(says, is_assumed)


@pytest.mark.parametrize(("answer", "says"), [(" Yes\n", True), ("NO", False), ("Yes.", None), ("", None)])
def test_lmms_evals_reading_takes_the_two_words_alone(about, answer, says):
    reading = read_yes_no_lmms(answer, about)
    assert isinstance(reading, Unreadable) if says is None else reading == YesNo(says)


@pytest.fixture
def choosing(contract):
    """choosing("left", "right"): what an answer to a question with these options is read with."""
    return lambda *options: About(gold={"source": {"options": list(options)}}, contract=contract)


SIDE, LAYER, DEPTH = ("left", "right"), ("on", "under"), ("front", "behind")


@pytest.mark.parametrize(
    ("answer", "options", "option"),
    [
        ("Left.", SIDE, "left"),
        ("The mug is to the left of the knife", SIDE, "left"),
        ("It is in front of the plate", DEPTH, "front"),
        ("In front", DEPTH, "front"),
        ("The mug is underneath the table.", LAYER, "under"),
        ("on the left", (*SIDE, *LAYER), "left"),  # not "on"
        ("It is on it", (*SIDE, *LAYER), "on"),
        ("On top", ("top", "bottom"), "top"),
        ("Yes", ("true", "false"), "true"),
        ("That is False.", ("true", "false"), "false"),
        ("A mug on a table", ("A mug on a table", "A mug under a table"), "A mug on a table"),
        ("mug under a table.", ("A mug on a table", "A mug under a table"), "A mug under a table"),
    ],
)
def test_the_option_that_an_answer_names_is_read(choosing, answer, options, option):
    assert read_choice(answer, choosing(*options)) == Chosen(option)


@pytest.mark.parametrize(
    ("answer", "options", "reason"),
    [
        ("left or right", SIDE, "left and right"),
        ("the leftover is bright", SIDE, "none of left, right"),
        ("to the left, on the table", (*SIDE, *LAYER), "left and on"),
        ("beside it", SIDE, "none of"),
        ("", DEPTH, "none of front, behind"),
    ],
)
def test_an_answer_with_no_option_or_several_is_not_read(choosing, answer, options, reason):
    reading = read_choice(answer, choosing(*options))
    assert isinstance(reading, Unreadable)
    assert reason in reading.reason


def test_a_question_without_options_cannot_be_read_as_a_choice(about):
    with pytest.raises(ValueError, match="gives no options to choose from"):
        read_choice("left", about)


def test_any_text_is_an_answer_but_an_empty_one(about):
    assert read_text(" There is a man. ", about) == Said("There is a man.")
    assert isinstance(read_text(" \n", about), Unreadable)


def test_only_locations_need_the_size_of_the_image(contract):
    sizeless = About(gold={"width": 0, "height": 0, "source": {"options": ["left"]}}, contract=contract)
    for name, read in PARSERS.items():
        if name == "location":
            with pytest.raises((ValueError, ZeroDivisionError)):
                read("(1, 2, 3, 4)", sizeless)
        else:
            read("(1, 2, 3, 4)", sizeless)
