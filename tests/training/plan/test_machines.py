import pytest

from locvlm.training.plan.machines import GPUS, Machine, gpu_named


def test_an_unknown_accelerator_is_an_error_that_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"--gpu 'a100-80gb' is not known; the nearest is 'a100-80g'.*rtx4090"
    ):
        gpu_named("a100-80gb")
    assert gpu_named("h100-80g") is GPUS["h100-80g"]


def test_accelerators_report_less_memory_than_their_names_say():
    for name, gigabytes in {"a100-40g": 42.9, "a100-80g": 85.9, "h200-141g": 151.4, "rtx4090": 25.8}.items():
        assert 0.9 * gigabytes < GPUS[name].memory_bytes / 1e9 < gigabytes  # of so many times 2^30


def test_several_nodes_exchange_at_the_pace_of_their_network():
    gpu = GPUS["a100-80g"]
    alone, two = Machine(gpu=gpu, gpus=8), Machine(gpu=gpu, gpus=8, nodes=2, node_bytes_per_s=25e9)
    assert (alone.bytes_per_s, two.bytes_per_s) == (300e9, 25e9)
    assert two.ranks == 16
    assert two.flops == pytest.approx(16 * 0.45 * 312e12)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"gpus": 0}, "--gpus"), ({"mfu": 1.5}, "--mfu"), ({"node_bytes_per_s": 0.0}, "--node-gb-per-s")],
)
def test_impossible_machines_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Machine(**{"gpu": GPUS["l40s"], "gpus": 8, **change})
