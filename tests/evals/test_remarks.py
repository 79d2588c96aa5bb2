"""Every kind of bad answer is counted under its name, in scores, tables and reports."""

from dataclasses import replace

import pytest

from locvlm.evals.parse import Unreadable
from locvlm.evals.remarks import describe_remarks, remarks
from locvlm.evals.score import format_table, judge, score_rows
from locvlm.records import Prediction

SIDE = {"source": {"options": ["left", "right"]}}


@pytest.fixture
def read(contract):
    """read("location", answer, ...): answers of a 448 x 56 image, read by a parser."""

    def judge_all(parse: str, *answers: str, image: str | None = "0.png", failed: str = "", **gold: object):
        known = {"objective": "vqa", "answer": "left", "width": 448, "height": 56, "box_px": None}
        predictions = (
            Prediction(
                id=f"r/{number}",
                record_id="r",
                image=image,
                question="?",
                answer=answer,
                gold={**known, **gold},
                failed=failed,
            )
            for number, answer in enumerate(answers)
        )
        return [judge(prediction, parse=parse, contract=contract) for prediction in predictions]

    return judge_all


@pytest.mark.parametrize(
    ("parse", "answer", "kind"),
    [
        ("location", "It is on the left", "unreadable: no location"),
        ("location", "It is located at (1, 2, 30)", "unreadable: wrong count"),
        ("location", "It is located at (1, 2, 30, 400)", "unreadable: out of range"),
        ("location", "It is located at (30, 2, 10, 40)", "unreadable: out of range"),
        ("location", "(0, 0, 56, 56) or (1, 2, 3, 4)", "several locations, the first read"),
        (
            "location",
            "(1, 2, 3, 4). There is no such object in the image",
            "unreadable: a location and the absent sentence in one answer",
        ),
        ("description", "mug", "unreadable: no description"),
        ("side", "the leftover is bright", "unreadable: no side"),
        ("choice", "the leftover is bright", "unreadable: no option"),
        ("choice", "left or right", "unreadable: several options"),
        ("yes_no", "nothing, nor yesterday", "unreadable: neither yes nor no"),
        ("yes_no", "Yes and no", "unreadable: both yes and no"),
        ("yes_no_lmms", "Yes.", "unreadable: neither yes nor no"),
        *((parse, " \n", "unreadable: empty answer") for parse in ("location", "description", "side")),
        *((parse, "", "unreadable: empty answer") for parse in ("text", "choice", "yes_no", "yes_no_lmms")),
        ("yes_no_pope", "", "empty, and read all the same"),
    ],
)
def test_each_kind_of_bad_answer_has_a_name(read, parse, answer, kind):
    assert remarks(read(parse, answer, answer, **SIDE)) == {kind: 2}


@pytest.mark.parametrize(
    ("parse", "answer"),
    [("location", "(0, 0, 56, 56)"), ("side", "left"), ("choice", "to the left"), ("yes_no_pope", "Yes.")],
)
def test_good_answers_are_not_remarked_upon(read, parse, answer):
    assert remarks(read(parse, answer, **SIDE)) == {}


def test_questions_without_an_image_and_failed_ones_are_counted(read):
    rows = [
        *read("side", "left", image=None),
        *read("side", "", image=None, failed="no answer: this model needs an image"),
        *read("side", "", failed="unreadable image: 0.png: no such image"),
        *read("side", "", failed="the crop frame cuts the object away"),
    ]
    assert remarks(rows) == {
        "failed: no answer": 1,
        "failed: the crop frame cuts the object away": 1,
        "failed: unreadable image": 1,
        "without an image": 2,
    }


def test_scores_and_their_table_say_how_many_are_odd_in_which_way(read, locpred_task):
    rows = read(
        "location",
        "(0, 0, 56, 56)",
        "nowhere",
        "(0, 0, 0, 999)",
        "(5, 5, 1, 1)",
        "",
        "(0, 0, 56, 56), (1, 2, 3, 4)",
        box_px=[0, 0, 224, 28],
    )
    task = replace(locpred_task, metrics=("acc50",), breakdowns=())
    result = score_rows(task, rows)
    assert (result["asked"], result["unreadable"], result["scores"]) == (6, 4, {"acc50": 2 / 6})
    assert result["remarks"] == {
        "several locations, the first read": 1,
        "unreadable: empty answer": 1,
        "unreadable: no location": 1,
        "unreadable: out of range": 2,
    }
    told = "2 unreadable: out of range; 1 several locations, the first read; 1 unreadable: empty answer; "
    assert told in format_table({"tasks": {"locpred": result}})


def test_the_unreadable_ones_among_the_remarks_are_all_that_are_unreadable(read):
    answers = ("", "left", "leftover", "right or left", "Left.", "there")
    rows = read("choice", *answers, **SIDE)
    unreadable = [row for row in rows if isinstance(row.reading, Unreadable)]
    counted = {kind: n for kind, n in remarks(rows).items() if kind.startswith("unreadable: ")}
    assert sum(counted.values()) == len(unreadable) == 4


def test_nothing_odd_is_said_in_no_words():
    assert describe_remarks({}) == ""
    assert describe_remarks({"b": 1, "a": 1, "c": 1200}) == "1,200 c; 1 a; 1 b"
