import argparse
from pathlib import Path

import pytest

from locvlm.benchmarks.result import (
    TIMES_AS_FAST,
    Headline,
    add_out_option,
    amount,
    describe_machine,
    write_result,
)
from locvlm.io import read_json


def test_a_result_tells_settings_and_machine_but_no_path_of_it(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/data"))
    add_out_option(parser)
    out = tmp_path / "new" / "result.json"
    args = parser.parse_args(["--model", str(tmp_path / "export"), "--out", str(out)])
    write_result(args, {"median_s": 1.5})
    content = read_json(out)
    assert content["settings"] == {"rounds": 3, "model": "export", "folder": "runs/data"}
    assert content["median_s"] == 1.5
    assert content["machine"]["cores"] >= 1
    assert str(tmp_path) not in out.read_text()


def test_without_a_file_nothing_is_written() -> None:
    write_result(argparse.Namespace(out=None), {"median_s": 1.5})


def test_a_cpu_has_no_gpu() -> None:
    machine = describe_machine("cpu")
    assert machine["gpu"] is None
    assert machine["threads"] >= 1
    assert "torch" in machine["packages"]


def headline(**changes):
    return Headline(
        **{"what": "a step", "figure": 4.018, "unit": TIMES_AS_FAST, "than": "separate", **changes}
    )


def test_a_goal_is_reached_or_missed_and_the_line_says_so():
    assert headline().line() == "a step: 4.02 times as fast as separate"
    assert headline(goal=3.9).line() == "goal: a step: 4.02 times as fast as separate (>= 3.9) reached"
    assert headline(goal=4.1).line().endswith("(>= 4.1) missed")
    assert headline().is_reached is None
    assert headline(figure=0.02, unit="of a step", than="", goal=0.03, limit="<=").line() == (
        "goal: a step: 2% of a step (<= 3%) reached"
    )


@pytest.mark.parametrize(
    ("figure", "unit", "expected"),
    [
        (0.98765, "of the tokens", "98.8%"),
        (12345.6, "pairs/s", "12,346"),
        (0.00072, "s", "0.00072"),
        (0, "s", "0"),
    ],
)
def test_three_digits_of_a_figure_are_told(figure, unit, expected):
    assert amount(figure, unit) == expected


@pytest.mark.parametrize(
    "changes", [{"what": ""}, {"unit": ""}, {"figure": float("nan")}, {"limit": "<"}], ids=str
)
def test_a_headline_that_says_nothing_is_refused(changes):
    with pytest.raises(ValueError, match="a headline"):
        headline(**changes)


def test_a_result_holds_settings_machine_what_is_quoted_and_figures(tmp_path):
    parser = argparse.ArgumentParser()
    add_out_option(parser)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args(["--out", str(tmp_path / "new" / "a.json"), "--folder", str(tmp_path)])
    write_result(args, {"seconds": [1.0]}, headline=[headline(goal=3.9)])
    saved = read_json(args.out)
    assert list(saved) == ["settings", "machine", "headline", "seconds"]
    assert saved["settings"] == {"folder": tmp_path.name}  # no path of this machine
    assert [Headline(**row) for row in saved["headline"]] == [headline(goal=3.9)]
    assert {"cpu", "cores", "threads", "packages", "commit"} <= saved["machine"].keys()
