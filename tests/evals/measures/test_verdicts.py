"""Accuracy and score by the verdicts of one judge."""

from dataclasses import replace

import pytest

from locvlm.evals.judged import MetricUnavailable
from locvlm.evals.judging.verdicts import Judge, Unjudged, Verdict
from locvlm.evals.measures.verdicts import judge_accuracy, judge_score
from locvlm.evals.parse import Said

JUDGE = Judge(model="gpt", version="1", rubric="r 1 (0)", decoding="d")


@pytest.fixture
def rows(judged):
    """right with 5, right with 4, wrong with 2, and one whose reply could not be read."""
    verdicts = [
        Verdict(judge=JUDGE, says_yes=True, score=5),
        Verdict(judge=JUDGE, says_yes=True, score=4),
        Verdict(judge=JUDGE, says_yes=False, score=2),
        Verdict(judge=JUDGE, note="unreadable reply"),
    ]
    return [replace(judged(Said("red"), answer="red"), verdict=verdict) for verdict in verdicts]


def test_what_says_nothing_is_wrong_and_scores_nothing(rows):
    assert judge_accuracy(rows) == 2 / 4
    assert judge_score(rows) == (5 + 4 + 2 + 0) / 4
    assert judge_accuracy([]) == judge_score([]) == 0.0


@pytest.mark.parametrize("metric", [judge_accuracy, judge_score])
def test_without_verdicts_there_is_no_figure(rows, judged, metric):
    with pytest.raises(MetricUnavailable, match=r"not judged; run eval/judge\.py"):
        metric([*rows, judged(Said("red"), answer="red")])
    with pytest.raises(MetricUnavailable, match="3 of 8 are judged"):
        metric([replace(rows[0], verdict=Unjudged("3 of 8 are judged"))])


def test_verdicts_of_two_judges_give_no_figure(rows):
    other = Verdict(judge=replace(JUDGE, version="2"), says_yes=True, score=5)
    with pytest.raises(MetricUnavailable, match="of several judges"):
        judge_accuracy([*rows, replace(rows[0], verdict=other)])
