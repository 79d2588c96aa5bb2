"""Five-row tables, each with a right, a wrong and an unreadable answer, worked out by hand."""

import pytest

from locvlm.evals.metrics import (
    BREAKDOWNS,
    CORPUS_METRICS,
    METRICS,
    centre_box_scores,
    is_hit,
    overlap_class,
    size_class,
)
from locvlm.evals.parse import Absent, Named, Sides, Unanswered, Unreadable
from locvlm.geometry import Box, Point

UNREADABLE, FAILED = Unreadable("no location"), Unanswered("unreadable image")


@pytest.fixture
def located(judged):
    """The true box is (0, 0, 40, 40)."""
    readings = [
        Box(0, 0, 40, 40),  # IoU 1
        Box(0, 0, 40, 20),  # IoU 0.5, just right
        Box(20, 0, 60, 40),  # IoU 1/3
        Absent(),
        UNREADABLE,
    ]
    return [judged(reading) for reading in readings]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("acc50", 2 / 5),
        ("acc75", 1 / 5),
        ("miou", (1 + 1 / 2 + 1 / 3) / 5),
        ("absent_fraction", 1 / 5),
        ("location_fraction", 3 / 5),
        ("unreadable_fraction", 1 / 5),
    ],
)
def test_metrics_of_locations(located, metric, expected):
    assert METRICS[metric](located) == pytest.approx(expected, abs=1e-12)


def test_a_question_that_could_not_be_asked_counts_as_wrong_but_not_as_unreadable(located, judged):
    with_failure = [*located, judged(FAILED, failed="unreadable image")]
    assert METRICS["acc50"](with_failure) == pytest.approx(2 / 6)
    assert METRICS["unreadable_fraction"](with_failure) == pytest.approx(1 / 6)


def test_absent_questions_have_no_box_and_only_the_sentence_is_right(judged):
    rows = [judged(r, box_px=None) for r in (Absent(), Absent(), Box(0, 0, 9, 9), UNREADABLE, FAILED)]
    assert METRICS["absent_fraction"](rows) == 2 / 5
    assert METRICS["location_fraction"](rows) == 1 / 5
    assert METRICS["unreadable_fraction"](rows) == 1 / 5


def test_a_name_is_right_as_the_class_or_as_the_description_asked_about(judged):
    rows = [
        judged(Named("mug")),
        judged(Named("striped mug"), phrase="a Striped mug"),
        judged(Named("mug"), phrase="a striped mug"),
        judged(Named("mugs")),
        judged(UNREADABLE),
    ]
    assert METRICS["exact_name"](rows) == 3 / 5


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("side_accuracy", 1 / 5),
        ("side_accuracy_exemplar_gold", 2 / 5),
        ("both_sides_fraction", 1 / 5),
        ("unreadable_fraction", 1 / 5),
    ],
)
def test_metrics_of_sides(judged, metric, expected):
    rows = [
        judged(Sides(("left",)), answer="left"),
        judged(Sides(("right",)), answer="left"),
        judged(Sides(("below", "left")), answer="right"),  # the other axis does not matter
        judged(Sides(("above", "below")), answer="above"),
        judged(UNREADABLE, answer="above"),
    ]
    assert METRICS[metric](rows) == expected


def test_a_side_word_of_the_other_axis_answers_nothing(judged):
    rows = [judged(Sides(("left",)), answer="above")]
    assert METRICS["side_accuracy"](rows) == METRICS["side_accuracy_exemplar_gold"](rows) == 0


def test_a_point_hits_inside_the_true_box(judged):
    assert is_hit(judged(Point(40, 0)))
    assert not is_hit(judged(Point(41, 0)))


def test_no_rows_score_zero():
    assert {metric([]) for metric in METRICS.values()} == {0.0}


def test_sizes_are_relative_to_the_image(judged):
    # 200 x 100 pixels: a square of the same area has a side of 141.4
    assert size_class(judged(Absent(), box_px=[0, 0, 28, 28])) == "small"  # 0.198
    assert size_class(judged(Absent(), box_px=[0, 0, 29, 29])) == "medium"  # 0.205
    assert size_class(judged(Absent(), box_px=[0, 0, 50, 50])) == "large"  # 0.354
    assert size_class(judged(Absent(), box_px=[0, 0, 50, 50], width=2000)) == "small"
    assert overlap_class(judged(Absent(), overlap_fraction=0.2)) == "overlapped"
    assert overlap_class(judged(Absent(), overlap_fraction=0.01)) == "free"


def test_the_distance_from_the_centre_is_in_parts_of_the_way_to_a_corner(judged):
    # 200 x 100 pixels: a corner is 111.8 from the centre (100, 50)
    distance = BREAKDOWNS["distance"]
    assert distance(judged(Absent(), box_px=[90, 40, 110, 60])) == "central"
    assert distance(judged(Absent(), box_px=[50, 40, 70, 60])) == "middle"  # 40 / 111.8 = 0.36
    assert distance(judged(Absent(), box_px=[0, 0, 40, 40])) == "outer"  # (20, 20): 85.4 / 111.8 = 0.76


def test_breakdowns_by_what_the_data_set_says_have_a_place_for_what_it_does_not(judged):
    row = judged(
        Absent(), source={"answer_type": "number", "types": {"structural": "query", "semantic": None}}
    )
    assert [BREAKDOWNS[name](row) for name in ("answer_type", "structural_type")] == ["number", "query"]
    assert [BREAKDOWNS[name](row) for name in ("semantic_type", "relation")] == ["other", "other"]
    assert BREAKDOWNS["structural_type"](judged(Absent())) == "other"  # gold of older predictions


def test_metrics_of_a_corpus_are_among_the_metrics():
    assert set(CORPUS_METRICS) < set(METRICS)


def test_the_centre_box_has_the_median_size_and_stands_in_the_middle(judged):
    # medians: width 40 of 200, height 40 of 100 -> the box (80, 30, 120, 70) for everybody
    boxes = ([80, 30, 120, 70], [100, 30, 140, 70], [0, 0, 40, 40])
    scores = centre_box_scores([judged(UNREADABLE, box_px=box) for box in boxes])
    assert scores == {"acc50": pytest.approx(1 / 3), "miou": pytest.approx((1 + 1 / 3 + 0) / 3)}
    assert centre_box_scores([]) == {"acc50": 0.0, "miou": 0.0}
