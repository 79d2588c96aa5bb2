"""Intervals and tests: the fast bootstrap beside a plain one, and values small enough to check by hand."""

import random
from dataclasses import replace

import numpy as np
import pytest

from locvlm.evals.judged import MetricUnavailable
from locvlm.evals.measures import captions
from locvlm.evals.metrics import METRICS
from locvlm.evals.parse import Absent, Chosen, Unreadable, YesNo
from locvlm.evals.reports import statistics
from locvlm.evals.reports.statistics import (
    CORPUS_METRICS,
    bootstrap_interval,
    image_of,
    mcnemar,
    paired_difference,
    parts_of,
    units_of,
)
from locvlm.geometry import Box

FEW = 200  # resamples, where they are compared with plain ones


def plain_resamples(metric, rows, *, seed, resamples):
    """The scores of drawn rows: images are drawn as the fast way does, all else is spelled out."""
    units = units_of(metric, rows)
    members = [
        [row for row, unit in zip(rows, units, strict=True) if unit == u] for u in range(max(units) + 1)
    ]
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(resamples):
        drawn = [members[unit] for unit in rng.integers(len(members), size=len(members))]
        scores.append(METRICS[metric]([row for n, m in enumerate(drawn) for row in copies(m, n)]))
    return scores


def copies(rows, number):
    """Rows drawn for the n-th time: groups of questions of two draws are not one group."""
    result = []
    for row in rows:
        prediction, source = row.prediction, row.source
        if "group" in source:
            gold = {**prediction.gold, "source": {**source, "group": f"{source['group']}/{number}"}}
            prediction = replace(prediction, id=f"{prediction.id}/{number}", gold=gold)
        result.append(replace(row, prediction=prediction))
    return result


@pytest.fixture
def yes_no(judged):
    """60 answers to yes/no questions about 17 images, some unreadable."""
    rng = random.Random(0)
    readings = (YesNo(True), YesNo(False), Unreadable("neither"))
    return [
        judged(
            rng.choices(readings, (5, 4, 1))[0],
            record=f"r{n}",
            image=f"{rng.randrange(17)}.png",
            answer=rng.choice(("yes", "no")),
        )
        for n in range(60)
    ]


@pytest.fixture
def located(judged):
    """40 answers with boxes of every quality about 11 images."""
    rng = random.Random(1)
    return [
        judged(
            Box(0, 0, rng.uniform(5, 80), 40) if rng.random() < 0.8 else Absent(),
            record=f"r{n}",
            image=f"{rng.randrange(11)}.png",
        )
        for n in range(40)
    ]


@pytest.fixture
def chosen(judged):
    """30 pairs about two images each, of 40 images, with options in either order."""
    rng = random.Random(2)
    rows = []
    for pair in range(30):
        for place, answer in enumerate(("left", "right")):
            options = rng.sample(("left", "right"), 2)
            reading = Chosen(rng.choice(("left", "right", answer)))
            source = {"group": f"g{pair}", "options": options}
            image = f"{rng.randrange(40)}.png"
            rows.append(
                judged(reading, record=f"r{pair}", index=place, image=image, answer=answer, source=source)
            )
    return rows


@pytest.mark.parametrize(
    ("metric", "rows"),
    [
        *[(m, "yes_no") for m in ("accuracy", "precision", "recall", "f1", "yes_fraction")],
        *[(m, "located") for m in ("acc50", "miou", "absent_fraction")],
        *[(m, "chosen") for m in ("accuracy", "order_gap", "pair_accuracy", "flip_consistency")],
    ],
)
def test_the_bootstrap_over_sums_is_the_plain_one_over_rows(metric, rows, request):
    rows = request.getfixturevalue(rows)
    fast = bootstrap_interval(metric, rows, seed=3, resamples=FEW)
    plain = plain_resamples(metric, rows, seed=3, resamples=FEW)
    assert fast is not None
    assert tuple(fast) == pytest.approx(tuple(np.quantile(plain, (0.025, 0.975))), abs=1e-12)
    assert fast.low < METRICS[metric](rows) < fast.high


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
def test_both_runs_of_a_difference_are_scored_on_the_same_drawn_images(metric, yes_no):
    rng = random.Random(5)
    after = [replace(row, reading=YesNo(rng.random() < 0.7)) for row in yes_no]
    found = paired_difference(metric, yes_no, after, seed=3, resamples=FEW)
    plain = np.subtract(*(plain_resamples(metric, r, seed=3, resamples=FEW) for r in (after, yes_no)))
    assert found.value == pytest.approx(METRICS[metric](after) - METRICS[metric](yes_no))
    assert found.interval == pytest.approx(tuple(np.quantile(plain, (0.025, 0.975))), abs=1e-12)
    beyond = min((plain <= 0).sum(), (plain >= 0).sum())
    assert found.p_value == min(1.0, 2 * (beyond + 1) / (FEW + 1))


