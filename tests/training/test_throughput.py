import pytest
import torch

from locvlm.constants import NO_SAMPLE
from locvlm.training.throughput import StepMeter, count_branches

# two samples in the first row, with two and one branch; one text-only sample and padding in the second
SAMPLE_IDS = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, NO_SAMPLE, NO_SAMPLE]])
BRANCH_IDS = torch.tensor([[0, 1, 2, 2, 0, 1], [0, 1, 1, 1, 0, 0]])


def test_branches_are_counted_across_samples_and_rows():
    assert count_branches(SAMPLE_IDS, BRANCH_IDS) == 4


def test_adjacent_branches_of_different_samples_are_two():
    assert count_branches(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 1, 1]])) == 2


def test_a_report_counts_tokens_without_padding_and_targets_with_weight():
    meter = StepMeter()
    batch = {
        "sample_ids": SAMPLE_IDS,
        "branch_ids": BRANCH_IDS,
        "target_weights": torch.tensor([1.0, 1.0, 0.0]),
    }
    meter.count([batch, batch], wait_s=0.5)
    report = meter.report(num_steps=2)
    assert report["supervised_fraction"] == pytest.approx(4 / 20)
    assert report["row_fill"] == pytest.approx(20 / 24)
    assert report["data_wait_s"] == pytest.approx(0.25)
    assert report["pairs_per_s"] / report["tokens_per_s"] == pytest.approx(8 / 20)
    assert meter.report(num_steps=1)["tokens_per_s"] == 0
