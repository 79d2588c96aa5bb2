import torch

from locvlm.training.preflight.machine import time_exchange, time_products


def test_products_are_timed_without_drawing_from_the_runs_random_numbers():
    before = torch.get_rng_state()
    speed = time_products(torch.device("cpu"))
    assert speed.flops > 1e6
    assert (speed.rank, bool(speed.host)) == (0, True)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_rank_exchanges_nothing():
    assert time_exchange(1024, torch.device("cpu")) is None
