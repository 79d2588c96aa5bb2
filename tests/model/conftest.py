"""Tiny models: random weights, a few thousand parameters, fp64 where exactness is the point."""

from collections.abc import Callable

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from locvlm.model.adapter import reset_adapter
from locvlm.model.locvlm import LocVLM
from locvlm.model.variants import llava_config

IMAGE_TOKEN_ID, PAD_TOKEN_ID, VOCABULARY = 60, 61, 64


def tiny_config(adapter: str = "mlp", num_tower_layers: int = 3) -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=num_tower_layers,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        projection_dim=8,
    )
    text = LlamaConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=256,
    )
    return llava_config(vision, text, adapter, image_token_id=IMAGE_TOKEN_ID, pad_token_id=PAD_TOKEN_ID)


class ExactRMSNorm(torch.nn.Module):
    """LLaMA's norm in the precision of its input: the library's computes in fp32 whatever comes in, which
    would hide any difference below 1e-7."""

    def __init__(self, norm: LlamaRMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.eps)


def make_exact(model: torch.nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LlamaRMSNorm):
                setattr(parent, name, ExactRMSNorm(child))


@pytest.fixture
def build_model() -> Callable[..., LocVLM]:
    """build_model(adapter="mlp", exact=True): a random LocVLM; exact means fp64 throughout."""

    def build(adapter: str = "mlp", *, exact: bool = True, seed: int = 0, attention: str = "sdpa") -> LocVLM:
        torch.manual_seed(seed)
        config = tiny_config(adapter)
        config._attn_implementation = attention
        model = LocVLM(config)
        reset_adapter(model.model.multi_modal_projector, adapter, seed=seed)
        with torch.no_grad():
            # fresh weights are so small that a wrong mask would hardly show; make attention matter
            for parameter in model.model.language_model.layers.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(8.0)
        if exact:
            model = model.double()
            make_exact(model)
        return model

    return build
