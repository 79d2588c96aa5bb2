"""Operations by formula against those that torch counts in the real classes."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from locvlm.model.attention import tree_mask
from locvlm.model.lora import LoraSettings
from locvlm.model.variants import variant
from locvlm.training.plan.flops import (
    Load,
    backward_flops,
    dense_pairs,
    flops_by_direction,
    forward_flops,
    total_flops,
)
from locvlm.training.plan.shapes import Scope, meta_model, shape_of

STAGE1, STAGE2 = Scope(stage="stage1"), Scope(stage="stage2")
LORA = Scope(stage="stage2", lora=LoraSettings(rank=4))
SOME_LORA = Scope(stage="stage2", lora=LoraSettings(rank=4, targets=("q_proj", "v_proj")))
SCOPES = pytest.mark.parametrize(
    "scope", [STAGE1, STAGE2, LORA, SOME_LORA], ids=["stage1", "stage2", "lora", "lora of q, v"]
)


def counted(case):
    """(forward, backward): operations of the matrix products of the real model."""
    # of fused attention on a CPU the counter counts nothing; written out, it has the same products
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            loss = case.model(**case.batch).loss
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("adapter", ["mlp", "linear"])
@SCOPES
def test_a_pass_of_the_real_model_takes_the_operations_of_the_formula(small_case, scope, adapter, kv_heads):
    case = small_case(scope, adapter=adapter, kv_heads=kv_heads)
    shape = shape_of(case.model.config)
    forward, backward = counted(case)
    assert forward == sum(forward_flops(shape, case.load, scope).values())
    assert backward == sum(backward_flops(shape, case.load, scope).values())


@SCOPES
def test_tree_attention_takes_the_pairs_of_trees_alone(small_case, scope):
    case = small_case(scope, attention="tree")
    shape = shape_of(case.model.config)
    forward, backward = counted(case)
    assert forward == sum(forward_flops(shape, case.load, scope).values())
    assert backward == sum(backward_flops(shape, case.load, scope).values())
    assert case.load.pairs < dense_pairs(case.load.rows, case.load.row_tokens) / 3


@SCOPES
def test_checkpointing_computes_the_blocks_twice(small_case, scope):
    case = small_case(scope)
    case.model.gradient_checkpointing_enable({"use_reentrant": False})
    shape = shape_of(case.model.config)
    expected = flops_by_direction(shape, case.load, scope, checkpointing=True)
    forward, backward = counted(case)
    assert forward == sum(expected["forward"].values())
    assert backward == sum(expected["backward"].values()) + sum(expected["recomputed"].values())
    assert total_flops(expected) == forward + backward


@pytest.mark.parametrize("name", ["b", "l"])
def test_the_large_model_takes_the_operations_of_the_formula(name):
    """Part by part on the meta device: there the whole cannot look up where the image tokens are."""
    model = meta_model(variant(name))
    shape = shape_of(model.config)
    load = Load(rows=2, row_tokens=512, images=3, targets=20, pairs=dense_pairs(2, 512))
    expected = forward_flops(shape, load, STAGE2)
    with torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        mask = tree_mask(torch.zeros(2, 512), torch.zeros(2, 512), dtype=torch.float32)
        with FlopCounterMode(display=False) as image:
            model.get_image_features(torch.zeros(3, 3, shape.canvas, shape.canvas))
        with FlopCounterMode(display=False) as language:
            model.model.language_model(
                inputs_embeds=torch.zeros(2, 512, shape.width), attention_mask=mask, use_cache=False
            )
        with FlopCounterMode(display=False) as head:
            model.lm_head(torch.zeros(20, shape.width))
    assert image.get_total_flops() == expected["tower"] + expected["adapter"]
    assert language.get_total_flops() == expected["llm"] + expected["attention"]
    assert head.get_total_flops() == expected["head"]


def test_the_sizes_that_one_has_in_mind():
    """LLaMA-7B: 12.95 GFLOP a token; ViT-L/14 without its last layer: 0.155 TFLOP at 224, 0.366 at 336."""
    load = Load(rows=1, row_tokens=1, images=1, targets=0, pairs=0)
    b, large = (forward_flops(shape_of(variant(name)), load, STAGE2) for name in ("b", "l"))
    assert b["llm"] / 1e9 == pytest.approx(12.95, abs=0.005)
    assert b["tower"] / 1e12 == pytest.approx(0.155, abs=0.0005)
    assert large["tower"] / 1e12 == pytest.approx(0.366, abs=0.0005)


def test_training_all_takes_three_forwards_and_the_adapter_alone_two():
    shape = shape_of(variant("b"))
    load = Load(rows=1, row_tokens=2048, images=0, targets=0, pairs=0)
    forward = forward_flops(shape, load, STAGE2)["llm"]
    for scope, times in ((STAGE1, 2), (STAGE2, 3)):
        flops = flops_by_direction(shape, load, scope, checkpointing=False)
        assert total_flops(flops) == times * forward