def test_questions_about_one_image_are_no_independent_draws(judged):
    """A hundred questions each about four images say as much as one each, where the image decides."""

    def rows(per_image):
        return [
            judged(YesNo(image % 2 == 0), record=f"{image}/{n}", image=f"{image}.png", answer="yes")
            for image in range(4)
            for n in range(per_image)
        ]

    assert bootstrap_interval("accuracy", rows(100)) == bootstrap_interval("accuracy", rows(1))


def test_one_question_an_image_gives_the_normal_interval(judged):
    rows = [judged(YesNo(n % 2 == 0), record=f"{n}", image=f"{n}.png", answer="yes") for n in range(400)]
    found = bootstrap_interval("accuracy", rows)
    assert found == pytest.approx((0.5 - 0.049, 0.5 + 0.049), abs=0.006)  # 1.96 * sqrt(0.25 / 400)


def test_draws_depend_on_the_seed_alone(yes_no, monkeypatch):
    before = bootstrap_interval("f1", yes_no, seed=0)
    assert bootstrap_interval("f1", yes_no, seed=1) != before
    monkeypatch.setattr(statistics, "_CHUNK", 100)  # not on how many are held at a time
    assert bootstrap_interval("f1", yes_no, seed=0) == before


def test_images_that_a_group_joins_are_drawn_together(judged):
    def row(record, image, group):
        return judged(Chosen("a"), record=record, image=image, answer="a", source={"group": group})

    rows = [
        row("0", "a", "g"),
        row("1", "b", "g"),
        row("2", "b", "h"),
        row("3", "c", "h"),
        row("4", "d", None),
    ]
    assert units_of("pair_accuracy", rows).tolist() == [0, 0, 0, 0, 1]
    assert units_of("accuracy", rows).tolist() == [0, 1, 1, 2, 3]


def test_there_is_no_interval_where_none_can_be_known(judged, yes_no):
    one_image = [replace(r, prediction=replace(r.prediction, image="0.png")) for r in yes_no]
    assert bootstrap_interval("accuracy", one_image) is None
    assert paired_difference("accuracy", one_image, one_image).interval is None
    alike = [judged(YesNo(True), record=f"{n}", image=f"{n}.png", answer="yes") for n in range(9)]
    assert bootstrap_interval("accuracy", alike) is None
    assert bootstrap_interval("f1_lmms", yes_no) is None  # no ratio of sums
    assert bootstrap_interval("accuracy", []) is None


def test_scores_of_a_corpus_are_never_computed_question_by_question(judged, monkeypatch):
    of_captions = {name for name, metric in METRICS.items() if metric.__module__ == captions.__name__}
    assert set(CORPUS_METRICS) == of_captions - {"token_f1"}

    def never(rows):
        raise AssertionError("asked")

    monkeypatch.setitem(METRICS, "meteor", never)
    assert parts_of("meteor", [judged(Absent())]) is None


def test_a_metric_that_is_unavailable_says_so(judged):
    with pytest.raises(MetricUnavailable, match="not judged"):
        bootstrap_interval("judge_accuracy", [judged(Absent())])


def test_a_run_beside_itself_does_not_differ(yes_no):
    found = paired_difference("accuracy", yes_no, yes_no)
    assert (found.value, found.interval, found.p_value) == (0.0, None, 1.0)


def test_a_question_without_an_image_is_told_by_its_record(judged):
    rows = [
        judged(YesNo(True), record=name, image=image)
        for name, image in (("a", None), ("b", None), ("c", "a"))
    ]
    assert len({image_of(row) for row in rows}) == 3


@pytest.mark.parametrize(
    ("lost", "won", "p_value"),
    [(0, 0, 1.0), (1, 0, 1.0), (0, 5, 2 / 32), (8, 2, 2 * (1 + 10 + 45) / 1024), (6, 6, 1.0)],
)
def test_mcnemar_is_the_two_sided_binomial_test(lost, won, p_value):
    assert mcnemar(lost, won) == pytest.approx(p_value, rel=1e-12)


def test_mcnemar_agrees_with_scipy_at_any_size():
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = random.Random(0)
    for number in (1, 2, 3, 10, 11, 100, 1001, 50_000):
        for _ in range(5):
            lost = min(number, max(0, round(rng.gauss(number / 2, number**0.5))))
            expected = scipy_stats.binomtest(lost, number, 0.5).pvalue
            assert mcnemar(lost, number - lost) == pytest.approx(expected, rel=1e-7)
