"""Examples of a task: right and wrong, drawn at random, all text escaped."""

import re

import pytest
from PIL import Image

from locvlm.evals.pages.cards import draw, truth_text
from locvlm.evals.pages.examples import NUM_EXAMPLES, render_examples
from locvlm.evals.parse import Named, Said, Unanswered, YesNo
from locvlm.geometry import Box


@pytest.fixture
def images(tmp_path):
    Image.new("RGB", (200, 100), (40, 90, 40)).save(tmp_path / "0.png")
    return tmp_path


def test_right_and_wrong_answers_are_shown_apart(answers, judged, tasks, images, read_page):
    rows = [
        judged(Box(0, 0, 40, 40), said="It is at <b>(0, 0)</b>"),
        judged(Box(90, 0, 99, 9), record="s", said="far"),
        judged(Unanswered("unreadable image: gone"), record="t", failed="unreadable image: gone"),
    ]
    page = read_page(render_examples(answers(tasks["locpred"], rows, image_root=str(images))))
    assert "1 right, 2 wrong." in page.text
    assert "asked 3, answered 2, failed 1, unreadable 0" in page.text
    right, wrong = page.text.split("Wrong", 1)
    assert "It is at <b>(0, 0)</b>" in right
    assert "far" in wrong
    assert "unreadable image: gone" in wrong
    kinds = [attrs["class"] for tag, attrs in page.tags if tag == "rect" and attrs["class"] != "halo"]
    assert kinds == ["true", "said", "true", "said", "true"]


def test_an_image_of_unknown_size_is_shown_without_boxes(answers, judged, tasks, images, read_page):
    rows = [judged(YesNo(True), objective="vqa", answer="yes", box_px=None, width=0, height=0)]
    page = read_page(render_examples(answers(tasks["pope_random"], rows, image_root=str(images))))
    [image] = [attrs for tag, attrs in page.tags if tag == "img"]
    assert image["src"].startswith("data:image/jpeg")
    assert "truth: yes" in page.text
    assert "None." in page.text  # nothing is wrong


def test_descriptions_are_shown_without_a_verdict(answers, judged, tasks, read_page):
    rows = [
        judged(Said("a mug"), objective="revloc", source={"references": ["cup", "mug", "cup"]}, image=None)
    ]
    page = read_page(render_examples(answers(tasks["rd_refcocog_val"], rows)))
    assert "1 answers." in page.text
    assert "truth: cup / mug" in page.text


def test_at_most_so_many_are_drawn_by_the_seed(answers, judged, tasks, read_page):
    rows = [
        judged(Named("mug"), objective="revloc", record=f"r{n}", image=None, said=f"said {n}.")
        for n in range(50)
    ]
    found = answers(tasks["revloc"], rows)
    page = render_examples(found, seed=0)
    assert page == render_examples(found, seed=0)
    assert page != render_examples(found, seed=1)
    assert len(re.findall(r"said \d+\.", read_page(page).text)) == NUM_EXAMPLES
    assert draw(rows, 3, seed="x") == draw(rows, 3, seed="x")
    assert len(draw(rows[:2], 3, seed="x")) == 2


def test_the_truth_is_told_where_no_box_shows_it(judged):
    assert truth_text(judged(Named("x"))) == ""
    assert truth_text(judged(Named("x"), objective="negpred", phrase="kite")) == "truth: there is no kite"
    assert truth_text(judged(Named("x"), objective="revloc", phrase="red mug")) == "truth: red mug"
    assert truth_text(
        judged(Said("x"), objective="vqa", answer="net", source={"answers": ["net", "rope"]})
    ) == ("truth: net / rope")
