"""A checkpoint with random weights, which all ways can read: ours, and stock LLaVA."""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, PreTrainedTokenizerBase

from locvlm.benchmarks.gpu.models import random_model
from locvlm.benchmarks.peers.workload import CONVERSATION, ROW_TOKENS, ModelSizes
from locvlm.coords.contract import CoordinateContract
from locvlm.data.prompt import chat_template
from locvlm.data.tokenize import load_tokenizer, text_spec
from locvlm.model.compose import save_checkpoint
from locvlm.model.variants import llava_config
from locvlm.world.backbones import WEIGHTS


def write_start(folder: Path, sizes: ModelSizes, *, tokenizer_folder: Path | None = None) -> None:
    """Model, tokenizer and processor as one folder.

    Left out, the tokenizer is the embedded world's, which is there wherever LocVLM is. It fills few rows of
    the embedding; to what embedding, head and loss cost that makes no difference.

    Raises:
        ValueError: if the tokenizer has more tokens than the embedding rows.
    """
    tokenizer = load_tokenizer(tokenizer_folder or WEIGHTS)
    if len(tokenizer) > sizes.vocabulary:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {sizes.vocabulary} rows of embedding: "
            f"give another tokenizer"
        )
    model = random_model(_config(sizes, tokenizer), torch.device("cpu"), torch.float32)
    save_checkpoint(model, tokenizer, folder, chat_template=chat_template(CONVERSATION))


def _config(sizes: ModelSizes, tokenizer: PreTrainedTokenizerBase) -> LlavaConfig:
    ids: Any = tokenizer
    text = LlamaConfig(
        hidden_size=sizes.hidden,
        intermediate_size=sizes.mlp,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=ROW_TOKENS,
        bos_token_id=ids.bos_token_id,
        eos_token_id=ids.eos_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=sizes.tower_width,
        intermediate_size=4 * sizes.tower_width,
        projection_dim=sizes.tower_width,
        num_hidden_layers=sizes.tower_layers,
        num_attention_heads=sizes.tower_heads,
        image_size=sizes.canvas,
        patch_size=sizes.patch,
    )
    spec = text_spec(tokenizer, max_position=ROW_TOKENS)
    config = llava_config(
        vision, text, "mlp", image_token_id=spec.image_token_id, pad_token_id=spec.pad_token_id
    )
    contract = CoordinateContract(canvas=sizes.canvas, patch=sizes.patch)
    config.locvlm = {"contract": contract.to_dict(), "conversation": CONVERSATION, "adapter": "mlp"}
    return config
