"""A small real model, and rows of trees for it."""

from dataclasses import dataclass

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import apply_lora
from locvlm.model.variants import llava_config, variant
from locvlm.training.plan.flops import Load, dense_pairs, tree_pairs
from locvlm.training.plan.shapes import Scope, count_parameters

IMAGE_TOKEN_ID, PAD_TOKEN_ID, VOCABULARY = 190, 191, 192
PREFIX, BRANCHES, BRANCH, TARGETS = (
    4,
    3,
    12,
    5,
)  # tokens before the image; branches, their tokens, their targets


def small_config(adapter: str = "mlp", *, kv_heads: int = 4, width: int = 64) -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=80,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=40,
        patch_size=8,
        projection_dim=8,
    )
    text = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
    )
    return llava_config(vision, text, adapter, image_token_id=IMAGE_TOKEN_ID, pad_token_id=PAD_TOKEN_ID)


@dataclass(frozen=True)
class Case:
    """A model with what trains in a stage, a batch, and the batch as the planner describes it."""

    model: LocVLM
    batch: dict[str, torch.Tensor]
    load: Load


@pytest.fixture
def small_case():
    """small_case(STAGE2, adapter="mlp", attention="sdpa"): the model in training mode, and a batch for it."""

    def build(scope, *, adapter="mlp", attention="sdpa", kv_heads=4, dtype=torch.float32):
        rows, trees = 2, 4
        torch.manual_seed(0)
        config = small_config(adapter, kv_heads=kv_heads)
        config._attn_implementation = attention
        model = LocVLM(config).to(dtype).train()
        freeze(model, train=scope.parts)
        if scope.lora is not None:
            apply_lora(model, scope.lora)
            freeze(model, train=("adapter", "lora"))
            model.to(dtype)
        batch = packed_rows(model, rows=rows, trees=trees, dtype=dtype)
        length, num_trees = batch["input_ids"].shape[1], rows * trees
        prefix = PREFIX + model.spec.num_image_tokens
        load = Load(
            rows=rows,
            row_tokens=length,
            images=num_trees,
            targets=num_trees * BRANCHES * TARGETS,
            pairs=tree_pairs(num_trees, prefix, BRANCHES, BRANCH)
            if attention == "tree"
            else dense_pairs(rows, length),
        )
        return Case(model=model, batch=batch, load=load)

    return build


def packed_rows(model: LocVLM, *, rows: int, trees: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """`rows` equal rows of `trees` equal trees: an image and branches, the last tokens of each supervised."""
    num_image, canvas = model.spec.num_image_tokens, model.spec.canvas
    prefix = PREFIX + num_image
    tree_ids = [3] * PREFIX + [IMAGE_TOKEN_ID] * num_image + list(range(4, 4 + BRANCH)) * BRANCHES
    branch_ids = [0] * prefix + [b + 1 for b in range(BRANCHES) for _ in range(BRANCH)]
    positions = [*range(prefix), *list(range(prefix, prefix + BRANCH)) * BRANCHES]
    size = len(tree_ids)
    ends = [prefix + (b + 1) * BRANCH for b in range(BRANCHES)]
    states = [end - TARGETS - 1 + t for end in ends for t in range(TARGETS)]  # each predicts the next token
    target_index = torch.tensor([tree * size + state for tree in range(rows * trees) for state in states])
    input_ids = torch.tensor([tree_ids * trees] * rows)
    return {
        "input_ids": input_ids,
        "position_ids": torch.tensor([positions * trees] * rows),
        "sample_ids": torch.tensor(
            [[t for t in range(trees) for _ in range(size)]] * rows, dtype=torch.int32
        ),
        "branch_ids": torch.tensor([branch_ids * trees] * rows, dtype=torch.int32),
        "pixel_values": torch.randn(rows * trees, 3, canvas, canvas, dtype=dtype),
        "target_index": target_index,
        "target_ids": input_ids.flatten()[target_index + 1],
        "target_weights": torch.ones(len(target_index)),
    }


@pytest.fixture(scope="session")
def parameters_7b():
    """Parameters of LocVLM-B by part, as stage 2 trains them."""
    return count_parameters(variant("b"), Scope(stage="stage2"))
