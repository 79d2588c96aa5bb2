import json

import pytest

from locvlm.evals.measures.vqa import (
    exact_match,
    normalise_vqa,
    vqa_accuracy,
    vqa_accuracy_normalised,
    vqa_score,
)
from locvlm.evals.parse import Said, Unanswered, Unreadable


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("The Dog", "dog"),
        ("a an the", ""),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("ten.", "10"),
        ("isnt it", "isn't it"),
        ("couldnt've, couldn'tve", "couldn't've couldn't've"),
        ("couldntve", "couldntve"),  # two apostrophes too few
        ("somebody'd", "somebodyd"),  # the official table has it the wrong way round
        ("Im", "im"),  # its entries with capitals are never met
        ("left-hand", "left hand"),  # a mark between letters becomes a space
        ("left - hand", "left hand"),  # one beside a space goes
        ("cats/dogs, mice", "cats dogs mice"),
        ("well-known, 1,000-strong", "wellknown 1000strong"),  # a comma between digits: all marks go
        ("3.5", "3.5"),
        ("U.S.A.", "usa"),
        ("it's", "it's"),
        ("red\u00e9 (blue)", "redé blue"),
        ("." * 33, "."),  # the official code removes 32
        ("", ""),
    ],
)
def test_the_official_normalisation(answer, normalised):
    assert normalise_vqa(answer) == normalised


@pytest.mark.parametrize(
    ("answer", "humans", "score"),
    [
        # n of ten said it: n of the leave-one-out means have n - 1 of them, the others n
        ("net", ["net"] * 10, 1.0),
        ("net", ["net"] * 4 + ["mesh"] * 6, 1.0),
        ("net", ["net"] * 3 + ["mesh"] * 7, (3 * 2 / 3 + 7) / 10),
        ("net", ["net"] * 2 + ["mesh"] * 8, (2 * 1 / 3 + 8 * 2 / 3) / 10),
        ("net", ["net"] + ["mesh"] * 9, (0 + 9 * 1 / 3) / 10),
        ("net", ["mesh"] * 10, 0.0),
        ("Yes", ["yes"] * 10, 0.0),  # all agree: nothing is normalised
        ("Yes", ["yes"] * 9 + ["no"], 1.0),
        ("two", ["2"] * 5 + ["two"] * 5, 1.0),
        ("two", ["2"] * 10, 0.0),
        ("a net\n", ["net"] * 5 + ["Net."] * 5, 1.0),
        (" yes\t", ["yes"] * 10, 1.0),  # but white space at the ends is not looked at
        ("", ["yes"] * 9 + ["no"], 0.0),
    ],
)
def test_the_official_accuracy_of_one_answer(answer, humans, score):
    assert vqa_score(answer, humans) == pytest.approx(score, abs=1e-15)


def test_answers_of_the_real_file_score_by_how_many_people_gave_them(shared_data):
    annotations = json.loads((shared_data / "vqa_gqa" / "vqav2_annotations.json").read_text())["annotations"]
    humans = [answer["answer"] for answer in annotations[0]["answers"]]
    assert humans.count("net") == 6
    assert vqa_score("a Net.", humans) == 1.0
    assert vqa_score("mesh", humans) == pytest.approx(0.3)  # one of ten


def test_every_question_counts_and_one_without_an_answer_is_wrong(judged):
    mixed, agreed = ["net"] * 9 + ["mesh"], ["yes"] * 10
    rows = [
        judged(Said("net"), source={"answers": mixed}),
        judged(Said("mesh"), source={"answers": mixed}),
        judged(Said("Yes."), source={"answers": agreed}),
        judged(Unreadable("an empty answer"), source={"answers": agreed}),
        judged(Unanswered("unreadable image"), source={"answers": agreed}),
    ]
    assert vqa_accuracy(rows) == pytest.approx((1 + 0.3) / 5)
    assert vqa_accuracy_normalised(rows) == pytest.approx((1 + 0.3 + 1) / 5)


def test_exact_match_ignores_case_and_the_final_stop_and_nothing_else(judged):
    said = ("Picture.", "picture", "a picture", "pictures", "picture, yes")
    rows = [judged(Said(text), answer="picture") for text in said]
    assert exact_match(rows) == 2 / 5
    assert exact_match([judged(Unreadable("an empty answer"), answer="picture")]) == 0
