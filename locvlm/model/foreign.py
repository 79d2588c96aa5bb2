"""The parts of a LocVLM, read from checkpoints that others have made.

    separate   a Hugging Face language model (LLaMA, Vicuna) and a CLIP tower
    llava-hf   LLaVA as transformers writes it, in the key names of 4.x or 5.x: everything in one folder
    original   LLaVA as its own programs write it; the tower is only named there, and given apart

Whatever is missing, unknown or of another shape is an error that lists it: nothing starts from weights that
were made up.

    ours                             original
    model.language_model.layers.0    model.layers.0
    lm_head                          lm_head
    model.multi_modal_projector      model.mm_projector
    model.vision_tower               model.vision_tower.vision_tower.vision_model   (where it is in the files)
"""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from locvlm.io import read_json
from locvlm.model.adapter import LLAVA_NAMES, AdapterKind, adapter_kind, identity_layer
from locvlm.model.variants import llava_config
from locvlm.model.vision import load_tower, pixel_statistics
from locvlm.model.weight_files import load_whole, read_weights, require_fitting, require_folder, shapes_of

logger = logging.getLogger(__name__)

_OUR_ADAPTER, _OUR_TOWER = "model.multi_modal_projector.", "model.vision_tower."
_ORIGINAL_ADAPTER = "model.mm_projector."
_ORIGINAL_TOWER = "model.vision_tower.vision_tower.vision_model."
_DERIVED = re.compile(r"\.rotary_emb\.inv_freq$|\.embeddings\.position_ids$")  # saved once, computed today
_PROJECTORS: dict[str, AdapterKind] = {"linear": "linear", "mlp2x_gelu": "mlp"}  # mm_projector_type
_TEXT_KEYS = (  # of the original config.json, what describes the language model
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "bos_token_id",
    "eos_token_id",
)
_UNREAD = {"image_token_id": 0, "pad_token_id": 0}  # of configurations that only say sizes


@dataclass(kw_only=True, slots=True)
class Parts:
    """What a LocVLM is composed of."""

    decoder: Any  # embeddings and blocks of the language model, a LlamaModel mostly
    head: Any  # its output layer
    tower: CLIPVisionModel
    pixel_statistics: dict[str, Any]  # image_mean, image_std; empty where nothing says
    adapter: AdapterKind | None = None  # None: fresh, of the kind that is asked for
    adapter_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    feature_layer: int = -2  # of the tower


def separate_parts(llm: str | Path, clip: str) -> Parts:
    """A language model in its own precision and a tower (see `vision.load_tower`); the adapter will be fresh.

    Raises:
        ValueError: if there is none, or it is of another kind.
    """
    tower, statistics = load_tower(clip)
    language = _load_language_model(llm)
    return Parts(decoder=language.model, head=language.lm_head, tower=tower, pixel_statistics=statistics)


def llava_parts(folder: str | Path, *, clip: str | None = None) -> Parts:
    """The parts of a LLaVA checkpoint in either form; `clip` gives the tower of an original one.

    Raises:
        ValueError: if it is no LLaVA checkpoint, one of a kind that LocVLM cannot be, or one whose weights do
            not fit; if `clip` is missing or given in vain.
    """
    folder = require_folder(folder, "LLaVA checkpoint")
    saved = read_json(folder / "config.json")
    if "mm_vision_tower" in saved:
        return _original_parts(folder, saved, clip)
    if "vision_config" not in saved or "text_config" not in saved:
        raise ValueError(
            f"{folder} holds no LLaVA: its config.json has neither vision_config and text_config, as "
            f"transformers writes it, nor mm_vision_tower, as LLaVA's own programs do"
        )
    if clip is not None:
        raise ValueError(f"{folder} has a vision tower of its own; leave out --clip")
    return _hf_parts(folder, saved)


# ---- separate


def _load_language_model(folder: str | Path) -> Any:
    """The language model in its own precision."""
    folder = require_folder(folder, "language model")
    language = load_whole(AutoModelForCausalLM, folder)
    if not (hasattr(language, "model") and hasattr(language, "lm_head")):
        raise ValueError(
            f"{folder} holds a {type(language).__name__}; expected a model of the LLaMA kind "
            f"(with .model and .lm_head)"
        )
    return language


# ---- llava-hf


def _hf_parts(folder: Path, saved: dict[str, Any]) -> Parts:
    if (saved.get("locvlm") or {}).get("contract"):
        raise ValueError(
            f"{folder} is a LocVLM checkpoint, with a coordinate contract: training takes it as it is, as "
            f"model.checkpoint"
        )
    loaded: Any = load_whole(LlavaForConditionalGeneration, folder)
    config = loaded.config
    _require_plain(
        folder,
        {
            "vision_config.model_type": (config.vision_config.model_type, "clip_vision_model"),
            "vision_feature_select_strategy": (config.vision_feature_select_strategy, "default"),
            "multimodal_projector_bias": (config.multimodal_projector_bias, True),
            "vision_feature_layer": (type(config.vision_feature_layer).__name__, "int"),
        },
    )
    if config.projector_hidden_act not in ("gelu", "linear"):
        raise ValueError(
            f"{folder} has projector_hidden_act {config.projector_hidden_act!r}; LocVLM has gelu and linear"
        )
    return Parts(
        decoder=loaded.model.language_model,
        head=loaded.lm_head,
        tower=loaded.model.vision_tower,
        pixel_statistics=pixel_statistics(folder),
        adapter=adapter_kind(config),
        adapter_weights=dict(loaded.model.multi_modal_projector.state_dict()),
        feature_layer=config.vision_feature_layer,
    )


