"""Operations by formula against those that torch counts in the real classes."""

from dataclasses import replace

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
from locvlm.training.plan.loads import useful_load
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
                inputs_embeds=torch.zeros(2, 512, shape.width),
                attention_mask=mask,
                use_cache=False,
                target_rows=torch.zeros(20, dtype=torch.long),
            )
        with FlopCounterMode(display=False) as head:
            model.lm_head(torch.zeros(20, shape.width))
    assert image.get_total_flops() == expected["tower"] + expected["adapter"]
    assert language.get_total_flops() == expected["llm"] + expected["attention"]
    assert head.get_total_flops() == expected["head"]


def test_the_sizes_that_one_has_in_mind():
    """LLaMA-7B: 12.95 GFLOP a token; ViT-L/14 without its last layer: 0.155 TFLOP at 224, 0.366 at 336."""
    load = Load(rows=1, row_tokens=1, images=1, targets=1, pairs=0)
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


@pytest.mark.parametrize("are_kept", [False, True])
@pytest.mark.parametrize("adapter", ["mlp", "linear"])
def test_frames_go_through_the_tower_and_pooled_tokens_through_the_adapter(small_case, adapter, are_kept):
    """A row of an image and a video of three frames; its features computed, or kept."""
    model = small_case(STAGE2, adapter=adapter).model
    model.config.locvlm = {"video": {"num_frames": 3}}
    image, video = model.spec.num_image_tokens, model.spec.num_video_tokens
    length = 2 + image + video
    ids = torch.tensor([[190] * image + [5] + [190] * video + [6]])
    canvas = model.spec.canvas
    batch = {
        "input_ids": ids,
        "position_ids": torch.arange(length)[None],
        "sample_ids": torch.tensor([[0] * (image + 1) + [1] * (video + 1)]),
        "branch_ids": torch.zeros_like(ids),
        "target_index": torch.tensor([3]),
        "target_ids": torch.tensor([7]),
        "target_weights": torch.ones(1),
        "pixel_values": torch.randn(1 if are_kept else 4, 3, canvas, canvas),
        "frames_per_visual": torch.tensor([0, -1 if are_kept else 3]),
    }
    if are_kept:
        batch["pooled_features"] = torch.randn(1, video, 32)
    load = useful_load(batch)
    assert (load.images, load.videos, load.frames) == (1, 1, 0 if are_kept else 3)
    assert (load.tokens, load.targets) == (length, 1)
    load = replace(load, pairs=dense_pairs(1, length))  # of sdpa
    shape = shape_of(model.config)
    assert shape.video_tokens == video
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        loss = model(**batch).loss
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as backward:
        loss.backward()
    assert forward.get_total_flops() == sum(forward_flops(shape, load, STAGE2).values())
    assert backward.get_total_flops() == sum(backward_flops(shape, load, STAGE2).values())
