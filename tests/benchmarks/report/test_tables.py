from dataclasses import replace
from pathlib import Path

import pytest

from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.report.kept import Kept
from locvlm.benchmarks.report.tables import NOTHING, block, curve_table, fill, outside, shares_table
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline

FAST = Headline(what="a step", figure=4.02, unit=TIMES_AS_FAST, than="separate", goal=3.9)
SLOW = Headline(what="waiting", figure=0.031, unit="of a step", goal=0.02, limit="<=")
BESIDE = Headline(what="a worker", figure=74.5, unit="MB")


def kept(name, *headline, machine="2 cores", curve=None):
    path = Path(f"{name}_{machine.replace(' ', '')}.json")
    return Kept(path=path, name=name, machine=machine, headline=headline, curve=curve)


def test_the_summary_has_what_has_a_goal_by_machine_and_says_what_is_missed():
    files = [kept("attention", FAST), kept("input", SLOW, BESIDE), kept("gpu", FAST, machine="H100")]
    assert block("summary", files) == (
        "2 cores:\n\n"
        "| | measured | goal |\n|---|---|---|\n"
        "| a step | 4.02 times as fast as separate | at least 3.9 |\n"
        "| waiting | 3.1% of a step | at most 2%: **missed** |\n"
        "\nH100:\n\n"
        "| | measured | goal |\n|---|---|---|\n"
        "| a step | 4.02 times as fast as separate | at least 3.9 |\n"
    )


def test_the_summary_has_every_comparison_of_what_has_a_goal():
    harder = replace(FAST, figure=1.2, than="somebody", goal=None)
    text = block("summary", [kept("peers", FAST, harder, BESIDE)])
    assert "| a step | 1.2 times as fast as somebody |  |\n" in text
    assert "a worker" not in text


def test_a_block_of_a_benchmark_has_all_of_it_and_nothing_of_others():
    files = [kept("attention", FAST), kept("data", BESIDE)]
    text = block("data", files)
    assert "| a worker | 74.5 MB |\n" in text
    assert "`benchmarks/results/data_2cores.json`" in text
    assert "a step" not in text
    assert block("rows", files) == NOTHING


def test_a_curve_and_its_shares_as_tables():
    curve = Curve(
        title="Rows",
        x="tokens",
        y="s a step",
        lines={"sdpa": [(1024, 2.0), (2048, 8.123)], "tree": [(1024, 2.0)]},
        shares={"sdpa, 1024": {"attention": 0.75}, "tree, 1024": {"moving": 0.25}},
    )
    assert curve_table(curve).splitlines() == [
        "| s a step, by tokens | 1,024 | 2,048 |",
        "| --- | --- | --- |",
        "| sdpa | 2 | 8.12 |",
        "| tree | 2 |  |",
    ]
    assert shares_table(curve).splitlines()[2:] == ["| sdpa, 1024 | 75% |  |", "| tree, 1024 |  | 25% |"]


def test_a_name_in_angles_is_no_tag():
    shares = {"index, 10": {"dataset.py <genexpr>": 1.0}}
    curve = Curve(title="t", x="records", y="s", lines={"index": [(10, 2.0)]}, shares=shares)
    assert "| where the time goes | dataset.py &lt;genexpr> |" in shares_table(curve)


def test_filling_changes_blocks_alone_and_twice_is_once():
    document = "before\n<!-- benchmark: data -->\nold\n<!-- end of benchmark -->\nafter 1\n"
    filled = fill(document, [kept("data", BESIDE)])
    assert filled.startswith("before\n<!-- benchmark: data -->\n2 cores (")
    assert filled.endswith("<!-- end of benchmark -->\nafter 1\n")
    assert "old" not in filled
    assert fill(filled, [kept("data", BESIDE)]) == filled
    assert outside(filled) == "before\n\nafter 1\n"


def test_a_document_without_block_is_refused():
    with pytest.raises(ValueError, match="the document has no block"):
        fill("text", [])