def _require_plain(folder: Path, settings: dict[str, tuple[Any, Any]]) -> None:
    """Raises ValueError unless each setting (name -> (got, expected)) is as LocVLM can be."""
    for name, (got, expected) in settings.items():
        if got != expected:
            raise ValueError(
                f"{folder} has {name} {got!r}, and LocVLM can only start from {expected!r}; use LLaVA 1.5, "
                f"or LLaVA 1 without image start and end tokens"
            )


# ---- original


def _original_parts(folder: Path, saved: dict[str, Any], clip: str | None) -> Parts:
    if clip is None:
        raise ValueError(
            f"{folder} names its vision tower ({saved['mm_vision_tower']!r}) and does not hold its sizes; "
            f"download it and give its folder as --clip"
        )
    _require_plain(
        folder,
        {
            "mm_vision_select_feature": (saved.get("mm_vision_select_feature", "patch"), "patch"),
            "mm_use_im_start_end": (saved.get("mm_use_im_start_end", False), False),
            "mm_patch_merge_type": (saved.get("mm_patch_merge_type", "flat"), "flat"),
        },
    )
    kind = _PROJECTORS.get(str(saved.get("mm_projector_type", "linear")))
    if kind is None:
        raise ValueError(
            f"{folder} has mm_projector_type {saved['mm_projector_type']!r}; LocVLM has those of "
            f"{', '.join(_PROJECTORS)}"
        )
    tower, statistics = load_tower(clip)
    logger.info("%s was trained with the tower %s, given is %s", folder, saved["mm_vision_tower"], clip)
    if saved.get("image_aspect_ratio") == "pad":
        logger.warning("%s was trained on images padded to a square, as --frame pad makes them", folder)

    text = LlamaConfig.from_dict({key: saved[key] for key in _TEXT_KEYS if saved.get(key) is not None})
    weights = _rename_original(folder, tower, text, kind)
    tower_weights = _take(weights, _OUR_TOWER)
    if tower_weights:  # LLaVA may have trained it
        tower.load_state_dict(tower_weights)
    adapter_weights = _take(weights, _OUR_ADAPTER)
    decoder, head = _decoder_of(text, weights)
    return Parts(
        decoder=decoder,
        head=head,
        tower=tower,
        pixel_statistics=statistics,
        adapter=kind,
        adapter_weights=adapter_weights,
        feature_layer=int(saved.get("mm_vision_select_layer", -2)),
    )


def _rename_original(
    folder: Path, tower: CLIPVisionModel, text: LlamaConfig, kind: AdapterKind
) -> dict[str, torch.Tensor]:
    """The weights of the folder under our names, the tower's only where it holds them.

    Raises:
        ValueError: listing what does not fit, under the names in the files.
    """
    found = {name: weight for name, weight in read_weights(folder).items() if not _DERIVED.search(name)}
    has_tower = any(name.startswith(_ORIGINAL_TOWER) for name in found)
    with torch.device("meta"):
        empty = LlavaForConditionalGeneration(
            llava_config(tower.config, LlamaConfig.from_dict(text.to_dict()), kind, **_UNREAD)
        )
    ours = shapes_of(empty.state_dict())
    original_names = {
        name: _original_name(name, kind)
        for name in ours
        if (has_tower or not name.startswith(_OUR_TOWER)) and not _is_identity(name, kind)
    }
    expected = {original: ours[name] for name, original in original_names.items()}
    require_fitting(shapes_of(found), expected, where=folder)
    renamed = {name: found[original] for name, original in original_names.items()}
    if kind == "linear":
        identity = identity_layer(renamed[f"{_OUR_ADAPTER}linear_1.weight"])
        renamed.update({_OUR_ADAPTER + name: weight for name, weight in identity.items()})
    return renamed


def _is_identity(name: str, kind: AdapterKind) -> bool:
    return kind == "linear" and name.startswith(f"{_OUR_ADAPTER}linear_2.")


def _original_name(name: str, kind: AdapterKind) -> str:
    """Our name of a weight -> the one in LLaVA's own files."""
    if name.startswith(_OUR_TOWER):
        return _ORIGINAL_TOWER + name.removeprefix(_OUR_TOWER)
    if name.startswith(_OUR_ADAPTER):
        layer, last = name.removeprefix(_OUR_ADAPTER).split(".")
        theirs = next(theirs for theirs, ours in LLAVA_NAMES[kind].items() if ours == f"{layer}.")
        return f"{_ORIGINAL_ADAPTER}{theirs}{last}"
    return name.replace("model.language_model.", "model.", 1)


def _take(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Move what starts with `prefix` out of `weights`; without it."""
    names = [name for name in weights if name.startswith(prefix)]
    return {name.removeprefix(prefix): weights.pop(name) for name in names}


def _decoder_of(text: LlamaConfig, weights: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """(decoder, head) with the weights, which are checked already, in their own precision."""
    state = {name.replace("model.language_model.", "model.", 1): weight for name, weight in weights.items()}
    text.tie_word_embeddings = False
    dtype = state["lm_head.weight"].dtype
    language: Any = LlamaForCausalLM.from_pretrained(None, config=text, state_dict=state, dtype=dtype)
    return language.model, language.lm_head
