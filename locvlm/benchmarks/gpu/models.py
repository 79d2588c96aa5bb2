"""Models with random weights, made on the device itself, as a stage would have loaded them."""

from typing import Any

import torch
from torch import nn
from transformers import LlavaConfig

from locvlm.benchmarks.gpu.cases import Attention, Setup, config_of
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import apply_lora
from locvlm.training import kernels
from locvlm.training.plan.shapes import meta_model


def build_model(setup: Setup, device: torch.device) -> LocVLM:
    """In bf16, as DeepSpeed holds a model; with 4-bit weights the rest in fp32, as the Trainer alone does.

    Raises:
        ValueError: if this machine lacks what the setup asks for (`kernels.prepare`).
    """
    kernels.prepare(setup.model_config("sdpa"))
    dtype = torch.float32 if setup.quantize else torch.bfloat16
    model = random_model(config_of(setup.variant), device, dtype)
    if setup.quantize is not None:
        _quantize(model, kernels.quantization(setup.model_config("sdpa")))
    if setup.lora is not None:
        apply_lora(model, setup.lora)
    freeze(model, train=("adapter", "lora") if setup.lora else setup.scope.parts)
    return model


def random_model(config: LlavaConfig, device: torch.device, dtype: torch.dtype, *, seed: int = 0) -> LocVLM:
    """A model in training mode, initialised by the library where its weights are: 7B in seconds on a GPU."""
    torch.manual_seed(seed)
    model = meta_model(config)
    for parameter in model.parameters():  # not the buffers: rotary frequencies stay fp32
        parameter.data = parameter.data.to(dtype)
    model.to_empty(device=device)
    model.init_weights()  # buffers, too
    return model.train()


def choose_attention(model: LocVLM, attention: Attention) -> None:
    """Have the next passes use another kernel, with the same weights.

    Raises:
        ValueError: if this machine cannot train with it.
    """
    kernels.prepare(Setup(variant="toy", stage="stage2").model_config(attention))
    text: Any = model.config.text_config
    if text._attn_implementation != attention:
        model.set_attn_implementation(attention)


def compile_blocks(model: LocVLM, *, backend: str) -> None:
    """Compile each block of the language model, in place; they are alike, so it is done once."""
    for block in model.model.language_model.layers:
        block.compile(backend=backend)


def compile_model(model: LocVLM, *, backend: str) -> Any:
    """The whole forward pass compiled, as `training.torch_compile` does."""
    return torch.compile(model, backend=backend)


def _quantize(model: LocVLM, settings: Any) -> None:
    """What `from_pretrained` makes of the language model's layers when it is given these settings."""
    import bitsandbytes as bnb

    blocks: Any = model.model.language_model.layers
    for module in list(blocks.modules()):
        for name, layer in list(module.named_children()):
            if not isinstance(layer, nn.Linear):
                continue
            quantized = bnb.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=False,
                compute_dtype=settings.bnb_4bit_compute_dtype,
                compress_statistics=settings.bnb_4bit_use_double_quant,
                quant_type=settings.bnb_4bit_quant_type,
                device="meta",
            )
            quantized.weight = bnb.nn.Params4bit(
                layer.weight.data.to(torch.bfloat16),
                requires_grad=False,
                compress_statistics=settings.bnb_4bit_use_double_quant,
                quant_type=settings.bnb_4bit_quant_type,
            ).to(layer.weight.device)  # quantizes
            setattr(module, name, quantized)
    vars(model)["is_loaded_in_4bit"] = True  # peft asks
