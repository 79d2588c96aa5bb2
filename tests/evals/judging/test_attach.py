"""Judged answers get the verdicts of one judge, or say why they have none."""

from dataclasses import replace

import pytest

from locvlm.evals.judged import Judged
from locvlm.evals.judging.attach import (
    attach_verdicts,
    describe_verdicts,
    needs_verdicts,
    of_one_judge,
    pair_of,
    pairs_of,
)
from locvlm.evals.judging.rubric import Pair
from locvlm.evals.judging.verdicts import Judge, Unjudged, Verdict, open_verdicts
from locvlm.evals.parse import Said, Unanswered, Unreadable
from locvlm.records import Prediction

JUDGE = Judge(model="gpt", version="gpt-0125", rubric="video_qa 1 (0123abcd)", decoding="temperature 0")
LATER = replace(JUDGE, version="gpt-0613")


def row(answer, *, gold="red", number=0, reading=None):
    prediction = Prediction(
        id=f"v/{number}",
        record_id="v",
        image=None,
        question="what color is it Answer briefly.",
        answer=answer,
        gold={"answer": gold, "source": {"question": "what color is it"}},
    )
    return Judged(prediction=prediction, reading=reading or Said(answer.strip()))


ROWS = [
    row("It is red."),
    row("It is blue.", number=1),
    row(" It is red.", number=2),
    row("", number=3, reading=Unreadable("an empty answer")),
    row("", number=4, reading=Unanswered("unreadable image: v.mp4")),
    row("mauve", number=5),
]


def write(folder, judge, **replies):
    with open_verdicts(folder, judge) as verdicts:
        for prediction, reply in replies.items():
            pair = Pair("what color is it", "red", prediction.replace("_", " "))
            verdicts.add(pair, reply)


ALL = {
    "It_is_red.": "{'pred': 'yes', 'score': 5}",
    "It_is_blue.": "{'pred': 'no', 'score': 1}",
    "mauve": "I would rather not say.",
}


def test_the_question_is_the_data_sets_own_and_each_pair_is_judged_once():
    assert pairs_of(ROWS) == [Pair("what color is it", "red", p.replace("_", " ")) for p in ALL]
    without = replace(ROWS[0].prediction, gold={"answer": "red", "source": {}})
    assert pair_of(replace(ROWS[0], prediction=without)).question == "what color is it Answer briefly."


def test_answers_get_their_verdicts_and_what_says_nothing_is_wrong(tmp_path):
    write(tmp_path, JUDGE, **ALL)
    verdicts = [judged.verdict for judged in attach_verdicts(ROWS, tmp_path)]
    assert verdicts == [
        Verdict(judge=JUDGE, says_yes=True, score=5),
        Verdict(judge=JUDGE, says_yes=False, score=1),
        Verdict(judge=JUDGE, says_yes=True, score=5),
        Verdict(judge=JUDGE, note="no answer"),
        Verdict(judge=JUDGE, note="no answer"),
        Verdict(judge=JUDGE, note="unreadable reply"),
    ]


def test_who_judged_is_told_with_what_says_nothing(tmp_path):
    write(tmp_path, JUDGE, **ALL)
    told = describe_verdicts(attach_verdicts(ROWS, tmp_path))
    assert (told["name"], told["model"], told["version"]) == (JUDGE.name, "gpt", "gpt-0125")
    assert (told["rubric"], told["decoding"]) == (JUDGE.rubric, JUDGE.decoding)
    assert (told["unreadable_replies"], told["without_answer"]) == (1, 2)
    assert describe_verdicts(ROWS) == {}


def reason(rows):
    (why,) = {judged.verdict for judged in rows}
    assert isinstance(why, Unjudged)
    return why.reason


def test_without_all_verdicts_there_is_none_and_it_says_how_many_are_missing(tmp_path):
    assert reason(attach_verdicts(ROWS, tmp_path)) == f"not judged; run eval/judge.py --output-dir {tmp_path}"
    write(tmp_path, JUDGE, **{"It_is_red.": ALL["It_is_red."]})
    assert reason(attach_verdicts(ROWS, tmp_path)).startswith(f"1 of 3 are judged, by {JUDGE.name};")


def test_of_several_judges_one_has_to_be_named(tmp_path):
    write(tmp_path, JUDGE, **ALL)
    write(tmp_path, LATER, **dict.fromkeys(ALL, "{'pred': 'no', 'score': 0}"))
    several = reason(attach_verdicts(ROWS, tmp_path))
    assert "not of one scale: name one with --judge" in several
    assert JUDGE.name in several
    assert LATER.name in several
    for name in (LATER.name, LATER.version):
        assert describe_verdicts(attach_verdicts(ROWS, tmp_path, judge=name))["version"] == "gpt-0613"
    assert "not of one scale" in reason(attach_verdicts(ROWS, tmp_path, judge="gpt"))
    assert reason(attach_verdicts(ROWS, tmp_path, judge="llama")).startswith("not judged")


def test_a_judge_that_has_not_judged_all_does_not_count(tmp_path):
    write(tmp_path, JUDGE, **ALL)
    write(tmp_path, LATER, mauve=ALL["mauve"])
    assert describe_verdicts(attach_verdicts(ROWS, tmp_path))["version"] == "gpt-0125"


def test_two_runs_are_compared_by_verdicts_of_one_judge_alone():
    """Otherwise the difference would be that of the judges."""
    plain, by_one, by_other = (
        replace(ROWS[0], verdict=verdict)
        for verdict in (None, Verdict(judge=JUDGE, says_yes=True, score=5), Verdict(judge=LATER))
    )
    for pairs in ([(plain, plain)], [(by_one, by_one), (by_one, by_one)]):
        assert of_one_judge(pairs) == pairs
    for pairs in ([(by_one, by_other)], [(by_one, plain)]):
        ((first, second),) = of_one_judge(pairs)
        assert first.verdict == second.verdict
        assert "not of one scale" in first.verdict.reason
        assert JUDGE.name in first.verdict.reason


@pytest.mark.parametrize(
    ("name", "expected"), [("activitynet_qa", True), ("tgif_qa_frame", True), ("gqa", False)]
)
def test_tasks_that_a_judge_scores_say_so_by_their_metrics(tasks, name, expected):
    assert needs_verdicts(tasks[name]) is expected
