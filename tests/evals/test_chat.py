import pytest
from PIL import Image

from locvlm.evals.chat import Talk
from locvlm.geometry import Box

MUG = "(11, 11, 34, 56)"


@pytest.fixture
def talk(scripted, tmp_path):
    """talk(script): a conversation about a black image of 200 x 100 pixels."""
    Image.new("RGB", (200, 100)).save(tmp_path / "image.png")
    return lambda script: Talk(scripted(script), tmp_path / "image.png")


def test_short_questions_are_put_into_the_words_of_the_training_data(talk):
    about = talk(lambda question, pixels: "")
    assert about.in_full("where is the mug?") == (
        "Where is the object described mug located in image in terms of (x1,y1,x2,y2) bbox?"
    )
    assert about.in_full("What is at 20, 10, 60, 50?") == f"Describe the object located at {MUG}?"
    assert about.in_full("Is it raining?") == "Is it raining?"


def test_a_box_outside_the_image_is_refused(talk):
    with pytest.raises(ValueError, match="200 x 100 pixels"):
        talk(lambda question, pixels: "").in_full("what is at 300, 10, 360, 50")


def test_an_answers_box_is_in_source_pixels_and_drawn_there(talk):
    about = talk(lambda question, pixels: f"It is located at {MUG}")
    reply = about.ask("where is the mug")
    assert isinstance(reply.location, Box)
    assert tuple(reply.location) == pytest.approx((19.6, 9.8, 60.7, 50), abs=0.1)
    assert reply.describe() == "box (20, 10, 61, 50) px"
    picture = about.drawing()
    assert picture.size == (200, 100)
    assert picture.getbbox() == pytest.approx(
        (20, 10, 61, 50), abs=1.5
    )  # the outermost pixel is a black outline
    assert picture.getpixel((45, 40)) == (0, 0, 0)  # nothing inside


def test_an_answer_without_a_box_draws_nothing(talk):
    about = talk(lambda question, pixels: "There is no such object in the image")
    assert about.ask("where is the kite").location is None
    assert about.drawing().getextrema() == ((0, 0),) * 3
