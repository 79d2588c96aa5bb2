"""Language model, CLIP tower and fresh adapter become one LocVLM checkpoint, before any training."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from locvlm.constants import IMAGE_TOKEN, PAD_TOKEN
from locvlm.coords.contract import CoordinateContract
from locvlm.model import adapter as adapters
from locvlm.model.adapter import require_adapter_kind, reset_adapter
from locvlm.model.locvlm import LocVLM
from locvlm.model.processor import build_processor
from locvlm.model.variants import llava_config
from locvlm.model.vision import load_tower, patch_features, tower_identity

logger = logging.getLogger(__name__)

_NOISE_IMAGES = 4
_VOCABULARY_MULTIPLE = 64  # rows of the embedding; what matrix kernels and published LLaVA checkpoints like


@dataclass(frozen=True, kw_only=True, slots=True)
class CoordinateChoice:
    """The part of a coordinate contract that is chosen; canvas and patch follow from the tower."""

    codec: str = "ivb"
    frame: str = "stretch"
    location: str = "bbox"


def compose(
    *,
    llm: str | Path,
    clip: str,
    tokenizer: PreTrainedTokenizerBase,
    adapter: str = "linear",
    coordinates: CoordinateChoice = CoordinateChoice(),
    conversation: str = "vicuna_v1",
    match_embeddings: bool = False,
    seed: int = 0,
) -> LocVLM:
    """A LocVLM from pretrained parts, in the language model's precision.

    The vocabulary is padded to a multiple of 64; rows that the language model had not are the mean of those
    it had, so that they are neither likely nor strange. Input and output embeddings are untied, as in
    published LLaVA.

    Args:
        llm: Hugging Face folder of a causal language model of the LLaMA kind.
        clip: see `locvlm.model.vision.load_tower`.
        tokenizer: with `<image>` and `<pad>`.
        adapter: "linear" or "mlp", freshly initialised from `seed`.
        match_embeddings: scale the adapter so that images come out as long as words
            (`locvlm.model.adapter.match_embeddings`).

    Raises:
        ValueError: if a part is missing or does not fit.
    """
    kind = require_adapter_kind(adapter)
    image_token_id, pad_token_id = _require_tokens(tokenizer)
    loaded, pixel_statistics = load_tower(clip)
    tower: Any = loaded
    language: Any = _load_language_model(llm)
    _fit_vocabulary(language, len(tokenizer))
    config = llava_config(
        tower.config, language.config, kind, image_token_id=image_token_id, pad_token_id=pad_token_id
    )
    contract = CoordinateContract(
        codec=coordinates.codec,  # type: ignore[arg-type]  # checked by the contract itself
        frame=coordinates.frame,  # type: ignore[arg-type]
        location=coordinates.location,  # type: ignore[arg-type]
        canvas=tower.config.image_size,
        patch=tower.config.patch_size,
    )
    config.locvlm = {
        "contract": contract.to_dict(),
        "conversation": conversation,
        "adapter": kind,
        "tower": tower_identity(tower),
        **pixel_statistics,
    }
    model = _assemble(config, tower, language, seed=seed, tokenizer=tokenizer)
    if match_embeddings:
        _match_embeddings(model, seed=seed)
    return model


def save_checkpoint(
    model: LocVLM, tokenizer: PreTrainedTokenizerBase, folder: str | Path, *, chat_template: str | None
) -> None:
    """Write model, tokenizer and processor as one Hugging Face folder, which appears when it is complete."""
    with appearing_folder(folder) as unfinished:
        model.save_pretrained(unfinished)
        build_processor(tokenizer, model.spec, model.contract.frame, chat_template).save_pretrained(
            unfinished
        )
    logger.info("wrote %s", folder)


@contextmanager
def appearing_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, renamed to it at the end of the block; removed if the block fails.

    Raises:
        ValueError: if `folder` exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists already; give another output folder or remove it")
    unfinished = folder.with_name(f".{folder.name}.unfinished-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _require_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Ids of `<image>` and `<pad>`."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (IMAGE_TOKEN, PAD_TOKEN) if token not in vocabulary]
    if missing:
        raise ValueError(
            f"the tokenizer lacks {', '.join(missing)}; load it with locvlm.data.tokenize.load_tokenizer"
        )
    return vocabulary[IMAGE_TOKEN], vocabulary[PAD_TOKEN]


def _load_language_model(folder: str | Path) -> PreTrainedModel:
    """The language model in its own precision."""
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"no language model in {folder}: expected a Hugging Face folder with config.json")
    language = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True)
    if not (hasattr(language, "model") and hasattr(language, "lm_head")):
        raise ValueError(
            f"{folder} holds a {type(language).__name__}; expected a model of the LLaMA kind "
            f"(with .model and .lm_head)"
        )
    return language


@torch.no_grad()
def _match_embeddings(model: LocVLM, *, seed: int) -> None:
    """Scale the adapter by what the tower makes of noise: features of photographs are about as long."""
    generator, canvas = torch.Generator().manual_seed(seed), model.spec.canvas
    noise = torch.randn(_NOISE_IMAGES, 3, canvas, canvas, generator=generator).to(model.dtype)
    config: Any = model.config
    words: Any = model.get_input_embeddings().weight
    features = patch_features(model.model.vision_tower, noise, layer=config.vision_feature_layer)
    adapters.match_embeddings(model.model.multi_modal_projector, features, words)


@torch.no_grad()
def _fit_vocabulary(language: Any, num_tokens: int) -> None:
    """Untie the embeddings and pad them in place; new rows are the mean of the old."""
    head = language.get_output_embeddings()
    if head.weight is language.get_input_embeddings().weight:
        head.weight = torch.nn.Parameter(head.weight.clone())
    language.config.tie_word_embeddings = False
    old_size = language.config.vocab_size
    size = -(-max(num_tokens, old_size) // _VOCABULARY_MULTIPLE) * _VOCABULARY_MULTIPLE
    if size == old_size:
        return
    for layer in (language.get_input_embeddings(), head):
        old = layer.weight
        fresh = old.float().mean(dim=0).to(old.dtype).expand(size - old_size, -1)
        layer.weight = torch.nn.Parameter(torch.cat([old, fresh]))  # (size, D)
    language.get_input_embeddings().num_embeddings = size
    head.out_features = size
    language.config.vocab_size = size


def _assemble(
    config: Any,
    tower: Any,
    language: Any,
    *,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
) -> LocVLM:
    """The parts in one model; nothing large is initialised only to be overwritten."""
    with torch.device("meta"):
        model = LocVLM(config)
    projector = LlavaMultiModalProjector(config)
    reset_adapter(projector, require_adapter_kind(config.locvlm["adapter"]), seed=seed)
    model.model.vision_tower = tower
    model.model.multi_modal_projector = projector
    model.model.language_model = language.model
    model.lm_head = language.lm_head
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    whole: Any = model
    return cast(LocVLM, whole.to(language.dtype).eval())
