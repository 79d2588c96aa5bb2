import pytest

from locvlm.evals.judged import MetricUnavailable
from locvlm.evals.measures.choices import (
    accuracy,
    first_option_fraction,
    flip_consistency,
    order_gap,
    pair_accuracy,
    set_accuracy,
)
from locvlm.evals.parse import Chosen, Unreadable

SIDES, LAYERS = ["left", "right"], ["on", "under"]


@pytest.fixture
def asked(judged):
    """asked("left", "right", group=..., set=...): said left where right is true; None is unreadable."""

    def make(said, true, **source):
        options = SIDES if true in SIDES else LAYERS
        reading = Unreadable("neither") if said is None else Chosen(said)
        return judged(reading, answer=true, source={"options": options, **source})

    return make


def test_pairs_and_sets_count_only_if_all_of_them_are_right(asked):
    rows = [
        asked(said, true, group=f"{scene} {pair}", set=scene)
        for scene, answers in (("a", "left right on under"), ("b", "left left on under"))
        for said, true, pair in zip(answers.split(), [*SIDES, *LAYERS], "xxyy", strict=True)
    ]
    assert accuracy(rows) == 7 / 8
    assert pair_accuracy(rows) == 3 / 4
    assert set_accuracy(rows) == 1 / 2


def test_only_groups_that_were_asked_whole_count(asked):
    whole = [asked("left", "left", group="a"), asked("right", "right", group="a")]
    assert pair_accuracy([*whole, asked("left", "right", group="b"), asked("left", "left")]) == 1
    with pytest.raises(MetricUnavailable, match="no group of 2 questions was asked whole"):
        pair_accuracy(whole[:1])
    with pytest.raises(ValueError, match="3 questions have the group 'a', expected 2"):
        pair_accuracy([*whole, asked("left", "left", group="a")])


def test_a_pair_is_consistent_if_both_are_right_or_both_are_taken_for_the_other(asked):
    said = {"a": ("left", "right"), "b": ("right", "left"), "c": ("left", "left"), "d": (None, None)}
    rows = [
        asked(one, true, group=group)
        for group, answers in said.items()
        for one, true in zip(answers, SIDES, strict=True)
    ]
    assert flip_consistency(rows) == 2 / 4


def test_the_pull_of_the_option_that_is_named_first(asked):
    rows = [asked("left", "left"), asked("left", "left"), asked("left", "right"), asked("right", "right")]
    assert first_option_fraction(rows) == 3 / 4
    assert order_gap(rows) == 1 - 1 / 2
    assert order_gap(rows[:2]) == 0  # what is right was always named first: nothing to compare


def test_an_unreadable_answer_takes_no_option(asked):
    rows = [asked(None, "left"), asked("right", "right")]
    assert (accuracy(rows), first_option_fraction(rows)) == (1 / 2, 0)
