"""Limits: what holds, what is broken, and what could not be measured."""

import math

import pytest

from locvlm.building.auditing.images import Copies, Leak
from locvlm.building.auditing.verdicts import Limits, Verdict, verdicts_of


@pytest.fixture
def judged_of(tally_of):
    """judged_of(rows): name -> verdict."""

    def judged(rows, *, limits=None, leaks=None, copies=None, name="a.jsonl"):
        tally, ledger = tally_of(rows, name)
        verdicts, _ = verdicts_of(tally, ledger, limits or Limits(), leaks=leaks, copies=copies)
        return {verdict.name: verdict for verdict in verdicts}

    return judged


def test_a_sound_file_holds_every_limit_that_can_be_measured(judged_of, asked):
    judged = judged_of(asked(600), copies=Copies(num_files=600, missing=(), copies=()), leaks=[])
    assert {name: verdict.holds for name, verdict in judged.items()} == {
        "unreadable": True,
        "outside": True,
        "repeated_questions": True,
        "repeated_images": None,
        "missing": True,
        "copies": True,
        "leaked": True,
        "prompts: a classifier of the prompt's words": True,
        "prompts: the class alone": True,
    }


@pytest.mark.parametrize("limit", [-0.1, 1.1, math.nan, math.inf])
def test_a_limit_that_is_no_fraction_is_refused(limit):
    with pytest.raises(ValueError, match="a limit is a fraction"):
        Limits(leaked=limit)


def test_a_limit_holds_up_to_itself():
    def holds(got, limit):
        return Verdict(name="a", what="a", got=got, limit=limit).holds

    assert (holds(0.01, 0.01), holds(0.0101, 0.01), holds(None, 0.01), holds(0.5, None)) == (
        True,
        False,
        None,
        None,
    )


def test_words_say_what_holds():
    verdict = Verdict(name="a", what="faults", got=0.00001, limit=0.0, detail="1 of 100,000")
    assert str(verdict) == "BROKEN  faults: under 0.01% (limit 0%); 1 of 100,000"
    assert "0.500 (limit 0.550)" in str(Verdict(name="a", what="a", got=0.5, limit=0.55, is_accuracy=True))
    assert "not measured (no limit)" in str(Verdict(name="a", what="a", got=None, limit=None))


def test_files_are_judged_by_those_that_are_there(judged_of, row):
    rows = [row(f"n{k}", ("negpred", "cat", None)) for k in range(4)]
    copies = Copies(num_files=3, missing=("n3.jpg",), copies=(("n1.jpg", "n0.jpg"),))
    judged = judged_of(rows, copies=copies)
    assert judged["missing"].got == 0.25
    assert judged["copies"].got == pytest.approx(1 / 3)
    assert "n1.jpg = n0.jpg" in judged["copies"].detail
    assert not judged["missing"].holds
    assert judged_of(rows, copies=copies, limits=Limits(missing=0.25, copies=0.34))["missing"].holds
    assert judged_of(rows)["missing"].got is None


def test_leaks_are_a_share_of_the_images_that_could_be_known(judged_of, row):
    names = ["000000000042.jpg", "000000000043.jpg", "000017.jpg"]
    rows = [row(f"r{k}", ("negpred", "cat", None), image=name) for k, name in enumerate(names)]
    leaks = [Leak(file=name, num_images=9, shared=("coco 42",)) for name in ("pope", "vqa")]
    judged = judged_of(rows, leaks=leaks)["leaked"]
    assert judged.got == 0.5  # one of two, although two evaluations have it
    assert judged.detail == "1 of 2; pope: 1 of its 9; vqa: 1 of its 9"
    numbered = judged_of(rows[2:], leaks=leaks)["leaked"]
    assert (numbered.got, numbered.holds) == (None, None)
    assert "000017.jpg" in numbered.detail


def test_without_boxes_nothing_is_said_of_boxes(judged_of, conversation):
    judged = judged_of([conversation("c1", ("Hello", "Hi."))], name="a.json")
    assert judged["outside"].got is None
    assert judged["outside"].detail == "there are none"


def test_few_prompts_are_not_judged(judged_of, asked):
    judged = judged_of(asked(100))
    for name in ("prompts: a classifier of the prompt's words", "prompts: the class alone"):
        assert judged[name].holds is None
    assert (
        "200 questions for what is there and 200 for what is absent"
        in judged["prompts: a classifier of the prompt's words"].detail
    )


def test_absent_phrases_that_differ_break_the_limit(judged_of, asked):
    judged = judged_of(asked(600, absent_phrase=lambda name: f"a {name}"))
    assert judged["prompts: a classifier of the prompt's words"].got > 0.95
    assert not judged["prompts: a classifier of the prompt's words"].holds
    assert not judged["prompts: the number of words alone"].holds


def test_absent_classes_that_differ_break_the_limit(judged_of, asked):
    judged = judged_of(asked(600, absent_class=lambda name, rng: name if rng.random() < 0.5 else "zebra"))
    assert judged["prompts: a classifier of the prompt's words"].got == pytest.approx(0.75, abs=0.04)
    assert judged["prompts: the class alone"].got == pytest.approx(0.75, abs=0.04)
    assert not judged["prompts: the class alone"].holds
    assert "prompts: the number of words alone" not in judged  # labels have as many as they have
