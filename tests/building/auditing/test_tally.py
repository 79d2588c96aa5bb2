"""What is counted while entries pass by."""

import numpy as np
import pytest

from locvlm.building.auditing.entries import OUTSIDE
from locvlm.objectives.negpred import ABSENT_ANSWER


def test_questions_objects_and_classes_are_counted_by_record(tally_of, row):
    box = [10, 10, 30, 50]
    tally, _ = tally_of(
        [
            row("n1", ("locpred", "dog", box), ("revloc", "dog", box), ("negpred", "cat", None)),
            row("n2", ("revloc", "dog", [0, 0, 100, 80])),
        ]
    )
    assert (tally.num_entries, tally.num_questions, tally.num_boxes) == (2, 4, 3)
    assert tally.counts.queries == {"locpred": 1, "revloc": 2, "negpred": 1}
    assert tally.questions == {3: 1, 1: 1}
    assert tally.objects == {"dog": 2}  # asked for and about, and still one object of its record
    assert tally.objects_px().tolist() == [[10, 10, 30, 50, 100, 80], [0, 0, 100, 80, 100, 80]]


@pytest.mark.parametrize(
    ("box", "is_beyond"),
    [
        ([0, 0, 100, 80], False),
        ([0, 0, 100.005, 80], False),  # a float's loss
        ([0, 0, 101, 80], True),
        ([0, -0.5, 50, 40], True),
        ([-2, 0, 50, 40], True),
        ([0, 0, 50, 80.5], True),
    ],
)
def test_boxes_over_the_border_are_counted(tally_of, row, box, is_beyond):
    tally, _ = tally_of([row("n1", ("locpred", "dog", box), ("locpred", "cat", [1, 1, 9, 9]))])
    assert tally.num_outside == tally.num_beyond == int(is_beyond)
    assert tally.num_boxes == 2
    assert tally.beyond == ([f"n1: {box} of 100 x 80"] if is_beyond else [])


def test_boxes_that_were_taken_out_count_as_outside(tally_of, row):
    tally, _ = tally_of([row("n1", ("locpred", "dog", [200, 0, 210, 9]), ("locpred", "cat", [1, 1, 9, 9]))])
    assert (tally.num_outside, tally.num_boxes) == (1, 2)
    assert tally.box_faults == {OUTSIDE: 1}


def test_a_question_asked_again_about_its_image_is_found_under_any_name_of_the_image(tally_of, row):
    first = ("locpred", "dog", [1, 1, 9, 9])
    names = ["train2017/000000000009.jpg", "COCO_train2014_000000000009.jpg", "000000000010.jpg"]
    rows = [row(f"r{k}", first, ("negpred", "cat", None), image=name) for k, name in enumerate(names)]
    rows[1]["queries"][1]["phrase"] = "owl"
    tally, _ = tally_of(rows)
    assert tally.num_repeated_questions == 1
    assert tally.repeated == ["r1: locpred dog 1 1 9 9"]
    assert tally.image_times == {"coco 9": 2, "coco 10": 1}
    assert tally.paths == {names[0]: "coco 9", names[1]: "coco 9", names[2]: "coco 10"}


def test_text_alone_may_be_said_again(tally_of, conversation):
    thanks = ("Thank you", "You are welcome.")
    entries = [conversation("a", thanks), conversation("b", thanks)]
    assert tally_of(entries, "a.json")[0].num_repeated_questions == 0
    entries = [conversation(name, thanks, image="n1.jpg") for name in "ab"]
    assert tally_of(entries, "a.json")[0].num_repeated_questions == 1


def test_a_video_is_one_however_often_it_is_asked_about(tally_of, row):
    rows = [row(name, ("negpred", "cat", None), image=None, video="v_1.mp4") for name in "ab"]
    tally, _ = tally_of([*rows, row("n1", ("negpred", "cat", None))])
    assert (tally.num_videos, len(tally.image_times)) == (1, 2)
    assert list(tally.paths) == ["n1.jpg"]


def test_conversations_are_told_apart_by_the_wording_of_their_answers(tally_of, conversation):
    turns = [
        ("Where is the dog?", "It is located at (1, 2, 3, 4)"),
        ("Where is a red cat?", ABSENT_ANSWER),
        ("Why?", "Because."),
    ]
    tally, _ = tally_of([conversation("c1", *turns, image="n1.jpg")], "a.json")
    assert tally.counts.queries == {"locpred": 1, "negpred": 1, "conversation": 1}
    assert [(p.text, p.is_absent, p.num_words) for p in tally.prompts] == [
        ("Where is the dog?", False, 4),
        ("Where is a red cat?", True, 5),
    ]


def test_prompts_are_those_of_an_epoch(tally_of, row):
    from locvlm.building.preview import LOCVLM_B
    from locvlm.io import record_from_json
    from locvlm.objectives.render import render_record

    one = row(
        "n1", ("revloc", "cow", [1, 1, 9, 9]), ("locpred", "old dog", [1, 1, 9, 9]), ("negpred", "cat", None)
    )
    tally, _ = tally_of([one])
    sample = render_record(record_from_json(one), LOCVLM_B, seed=0, epoch=0)
    said = [branch[0].question for branch in sample.branches]
    assert [(p.image, p.text, p.is_absent, p.num_words) for p in tally.prompts] == [
        ("n1", said[1], False, 2),
        ("n1", said[2], True, 1),
    ]


def test_24_samples_are_drawn_the_same_every_time_and_from_everywhere(tally_of, row):
    rows = [row(f"n{k}", ("negpred", "cat", None)) for k in range(500)]
    first, second = (sorted(number for number, _ in tally_of(rows)[0].samples) for _ in range(2))
    assert first == second
    assert len(set(first)) == 24
    assert np.mean(first) == pytest.approx(250, abs=90)  # three standard deviations of such a mean
    assert len(tally_of(rows[:5])[0].samples) == 5
