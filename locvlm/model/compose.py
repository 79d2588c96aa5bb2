"""Parts become one LocVLM checkpoint, before any training: language model, CLIP tower, adapter."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

from locvlm.constants import IMAGE_TOKEN, MAX_SHARD_SIZE, PAD_TOKEN
from locvlm.coords.contract import CoordinateContract
from locvlm.model import adapter as adapters
from locvlm.model.adapter import AdapterKind, require_adapter_kind, reset_adapter
from locvlm.model.foreign import Parts, separate_parts
from locvlm.model.locvlm import LocVLM
from locvlm.model.processor import build_processor
from locvlm.model.variants import llava_config
from locvlm.model.vision import patch_features, tower_identity

logger = logging.getLogger(__name__)

_NOISE_IMAGES = 4
_VOCABULARY_MULTIPLE = 64  # rows of the embedding; what matrix kernels and published LLaVA checkpoints like
_MAX_UNUSED_ROWS = 1024  # of an embedding: published models pad by up to some hundreds


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
    """`compose_parts` of a language model and a CLIP tower.

    Args:
        llm: Hugging Face folder of a causal language model of the LLaMA kind.
        clip: see `locvlm.model.vision.load_tower`.
        adapter: "linear" or "mlp", freshly initialised from `seed`.
    """
    require_adapter_kind(adapter)  # before gigabytes are read
    return compose_parts(
        separate_parts(llm, clip),
        tokenizer=tokenizer,
        adapter=adapter,
        coordinates=coordinates,
        conversation=conversation,
        match_embeddings=match_embeddings,
        seed=seed,
    )


def compose_parts(
    parts: Parts,
    *,
    tokenizer: PreTrainedTokenizerBase,
    adapter: str | None = None,
    coordinates: CoordinateChoice = CoordinateChoice(),
    conversation: str = "vicuna_v1",
    match_embeddings: bool = False,
    seed: int = 0,
) -> LocVLM:
    """A LocVLM from pretrained parts (see `foreign.py`), in the language model's precision; takes them over.

    The vocabulary is padded to a multiple of 64; rows that the language model had not are the mean of those
    it had, so that they are neither likely nor strange. Input and output embeddings are untied, as in
    published LLaVA.

    Args:
        tokenizer: with `<image>` and `<pad>`.
        adapter: "linear" or "mlp"; left out, that of the parts, or linear where they have none.
        match_embeddings: scale the adapter so that images come out as long as words
            (`locvlm.model.adapter.match_embeddings`).
        seed: of the adapter's weights, where the parts have none.

    Raises:
        ValueError: if a part does not fit.
    """
    kind = _settle_kind(adapter, parts.adapter)
    image_token_id, pad_token_id = _require_tokens(tokenizer)
    require_fitting_vocabulary(tokenizer, num_rows=parts.decoder.get_input_embeddings().weight.shape[0])
    _fit_vocabulary(parts, len(tokenizer))
    tower: Any = parts.tower
    config = llava_config(
        tower.config, parts.decoder.config, kind, image_token_id=image_token_id, pad_token_id=pad_token_id
    )
    config.vision_feature_layer = parts.feature_layer
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
        **parts.pixel_statistics,
    }
    model = _assemble(config, parts, seed=seed, tokenizer=tokenizer)
    if match_embeddings:
        _match_embeddings(model, seed=seed)
    return model


def require_fitting_vocabulary(tokenizer: PreTrainedTokenizerBase, *, num_rows: int) -> None:
    """Nothing, if a language model with `num_rows` embedding rows can be this tokenizer's.

    The rows may be fewer by `<image>` and `<pad>`, which are added here, and more by padding.

    Raises:
        ValueError: if it must be another language model's.
    """
    added = {IMAGE_TOKEN, PAD_TOKEN} & set(tokenizer.get_vocab())
    num_tokens = len(tokenizer)
    if num_tokens - len(added) > num_rows or num_rows - num_tokens > _MAX_UNUSED_ROWS:
        raise ValueError(
            f"the tokenizer has {num_tokens} tokens, and the language model's embedding {num_rows} rows: "
            f"they do not belong together. Give the language model's own tokenizer as --tokenizer"
        )


def save_checkpoint(
    model: LocVLM, tokenizer: PreTrainedTokenizerBase, folder: str | Path, *, chat_template: str | None
) -> None:
    """Write model, tokenizer and processor as one Hugging Face folder, which appears when it is complete."""
    with appearing_folder(folder) as unfinished:
        model.save_pretrained(unfinished, max_shard_size=MAX_SHARD_SIZE)
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


def _settle_kind(asked: str | None, found: AdapterKind | None) -> AdapterKind:
    """The adapter's kind, from what is asked for and what the parts hold."""
    kind = require_adapter_kind(asked or found or "linear")
    if found is not None and kind != found:
        raise ValueError(
            f"the checkpoint holds a {found} adapter, asked for is a {kind} one; leave out --adapter, or "
            f"start from --llm and --clip with a fresh one"
        )
    return kind


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
def _fit_vocabulary(parts: Parts, num_tokens: int) -> None:
    """Untie the embeddings and pad them in place; new rows are the mean of the old."""
    embedding, head, text = parts.decoder.get_input_embeddings(), parts.head, parts.decoder.config
    if head.weight is embedding.weight:
        head.weight = torch.nn.Parameter(head.weight.clone())
    old_size = text.vocab_size
    size = -(-max(num_tokens, old_size) // _VOCABULARY_MULTIPLE) * _VOCABULARY_MULTIPLE
    if size == old_size:
        return
    for layer in (embedding, head):
        old = layer.weight
        fresh = old.float().mean(dim=0).to(old.dtype).expand(size - old_size, -1)
        layer.weight = torch.nn.Parameter(torch.cat([old, fresh]))  # (size, D)
    embedding.num_embeddings = size
    head.out_features = size
    text.vocab_size = size


def _assemble(config: Any, parts: Parts, *, seed: int, tokenizer: PreTrainedTokenizerBase) -> LocVLM:
    """The parts in one model; nothing large is initialised only to be overwritten."""
    with torch.device("meta"):
        model = LocVLM(config)
    projector = LlavaMultiModalProjector(config)
    if parts.adapter_weights:
        projector.load_state_dict(parts.adapter_weights)
    else:
        reset_adapter(projector, require_adapter_kind(config.locvlm["adapter"]), seed=seed)
    model.model.vision_tower = parts.tower
    model.model.multi_modal_projector = projector
    model.model.language_model = parts.decoder
    model.lm_head = parts.head
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    whole: Any = model
    return cast(LocVLM, whole.to(parts.decoder.dtype).eval())
