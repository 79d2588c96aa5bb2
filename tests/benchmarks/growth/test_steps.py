import pytest
import torch

from locvlm.benchmarks.growth.pairs import step_flops
from locvlm.benchmarks.growth.steps import draw, forward_backward, in_one_pass, require_equal, trained_model
from locvlm.benchmarks.peers.workload import TOY
from locvlm.constants import NO_SAMPLE


@pytest.fixture(scope="module")
def model():
    return trained_model(TOY)


def tokens_of(batches):
    return sum(int((batch["sample_ids"] != NO_SAMPLE).sum()) for batch in batches)


def test_rows_of_any_length_and_all_kernels_give_one_loss(model):
    conversations = draw(model, images=6, pairs=4)
    short, long = (in_one_pass(conversations, mode="shared_prefix", row_tokens=n) for n in (300, 600))
    assert len(short) == len(long) == 1
    assert short[0]["sample_ids"].shape[0] > long[0]["sample_ids"].shape[0]
    assert tokens_of(short) == tokens_of(long)
    ways = {"short": (short, "sdpa"), "long": (long, "sdpa"), "tree": (long, "tree")}
    require_equal(
        {name: forward_backward(model, batches, kernel) for name, (batches, kernel) in ways.items()}
    )


def test_gradients_are_let_go_and_the_tower_stays(model):
    forward_backward(
        model, in_one_pass(draw(model, images=2, pairs=1), mode="separate", row_tokens=300), "tree"
    )
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(p.requires_grad for name, p in model.named_parameters() if "vision_tower" in name)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_sharing_costs_fewer_operations_the_more_pairs_there_are(model):
    ratios = []
    for pairs in (1, 2, 4):
        drawn = draw(model, images=3, pairs=pairs)
        shared, apart = (
            step_flops(model, in_one_pass(drawn, mode=mode, row_tokens=600), "tree")
            for mode in ("shared_prefix", "separate")
        )
        ratios.append(apart / shared)
    assert ratios[0] == pytest.approx(1)
    assert ratios[0] < ratios[1] < ratios[2]


def test_other_losses_are_refused():
    require_equal({"a": 6.900, "b": 6.901})
    with pytest.raises(ValueError, match="expected one loss"):
        require_equal({"a": 6.9, "b": 6.95})
