from xml.etree import ElementTree

import pytest

from locvlm.evals.pages.charts import (
    bar,
    duration,
    histogram,
    line_chart,
    nice_ticks,
    running_mean,
    stacked_bar,
    thin,
)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 3.4, [0, 1, 2, 3, 4]),
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 4000, [0, 1000, 2000, 3000, 4000]),
        (0, 0, [0, 0.25, 0.5, 0.75, 1]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, ticks):
    assert nice_ticks(low, high) == ticks


def test_a_curve_is_well_formed_and_names_its_last_value():
    svg = line_chart([(step, 3.0 / (step + 1)) for step in range(100)], label="loss <b>")
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == "loss <b> over steps"
    assert len(root.findall("path")) == 2
    assert root.findall("text")[-1].text == "0.03"


def test_values_that_are_no_numbers_are_left_out_of_a_curve():
    assert line_chart([(0, float("nan")), (1, 2.0)], label="loss") == (
        '<p class="empty">No curve: 1 logged value of loss.</p>'
    )


def test_the_running_mean_keeps_straight_lines_and_both_ends():
    line = [(float(x), 2.0 * x) for x in range(200)]
    assert [value for pair in running_mean(line) for value in pair] == pytest.approx(
        [v for p in line for v in p]
    )


def test_thinning_keeps_the_last_point():
    points = [(float(x), 0.0) for x in range(1001)]
    assert len(thin(points, 100)) <= 102
    assert thin(points, 100)[-1] == points[-1]


def test_a_histogram_counts_every_value_once_and_marks_the_good_ones():
    root = ElementTree.fromstring(histogram([0.0, 0.02, 0.49, 0.5, 1.0], threshold=0.5))
    titles = {rect.findtext("title"): rect.attrib["class"] for rect in root.findall("rect")}
    assert len(titles) == 20
    assert titles["0.00 to 0.05: 2"] == titles["0.45 to 0.50: 1"] == "bad"
    assert titles["0.50 to 0.55: 1"] == titles["0.95 to 1.00: 1"] == "good"


def test_bars_show_goals_and_misses():
    assert 'class="bar"' in bar(0.8, goal=0.8)
    assert 'class="bar missed"' in bar(0.79, goal=0.8)
    assert 'class="bar missed"' in bar(0.02, goal=0.01, at_most=True)
    assert "width:100.0%" in bar(1.7)


def test_a_stacked_bar_fills_its_width():
    html = stacked_bar([("stage <1>", 30.0), ("stage 2", 90.0)])
    assert "width:25.00%" in html
    assert "width:75.00%" in html
    assert "stage &lt;1&gt;" in html


def test_durations_read_well():
    assert [duration(s) for s in (7.6, 60, 75, 4000)] == ["8 s", "1 min", "1 min 15 s", "1 h 6 min"]
