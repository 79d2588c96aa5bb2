import pytest

from locvlm.benchmarks.turns import Turns, take_turns


def test_ways_take_turns_and_rounds_that_warm_up_are_not_counted() -> None:
    order: list[str] = []
    waits: list[None] = []
    turns = take_turns(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        rounds=3,
        warmup=2,
        synchronize=lambda: waits.append(None),
    )
    assert order == ["a", "b"] * 5
    assert len(waits) == 10
    assert {name: len(taken) for name, taken in turns.seconds.items()} == {"a": 3, "b": 3}
    assert all(second >= 0 for taken in turns.seconds.values() for second in taken)


def test_a_ratio_is_of_medians_and_its_spread_of_single_rounds() -> None:
    turns = Turns({"slow": [4.0, 8.0, 6.0], "fast": [1.0, 2.0, 3.0]})
    assert turns.median("slow") == 6.0
    assert turns.times_as_fast("fast", than="slow") == pytest.approx(3.0)
    assert turns.spread("fast", than="slow") == (2.0, 4.0)
    found = turns.against("slow")
    assert found["slow"]["times_as_fast"] == 1.0
    assert found["fast"] == {
        "median_s": 2.0,
        "times_as_fast": 3.0,
        "spread": (2.0, 4.0),
        "seconds": [1.0, 2.0, 3.0],
    }
