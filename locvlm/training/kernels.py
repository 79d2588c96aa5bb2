"""What a model's settings ask of the machine: GPU kernels and packages that not every machine has."""

from importlib.util import find_spec
from typing import Any

import torch

from locvlm.model.attention import FLEX_ATTENTION
from locvlm.training.arguments import ModelConfig


def prepare(config: ModelConfig) -> None:
    """Check that the machine has what is asked for, and put kernels in their places; before a model is made.

    Raises:
        ValueError: naming the setting, what it needs and what to set instead.
    """
    has_gpu = torch.cuda.is_available()
    if config.attn_implementation == FLEX_ATTENTION and not has_gpu:
        raise ValueError(
            "model.attn_implementation is flex_attention, which has no backward pass on a CPU; set it to "
            "tree, which computes the same"
        )
    for name, is_wanted, package, instead in (
        ("model.liger_kernels", config.liger_kernels, "liger_kernel", "it changes the speed alone"),
        ("model.quantize", config.quantize is not None, "bitsandbytes", "LoRA works without"),
    ):
        if is_wanted and not (has_gpu and find_spec(package)):
            raise ValueError(
                f"{name} needs a CUDA GPU ({'there is one' if has_gpu else 'there is none'}) and the package "
                f"{package} ({'installed' if find_spec(package) else 'not installed'}); leave it out: "
                f"{instead}"
            )
    if config.liger_kernels:
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        # the loss stays ours: it is of the supervised rows alone
        apply_liger_kernel_to_llama(cross_entropy=False, fused_linear_cross_entropy=False)


def quantization(config: ModelConfig) -> Any:
    """For `from_pretrained`: the language model's layers in 4 bits (QLoRA, Dettmers et al. 2023), or None."""
    if config.quantize is None:
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["vision_tower", "multi_modal_projector", "lm_head"],
    )
