"""Two runs on the same questions: what was lost and won, and what is refused."""

from dataclasses import replace

import pytest

from locvlm.evals.parse import Absent, Said, YesNo
from locvlm.evals.reports.compare import compare_runs, p_value_text, terminal_table, to_json

BEFORE, AFTER = "yyynnnnnnn", "yynyyyyyyn"


@pytest.fixture
def said(judged):
    """said("yyn"): answers to questions about three images, all of which are truly yes."""

    def make(words, first=0):
        return [
            judged(YesNo(word == "y"), record=f"r{n}", image=f"{n}.png", answer="yes")
            for n, word in enumerate(words, start=first)
        ]

    return make


def test_what_was_lost_and_won_is_counted_and_named(answered, said):
    runs = [answered(name, pope_random=said(words)) for name, words in (("A", BEFORE), ("B", AFTER))]
    found = compare_runs(*runs)
    [compared] = found.tasks
    assert [first.prediction.id for first, _ in compared.lost] == ["r2/0"]
    assert [first.prediction.id for first, _ in compared.won] == [f"r{n}/0" for n in range(3, 9)]
    assert compared.mcnemar_p == pytest.approx(2 * (1 + 7) / 2**7)
    accuracy = compared.changes[0]
    assert (accuracy.metric, accuracy.before, accuracy.after) == ("accuracy", 0.3, 0.8)
    assert accuracy.value == pytest.approx(0.5)
    assert accuracy.interval.low <= 0.5 <= accuracy.interval.high
    values = to_json(found)["tasks"]["pope_random"]
    assert (values["lost"], values["questions"], values["right_by"]) == (["r2/0"], 10, "accuracy")
    assert values["metrics"]["accuracy"]["difference"] == accuracy.value


def test_only_questions_of_both_are_compared(answered, said):
    before = answered("A", pope_random=said("nnyy"), hal_coco=said("y"))
    found = compare_runs(before, answered("B", pope_random=said("yyyyyy", first=2)))
    [compared] = found.tasks
    assert (len(compared.pairs), compared.num_only_before, compared.num_only_after) == (2, 2, 4)
    assert compared.changes[0].before == 1.0  # the first two do not count
    assert found.only_in_one == ["hal_coco"]


def test_metrics_that_cannot_be_computed_here_are_left_out(answered, judged):
    rows = [judged(Said("a mug"), answer="mug")]
    [compared] = compare_runs(*(answered(name, activitynet_qa=rows) for name in "AB")).tasks
    metrics = [change.metric for change in compared.changes]
    assert "judge_accuracy" not in metrics
    assert compared.right_by == metrics[0] == "exact_match"


def test_a_question_that_means_something_else_is_refused(answered, said):
    rows = said("yy")
    prediction = rows[1].prediction
    for changed in (
        replace(prediction, gold={**prediction.gold, "answer": "no"}),
        replace(prediction, image="other.png"),
    ):
        other = answered("B", pope_random=[rows[0], replace(rows[1], prediction=changed)])
        with pytest.raises(ValueError, match=r"question 'r1/0' is not the same in both runs.*of one file"):
            compare_runs(answered("A", pope_random=rows), other)


def test_runs_with_nothing_in_common_are_refused(answered, said):
    before = answered("A", pope_random=said("y"))
    with pytest.raises(ValueError, match="no task in common: pope_random and hal_coco"):
        compare_runs(before, answered("B", hal_coco=said("y")))
    with pytest.raises(ValueError, match="no question was asked of both runs"):
        compare_runs(before, answered("B", pope_random=said("y", first=9)))


def test_the_table_on_the_terminal_has_a_line_for_each_metric(answered, said, judged, tasks):
    absent = [judged(Absent(), objective="negpred")]
    runs = [answered(name, pope_random=said("yn"), absent=absent) for name in "AB"]
    lines = terminal_table(compare_runs(*runs)).splitlines()
    assert len(lines) == 1 + len(tasks["pope_random"].metrics) + len(tasks["absent"].metrics)
    assert lines[1].split() == ["pope_random", "accuracy", "50.0", "50.0", "+0.0", "1.000", "0", "0", "1.000"]


def test_small_p_values_are_not_printed_as_zero():
    assert (p_value_text(0.0004), p_value_text(0.037), p_value_text(1.0)) == ("< .001", ".037", "1.000")
