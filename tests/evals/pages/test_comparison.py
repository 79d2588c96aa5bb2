"""The page of two runs: what changed, with both answers."""

import pytest
from PIL import Image

from locvlm.evals.pages.comparison import render_page
from locvlm.evals.parse import Absent, YesNo
from locvlm.evals.reports.compare import compare_runs
from locvlm.geometry import Box


@pytest.fixture
def images(tmp_path):
    Image.new("RGB", (200, 100), (40, 90, 40)).save(tmp_path / "0.png")
    return tmp_path


def test_lost_and_won_questions_are_shown_with_both_answers(answered, judged, read_page):
    def rows(words, **facts):
        return [
            judged(
                YesNo(word == "y"),
                record=f"r{n}",
                image=f"{n}.png",
                answer="yes",
                said=f"{word} & so",
                **facts,
            )
            for n, word in enumerate(words)
        ]

    question = "Is <b>it</b> there?"
    runs = [
        answered(name, pope_random=rows(words, question=question))
        for name, words in (("A", "yyn"), ("B", "nyy"))
    ]
    page = read_page(render_page(compare_runs(*runs)))
    assert "B beside A: clearly higher in 0 of 1 tasks, clearly lower in 0." in page.text
    assert "Won: wrong in A, right in B" in page.text
    assert "Lost: right in A, wrong in B" in page.text
    assert page.text.count(question) == 2  # as text, each changed question once
    assert page.text.count("A n & so") == page.text.count("B y & so") == 1
    assert "version" in page.text
    assert "greedy" in page.text


def test_boxes_of_both_are_drawn_over_the_photograph(answered, judged, read_page, images):
    first = [judged(Box(0, 0, 40, 40)), judged(Absent(), record="s")]
    second = [judged(Box(50, 0, 90, 40)), judged(Box(0, 0, 40, 40), record="s")]
    runs = [answered(name, locpred=rows) for name, rows in (("A", first), ("B", second))]
    for run in runs:
        found = run.answers["locpred"]
        object.__setattr__(found.meta, "image_root", str(images))
    page = read_page(render_page(compare_runs(*runs)))
    drawn = [(a["class"], a["x"]) for tag, a in page.tags if tag == "rect" and a["class"] != "halo"]
    assert drawn == [
        ("true", "0.00"),
        ("said", "0.00"),
        ("true", "0.00"),
        ("asked", "0.00"),
        ("said", "50.00"),
    ]
    assert sum(tag == "img" and attrs["src"].startswith("data:image/jpeg") for tag, attrs in page.tags) == 2


def test_runs_that_agree_change_nothing(answered, judged, read_page):
    rows = [judged(YesNo(True), answer="yes")]
    page = read_page(render_page(compare_runs(*(answered(name, pope_random=rows) for name in "AB"))))
    assert "what changed" not in page.text
    assert "1.000" in page.text
