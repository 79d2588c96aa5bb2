import pytest

from locvlm.world.pretraining.loop import one_cycle


def test_the_schedule_warms_up_and_ends_low():
    rates = [one_cycle(step, 100, warmup=10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.03
