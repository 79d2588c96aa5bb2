import pytest

from locvlm.benchmarks.peers.measure import Case, headlines, measure
from locvlm.benchmarks.peers.process import Found
from locvlm.benchmarks.peers.way import memory_bytes
from locvlm.benchmarks.turns import Turns


def found(**changes) -> Found:
    values = {"first_loss": 7.0, "slots": 200, "tokens": 150, "supervised": 30, "images": 4}
    return Found(**{**values, "start_bytes": 10**9, "peak_bytes": 2 * 10**9, **changes})


@pytest.fixture
def case(work):
    turns = Turns({"ours": [1.0, 2.0, 3.0], "trainer": [12.0, 10.0, 9.0], "trl": [3.0, 2.0, 2.5]})
    ways = {"ours": found(tokens=198), "trainer": found(), "trl": found(tokens=100)}
    return Case(work=work, pairs_per_turn=6, turns=turns, found=ways)


def test_pairs_a_second_and_padding_are_told_for_every_way(case):
    figures = case.to_json()["ways"]
    assert figures["ours"]["pairs_per_s"] == 3.0
    assert figures["trainer"]["ours_times_as_fast"] == 5.0
    assert figures["trainer"]["spread"] == (3.0, 12.0)
    assert figures["trainer"]["padding_fraction"] == 0.25
    table = case.lines()
    assert len(table) == 4
    assert "5.00x" in table[2]
    assert "2.00 GB" in table[2]


def test_goals_are_reached_or_missed_at_one_pair_and_at_eight(case, monkeypatch):
    assert [one.goal for one in headlines([case])] == [None, None]  # none was set for three pairs
    monkeypatch.setattr("locvlm.benchmarks.peers.measure.GOALS", {3: 4.0})
    reached, missed = headlines([case])
    work = "goal: training on 3 pairs an image:"
    assert reached.line() == f"{work} 5 times as fast as transformers' Trainer (>= 4) reached"
    assert missed.line() == f"{work} 1.25 times as fast as TRL's SFTTrainer (>= 4) missed"


def test_steps_that_are_no_turns_are_refused(work):
    with pytest.raises(ValueError, match="2 steps are not 1 and more turns of 2"):
        measure(["ours"], work, steps_per_turn=2)


def test_peak_memory_holds_what_was_let_go_of_again():
    before = memory_bytes("VmRSS")
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    del held
    assert memory_bytes("VmHWM") > before + 150_000_000
    assert memory_bytes("VmRSS") < before + 150_000_000
    with pytest.raises(ValueError, match="no VmNothing"):
        memory_bytes("VmNothing")
