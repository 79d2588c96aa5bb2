"""What a score hides: confusions, pairs in both orders, breakdowns of single answers."""

from dataclasses import replace

import pytest

from locvlm.evals.judging.verdicts import Unjudged
from locvlm.evals.parse import Chosen, Named, Said, Sides, Unanswered, Unreadable, YesNo
from locvlm.evals.reports.diagnoses import (
    confusion,
    diagnose,
    first_metric,
    flips,
    is_right,
    objects_asked,
    right_metric,
)
from locvlm.geometry import Box
from locvlm.objectives.spatial import EXEMPLAR, QUESTION


@pytest.fixture
def pair(judged):
    """pair(n, "left", "right"): what was said of the two orders of the n-th pair; true are left, right."""

    def make(number, *said):
        asked = [("cup", "dog"), ("dog", "cup")]
        return [
            judged(
                Sides(words) if words else Unreadable("none"),
                record=f"{number}-{order}",
                image=f"{number}.png",
                question=QUESTION.format(reference=asked[order][0], asked=asked[order][1]),
                answer=("left", "right")[order],
            )
            for order, words in enumerate(side.split() for side in said)
        ]

    return make


def test_both_orders_of_a_pair_are_told_apart(pair):
    rows = [
        *pair(0, "left", "right"),
        *pair(1, "right", "left"),
        *pair(2, "left", "left"),
        *pair(3, "right", "right"),
        *pair(4, "left", "left"),
        *pair(5, "left right", "right"),
        *pair(6, "left", ""),
        *pair(7, "left", "right")[:1],  # asked in one order only
    ]
    found = flips(rows)
    assert (found.pairs, found.both_right, found.both_inverted, found.other) == (7, 1, 1, 2)
    assert found.same_word == {"left": 2, "right": 1}
    assert found.consistent_fraction == pytest.approx(2 / 7)


def test_a_word_of_the_other_axis_says_no_side(pair):
    [first, second] = pair(0, "left above", "below")
    found = flips([first, second])
    assert (found.both_right, found.other) == (0, 1)


def test_tasks_without_pairs_have_no_flips(judged, pair):
    assert flips([]) is None
    assert flips(pair(0, "left", "right")[:1]) is None
    assert (
        flips([judged(YesNo(True), answer="yes", question=QUESTION.format(reference="a", asked="b"))]) is None
    )


def test_the_last_question_of_a_prompt_is_the_one_asked(judged):
    exemplar = EXEMPLAR.format(
        question=QUESTION.format(reference="a", asked="b"), reference="a", phrase="above", asked="b"
    )
    text = f"{exemplar} Q: {QUESTION.format(reference='potted plant', asked='b')}"
    assert objects_asked(judged(Sides(("left",)), question=text)) == ("potted plant", "b")
    assert objects_asked(judged(Sides(("left",)), question="Where is it?")) is None


def test_confusion_of_yes_and_no_counts_what_could_not_be_read_or_asked(judged):
    rows = [
        judged(reading, answer=answer)
        for answer, reading in [
            ("yes", YesNo(True)),
            ("yes", YesNo(False)),
            ("yes", Unreadable("both")),
            ("no", YesNo(True)),
            ("no", YesNo(True)),
            ("no", Unanswered("unreadable image")),
        ]
    ]
    assert confusion(rows) == {
        "no": {"no": 0, "yes": 2, "not asked": 1, "unreadable": 0},
        "yes": {"no": 1, "yes": 1, "not asked": 0, "unreadable": 1},
    }


def test_confusion_of_sides_and_options(judged, pair):
    assert confusion(pair(0, "left right", "right")) == {
        "left": {"left": 0, "right": 0, "both": 1},
        "right": {"left": 0, "right": 1, "both": 0},
    }
    row = judged(Chosen("under"), answer="on", source={"options": ["on", "under"]})
    assert confusion([row]) == {"on": {"on": 0, "under": 1}}


def test_free_answers_and_many_options_have_no_confusion(judged):
    assert confusion([judged(Said("blue"), answer="blue")]) == {}
    captions = [judged(Chosen("a"), answer=f"caption {n}", source={"options": ["a"]}) for n in range(9)]
    assert confusion(captions) == {}


def test_boxes_are_broken_down_by_size_and_distance_whatever_the_task_declares(judged, locpred_task):
    task = replace(locpred_task, breakdowns=("category",))
    boxes = {"small": Box(90, 40, 110, 60), "corner": Box(0, 0, 20, 20), "large": Box(50, 0, 190, 100)}
    rows = [
        judged(box if name != "corner" else Box(100, 50, 120, 70), record=name, image=name, box_px=list(box))
        for name, box in boxes.items()
    ]
    found = diagnose(task, rows)
    assert found.metric == "acc50"
    by_size = {group.title: (group.score.questions, group.score.value) for group in found.breakdowns["size"]}
    assert by_size == {"small": (2, 0.5), "large": (1, 1.0)}
    assert {group.title for group in found.breakdowns["distance"]} == {"central", "outer"}
    assert {group.title for group in found.breakdowns["category"]} == {"mug"}


def test_questions_without_a_box_or_a_size_have_no_such_breakdowns(judged, locpred_task):
    task = replace(locpred_task, metrics=("accuracy",), breakdowns=())
    rows = [
        judged(YesNo(True), answer="yes", box_px=None),
        judged(YesNo(True), answer="yes", width=0, height=0),
    ]
    assert diagnose(task, rows).breakdowns == {}


def test_right_is_what_the_first_metric_says_of_one_answer(judged, tasks):
    rows = [judged(Box(0, 0, 40, 40)), judged(Box(50, 50, 60, 60))]
    metric = right_metric(tasks["locpred"], rows)
    assert metric == "acc50"
    assert [is_right(metric, row) for row in rows] == [True, False]
    answers = ["net", "net", *["rope"] * 8]
    row = judged(Said("net"), source={"answers": answers})  # worth 0.6
    assert right_metric(tasks["vqav2_val"], [row]) == "vqa_accuracy"
    assert is_right("vqa_accuracy", row)


def test_descriptions_are_neither_right_nor_wrong(judged, tasks):
    rows = [judged(Said("a mug"), source={"references": ["mug"]})]
    assert right_metric(tasks["rd_refcocog_val"], rows) is None
    assert first_metric(tasks["rd_refcocog_val"], rows) == "token_f1"  # what breakdowns are by
    assert right_metric(tasks["locpred"], []) is None


def test_answers_that_nobody_judged_are_right_by_their_words(judged, tasks):
    row = replace(judged(Said("yes"), answer="yes"), verdict=Unjudged("not judged"))
    assert right_metric(tasks["activitynet_qa"], [row]) == "exact_match"


def test_names_are_broken_down_as_well(judged, tasks):
    found = diagnose(tasks["revloc"], [judged(Named("mug"), objective="revloc")])
    assert found.metric == "exact_name"
    assert [group.score.value for group in found.breakdowns["size"]] == [1.0]
