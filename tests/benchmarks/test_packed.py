"""Batches have the sizes that were asked for, and the two ways to pack them hold the same pairs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from locvlm.benchmarks.agreement import difference, outcome_of
from locvlm.benchmarks.packed import (
    LANGUAGE_MODEL,
    Content,
    Sizes,
    build_model,
    choose_attention,
    count_flops,
    language_model_pass,
    make_batch,
)
from locvlm.benchmarks.supervised_rows import with_all_rows

TOY = Sizes(width=32, layers=2, heads=2, vocabulary=512, canvas=28, tower_width=16, tower_layers=2)
CONTENT = Content(images=2, pairs=3, branch_tokens=(13, 16), targets=5)


def test_a_shared_prefix_has_a_row_for_each_image_and_separate_one_for_each_pair():
    model = build_model(TOY, dtype=torch.float32)
    shared, separate = (make_batch(model, CONTENT, mode) for mode in ("shared_prefix", "separate"))
    prefix = 35 + 4
    assert [int((row >= 0).sum()) for row in shared["sample_ids"]] == [prefix + 13 + 16 + 13] * 2
    assert (
        sorted(int((row >= 0).sum()) for row in separate["sample_ids"])
        == [prefix + 13] * 4 + [prefix + 16] * 2
    )
    assert len(shared["target_ids"]) == len(separate["target_ids"]) == 2 * 3 * 5
    assert (len(shared["pixel_values"]), len(separate["pixel_values"])) == (2, 6)


def test_in_fp64_the_norms_are_too_and_the_ways_agree_to_the_last_digits():
    model = build_model(TOY, dtype=torch.float64)
    shared, separate = (
        outcome_of(model, make_batch(model, CONTENT, mode)) for mode in ("shared_prefix", "separate")
    )
    assert difference(shared, separate).most < 1e-12
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("attention", ["sdpa", "tree"])
def test_the_language_model_alone_takes_the_operations_of_its_parts(attention):
    model = build_model(TOY, dtype=torch.float32)
    batch = make_batch(model, CONTENT, "shared_prefix")
    choose_attention(model, attention)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        language_model_pass(model, batch).backward()
    counted = count_flops(model, batch, attention)
    assert counter.get_total_flops() == pytest.approx(sum(counted[part] for part in LANGUAGE_MODEL), rel=0.05)


def test_all_rows_give_the_loss_of_the_supervised_ones():
    model = build_model(TOY, dtype=torch.float64)
    batch = make_batch(model, CONTENT, "shared_prefix")
    every = with_all_rows(batch)
    assert len(every["target_ids"]) == batch["input_ids"].numel()
    assert difference(outcome_of(model, every), outcome_of(model, batch)).most < 1e-12
