"""LoRA folder + its base -> one whole checkpoint, which appears only if it gives the same logits."""

# S tokens, V vocabulary

import logging
from pathlib import Path
from typing import Any

import torch

from locvlm.data.prompt import chat_template
from locvlm.data.tokenize import load_tokenizer
from locvlm.export.check import compare_with_export
from locvlm.export.hf import require_conversation
from locvlm.model.compose import appearing_folder, save_checkpoint
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import attach_lora, merge_lora
from locvlm.model.weight_files import load_whole, require_folder

logger = logging.getLogger(__name__)

_NUM_TEXT_TOKENS = 24
_MAX_DIFFERENCE = {  # of the largest logit: the merged weights are rounded once more, to the base's precision
    torch.float32: 1e-4,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
}


def merge_checkpoint(
    base: str | Path, lora: str | Path, out: str | Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write the whole checkpoint to `out`: what `LocVLM.from_pretrained`, evaluation and export open.

    Two checks come first: the merged model gives the logits of base and LoRA side by side, and stock classes
    give the merged model's from the new folder.

    Args:
        base: the starting checkpoint that the LoRA was trained on, with its tokenizer.
        lora: the folder that `locvlm.model.lora.save_lora` wrote.
        dtype: of the weights; the base's own if left out.

    Raises:
        ValueError: if `out` exists, the two do not belong together, or a check fails.
    """
    folder = require_folder(base, "base checkpoint")
    with appearing_folder(out) as unfinished:  # first of all, before gigabytes are read
        model: LocVLM = load_whole(LocVLM, folder, dtype=dtype or "auto", use_safetensors=True)
        attach_lora(model, lora)
        difference = _merge_checked(model.eval())
        conversation = require_conversation(model.config)
        tokenizer = load_tokenizer(folder)
        save_checkpoint(model, tokenizer, unfinished, chat_template=chat_template(conversation))
        compare_with_export(model, tokenizer, conversation, unfinished)
    logger.info("merged %s into %s: logits differ by %.1e of the largest", lora, out, difference)


def _merge_checked(model: LocVLM) -> float:
    """Merge in place; by how much the logits differ then, as a fraction of the largest."""
    before = _logits(model)
    merge_lora(model)
    difference = float((_logits(model) - before).abs().max() / before.abs().max())
    if not difference <= _MAX_DIFFERENCE[model.dtype]:
        raise ValueError(
            f"the merged model's logits differ by {difference:.1e} of the largest, expected at most "
            f"{_MAX_DIFFERENCE[model.dtype]:.0e} in {model.dtype}; nothing was written. Try --dtype float32"
        )
    return difference


@torch.inference_mode()
def _logits(model: LocVLM) -> torch.Tensor:
    """Of made-up pixels and tokens: (S, V)."""
    generator, canvas = torch.Generator().manual_seed(0), model.spec.canvas
    pixels: Any = torch.randn(1, 3, canvas, canvas, generator=generator)
    text: Any = model.config.text_config
    words = torch.randint(3, text.vocab_size, (_NUM_TEXT_TOKENS,), generator=generator)
    words = words[words != model.config.image_token_id]
    image = torch.full((model.spec.num_image_tokens,), model.config.image_token_id)
    ids = torch.cat([image, words])[None]
    logits: torch.Tensor = model(input_ids=ids, pixel_values=pixels.to(model.dtype)).logits[0].float()
    return logits
