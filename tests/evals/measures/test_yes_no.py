"""A table of six: two right, a false alarm, a miss, an unreadable answer, a question that was never asked."""

import pytest

from locvlm.evals.metrics import METRICS
from locvlm.evals.parse import Unanswered, Unreadable, YesNo


@pytest.fixture
def rows(judged):
    return [
        judged(YesNo(True), answer="yes"),
        judged(YesNo(False), answer="no"),
        judged(YesNo(True, is_assumed=True), answer="no"),
        judged(YesNo(False), answer="yes"),
        judged(Unreadable("neither"), answer="yes"),
        judged(Unanswered("unreadable image"), answer="no"),
    ]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", 2 / 6),
        ("precision", 1 / 2),
        ("recall", 1 / 3),
        ("f1", 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
        ("recall_lmms", 1 / 2),  # without the answer that is neither
        ("f1_lmms", 1 / 2),
        ("yes_fraction", 2 / 6),  # of the answers, not of the labels
        ("assumed_fraction", 1 / 6),
        ("unreadable_fraction", 1 / 6),
    ],
)
def test_metrics_of_yes_and_no(rows, metric, expected):
    assert METRICS[metric](rows) == pytest.approx(expected, abs=1e-15)


def test_a_model_that_always_says_no_has_no_precision_and_no_recall(judged):
    rows = [judged(YesNo(False), answer=answer) for answer in ("yes", "no")]
    assert [METRICS[name](rows) for name in ("precision", "recall", "f1", "accuracy")] == [0, 0, 0, 0.5]
