"""A LocVLM of chosen sizes, and steps of images with several pairs each, packed by the code that packs real
ones: what scripts/benchmark_attention.py and scripts/benchmark_rows.py time.
"""

# R rows, L tokens per row, T supervised tokens, D model width

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from locvlm.data.collate import collate
from locvlm.data.packing import Mode, PackingConfig, plan_step
from locvlm.data.tokenize import Branch, TokenizedSample
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.variants import llava_config
from locvlm.training.plan.flops import backward_flops, forward_flops
from locvlm.training.plan.loads import executed_load
from locvlm.training.plan.memory import Attention
from locvlm.training.plan.shapes import Scope, shape_of

Batch = dict[str, Any]

STAGE2 = Scope(stage="stage2")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}
LANGUAGE_MODEL = ("llm", "attention")  # parts of flops.PARTS


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a model. The tower's share of a step is about what it is at 7B: a hundredth."""

    width: int = 512
    layers: int = 4
    heads: int = 8
    vocabulary: int = 32_064
    canvas: int = 224  # side in pixels, patches of 14: 256 tokens
    tower_width: int = 192
    tower_layers: int = 5

    def config(self) -> LlavaConfig:
        """As stock LLaVA writes it down."""
        vision = CLIPVisionConfig(
            hidden_size=self.tower_width,
            intermediate_size=4 * self.tower_width,
            num_hidden_layers=self.tower_layers,
            num_attention_heads=4,
            image_size=self.canvas,
            patch_size=14,
            projection_dim=64,
        )
        text = LlamaConfig(
            hidden_size=self.width,
            intermediate_size=-(-self.width * 8 // 3 // 32) * 32,  # LLaMA's share, a multiple of 32
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=8192,
        )
        image, pad = self.vocabulary - 1, self.vocabulary - 2
        return llava_config(vision, text, "mlp", image_token_id=image, pad_token_id=pad)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a step asks: images with a prefix each, and pairs about them."""

    images: int = 2
    pairs: int = 8  # about each image
    branch_tokens: tuple[int, ...] = (40,)  # of the first pair, the second, ..., and from the start again
    targets: int = 11  # supervised of each: the share that Localize-Instruct's answers have
    text_before_image: int = 35  # with vicuna_v1's system sentence


def build_model(sizes: Sizes, *, dtype: torch.dtype, seed: int = 0) -> LocVLM:
    """Random weights, the same for the same seed; tower frozen, as in stage 2. In fp64 norms are, too."""
    torch.manual_seed(seed)
    model = LocVLM(sizes.config())
    freeze(model, train=("adapter", "llm"))
    if dtype == torch.float64:
        _make_norms_exact(model)
    nn.Module.to(model, dtype)  # whose types mypy can read
    return model.train()


def _make_norms_exact(model: nn.Module) -> None:
    """LLaMA's norm computes in fp32 whatever comes in, which would hide what fp64 is to show."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LlamaRMSNorm):
                norm = nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon)
                norm.weight = child.weight
                setattr(parent, name, norm)


def choose_attention(model: LocVLM, attention: Attention) -> None:
    """Have the next passes use another kernel, with the same weights."""
    text: Any = model.config.text_config
    if text._attn_implementation != attention:
        model.set_attn_implementation(attention)


def make_batch(model: LocVLM, content: Content, mode: Mode, *, seed: int = 0) -> Batch:
    """One micro-batch: all pairs of an image in a row, or with mode "separate" a row for each pair."""
    text: Any = model.config.text_config
    rng = random.Random(seed)
    samples = [_draw_sample(model, content, index, rng) for index in range(content.images)]
    canvas, noise = model.spec.canvas, np.random.default_rng(seed)
    pixels = {
        index: noise.standard_normal((3, canvas, canvas), dtype=np.float32) for index in range(len(samples))
    }
    copies = content.pairs if mode == "separate" else 1
    longest = max(
        len(sample.prefix_ids) + sum(len(branch.ids) for branch in branches)
        for sample in samples
        for branches in ([[branch] for branch in sample.branches] if copies > 1 else [sample.branches])
    )
    plan = plan_step(
        samples,
        PackingConfig(mode=mode, max_row_tokens=longest),
        accumulation=1,
        rows_per_accumulation=copies * content.images,
        pad_token_id=text.pad_token_id,
    )
    batch = collate(
        plan.passes[0], pixels=pixels, pad_token_id=text.pad_token_id, num_targets=plan.num_targets
    )
    return {**batch, "pixel_values": batch["pixel_values"].to(model.dtype)}


def _draw_sample(model: LocVLM, content: Content, index: int, rng: random.Random) -> TokenizedSample:
    spec = model.text_spec
    words = range(3, min(spec.image_token_id, spec.pad_token_id))
    branches = []
    for pair in range(content.pairs):
        length = content.branch_tokens[pair % len(content.branch_tokens)]
        supervised = (False,) * (length - content.targets) + (True,) * content.targets
        branches.append(Branch(ids=rng.choices(words, k=length), supervised=supervised))
    prefix = rng.choices(words, k=content.text_before_image)
    image = [spec.image_token_id] * model.spec.num_image_tokens
    return TokenizedSample(id=str(index), prefix_ids=prefix + image, branches=tuple(branches), num_images=1)


def language_model_pass(model: LocVLM, batch: Batch) -> torch.Tensor:
    """Forward pass of the language model's blocks alone, from random embeddings to a scalar of its states."""
    rows, length = batch["input_ids"].shape
    text: Any = model.config.text_config
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(rows, length, text.hidden_size, generator=generator).to(model.dtype).requires_grad_()
    states = model.model.language_model(
        inputs_embeds=embeds,
        position_ids=batch["position_ids"],
        use_cache=False,
        target_rows=batch["target_index"],
        **model.attention_keywords(batch["sample_ids"], batch["branch_ids"], dtype=model.dtype),
    ).last_hidden_state  # (1, T, D)
    scalar: torch.Tensor = states.float().square().mean()
    return scalar


def count_flops(model: LocVLM, batch: Batch, attention: Attention) -> dict[str, float]:
    """Of forward and backward pass, by part."""
    shape, load = shape_of(model.config), executed_load(batch, attention)
    forward, backward = (count(shape, load, STAGE2) for count in (forward_flops, backward_flops))
    return {part: forward[part] + backward[part] for part in forward}


def kept_bytes(model: LocVLM, batch: Batch) -> int:
    """Bytes that a forward pass keeps for the backward pass: each storage once, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that its address is not used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(**batch).loss
    total = sum(storage.nbytes() for storage in kept.values())
    del loss
    return total
