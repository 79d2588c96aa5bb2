import pytest
import torch

from locvlm.benchmarks.gpu.batches import conversations_per_row, draw_conversations, make_step
from locvlm.benchmarks.gpu.cases import config_of
from locvlm.constants import NO_SAMPLE
from locvlm.data.packing import OverlongSampleError
from locvlm.training.throughput import count_branches

TOY = config_of("toy")


def draw(number=4, pairs=8, stage="stage2", **options):
    return draw_conversations(TOY, stage=stage, number=number, pairs=pairs, **options)


@pytest.mark.parametrize("mode", ["shared_prefix", "separate"])
def test_a_step_holds_every_pair_once_in_as_few_passes_as_fit(mode):
    batches = make_step(draw(), mode=mode, row_tokens=512, rows_per_pass=2)
    assert sum(count_branches(batch["sample_ids"], batch["branch_ids"]) for batch in batches) == 32
    assert all(batch["input_ids"].shape[0] == 2 for batch in batches)
    assert all(batch["input_ids"].shape[1] <= 512 for batch in batches)
    targets = sum(float(batch["target_weights"].sum()) for batch in batches)
    assert {batch["num_targets"] for batch in batches} == {targets}
    assert len(batches) == {"shared_prefix": 2, "separate": 4}[mode]  # a tree of 400 tokens, or 32 of 100


def test_both_modes_hold_the_same_targets():
    shared, separate = (
        torch.cat(
            [batch["target_ids"] for batch in make_step(draw(), mode=mode, row_tokens=512, rows_per_pass=4)]
        )
        for mode in ("shared_prefix", "separate")
    )
    assert sorted(shared.tolist()) == sorted(separate.tolist())


def test_lengths_are_those_of_real_pairs():
    samples = draw(number=64, pairs=4).samples
    branches = [branch for sample in samples for branch in sample.branches]
    mean = sum(len(branch.ids) for branch in branches) / len(branches)
    supervised = sum(sum(branch.supervised) for branch in branches) / len(branches)
    assert mean == pytest.approx(44.8, rel=0.03)  # measured on COCO, see batches.py
    assert supervised == pytest.approx(12.0, rel=0.05)
    assert all(len(sample.prefix_ids) == 35 + 16 for sample in samples)


def test_captions_are_supervised_whole_behind_an_image():
    (batch,) = make_step(draw(pairs=1, stage="stage1"), mode="shared_prefix", row_tokens=512, rows_per_pass=1)
    num_tokens = int((batch["sample_ids"] != NO_SAMPLE).sum())
    assert num_tokens - 4 * (1 + 16) == len(batch["target_ids"])


def test_more_conversations_begin_with_the_same_ones_and_images_differ():
    few, many = draw(number=2), draw(number=3)
    assert few.samples == many.samples[:2]
    assert (few.pixels[0] == many.pixels[0]).all()
    assert not (few.pixels[0] == few.pixels[1]).any()


def test_rows_hold_whole_conversations():
    conversations = draw(number=8, pairs=1)
    number = conversations_per_row(conversations, 512)
    (batch,) = make_step(draw(number=number, pairs=1), mode="shared_prefix", row_tokens=512, rows_per_pass=1)
    assert batch["input_ids"].shape[1] <= 512
    with pytest.raises(OverlongSampleError):
        make_step(conversations, mode="shared_prefix", row_tokens=64, rows_per_pass=1)
