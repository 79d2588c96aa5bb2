"""The adapter between tower and language model: its two kinds, fresh weights, and files that hold it alone.

Both kinds are the stock two-layer projector of LLaVA, so that every checkpoint stays stock:

    mlp     linear_1 -> GELU -> linear_2        LocVLM-L, LLaVA-1.5
    linear  linear_1 -> nothing -> identity     LocVLM-B; `projector_hidden_act="linear"`, the last is frozen

An adapter-only folder (what stage 1 leaves) holds `adapter.safetensors` and `adapter_config.json`; the latter
says what the adapter was trained between, and `load_adapter` refuses to put it anywhere else. The files that
LLaVA's own stage 1 leaves (`mm_projector.bin`) can be loaded too; they do not say what they belong to.
"""

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import LlavaConfig

from locvlm.io import read_json
from locvlm.model.weight_files import Shape, download_hint, read_weights, require_fitting, shapes_of

logger = logging.getLogger(__name__)

AdapterKind = Literal["linear", "mlp"]
HIDDEN_ACT: dict[AdapterKind, str] = {"linear": "linear", "mlp": "gelu"}  # LlavaConfig.projector_hidden_act
WEIGHTS_FILE = "adapter.safetensors"
CONFIG_FILE = "adapter_config.json"

LLAVA_FILE = "mm_projector.bin"  # what LLaVA's own stage 1 leaves
_LLAVA_PREFIXES = ("base_model.model.model.mm_projector.", "model.mm_projector.", "mm_projector.")
LLAVA_NAMES: dict[AdapterKind, dict[str, str]] = {  # LLaVA's layer -> ours
    "linear": {"": "linear_1."},
    "mlp": {"0.": "linear_1.", "2.": "linear_2."},
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SavedAdapter:
    """An adapter as read from a file."""

    path: Path  # of the weights
    kind: AdapterKind
    weights: dict[str, torch.Tensor]  # by the projector's own names
    facts: dict[str, Any] | None  # `adapter_facts` of the model it was trained in; LLaVA's files have none


def adapter_kind(config: LlavaConfig) -> AdapterKind:
    """Which kind a checkpoint's configuration describes; no activation between the layers means `linear`."""
    return "linear" if config.projector_hidden_act == HIDDEN_ACT["linear"] else "mlp"


def require_adapter_kind(kind: str) -> AdapterKind:
    """`kind`, if it is one.

    Raises:
        ValueError: naming the kinds there are.
    """
    for known in get_args(AdapterKind):
        if kind == known:
            return known
    raise ValueError(f"the adapter is one of {', '.join(get_args(AdapterKind))}, got {kind!r}")


@torch.no_grad()
def reset_adapter(projector: Any, kind: AdapterKind, *, seed: int) -> None:
    """Fresh weights in place: normal(0, 1 / sqrt(width in)), bias 0; a linear kind ends in the identity.

    The same seed gives the same weights on every machine and whatever was drawn before.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in (projector.linear_1, projector.linear_2):
        fresh = torch.randn(layer.weight.shape, generator=generator) / layer.weight.shape[1] ** 0.5
        layer.weight.copy_(fresh)
        if layer.bias is not None:
            layer.bias.zero_()
    if kind == "linear":
        projector.linear_2.weight.copy_(torch.eye(projector.linear_2.weight.shape[0]))


@torch.no_grad()
def match_embeddings(projector: Any, features: torch.Tensor, embeddings: torch.Tensor) -> None:
    """Scale fresh weights in place so that such features come out as long as word embeddings are.

    A tower's features may be tens of times longer than words. What a language model's layers add to vectors
    that long is lost in them, and a small adapter takes most of stage 1 to shrink them.

    Args:
        features: (N, P, width in) of any images.
        embeddings: (V, D) of the language model.
    """
    dtype = projector.linear_1.weight.dtype
    projector.linear_1.weight.div_(_rms(features))
    last = projector.linear_1 if _is_identity(projector.linear_2.weight) else projector.linear_2
    last.weight.mul_(_rms(embeddings) / _rms(projector(features.to(dtype))))


def _rms(values: torch.Tensor) -> torch.Tensor:
    return values.float().square().mean().sqrt()


def _is_identity(weight: torch.Tensor) -> bool:
    return torch.equal(weight, torch.eye(*weight.shape, dtype=weight.dtype))


def adapter_facts(config: LlavaConfig) -> dict[str, Any]:
    """What an adapter depends on: its kind and sizes, the tower it reads, the frame of the pixels it saw.

    The codec, the location type and the conversation are left out on purpose: stage 1 writes no coordinates,
    so that one stage-1 adapter serves stage-2 runs with every codec.
    """
    ours = getattr(config, "locvlm", None) or {}
    vision: Any = config.vision_config
    text: Any = config.text_config
    return {
        "kind": adapter_kind(config),
        "vision_width": vision.hidden_size,
        "llm_width": text.hidden_size,
        "canvas": vision.image_size,
        "patch": vision.patch_size,
        "frame": (ours.get("contract") or {}).get("frame"),
        "tower": ours.get("tower"),
    }


def save_adapter(model: nn.Module, folder: str | Path) -> None:
    """Write the model's adapter alone to `folder`. Under ZeRO-3 every rank must call it; rank 0 writes."""
    folder = Path(folder)
    projector = _projector(model)
    with gathered(projector.parameters()) as is_writer:
        if not is_writer:
            return
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: weight.detach().cpu().contiguous() for name, weight in projector.state_dict().items()
        }
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        facts = json.dumps(adapter_facts(_config(model)), indent=2) + "\n"
        (folder / CONFIG_FILE).write_text(facts, encoding="utf-8")


def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Put an adapter's weights (see `read_adapter`) into the model.

    Raises:
        ValueError: if a file is missing or broken, if the adapter was trained for another tower, frame or
            size, or if a weight is missing, unknown or of another shape. The model is untouched then.
    """
    saved, config = read_adapter(path), _config(model)
    if saved.facts is not None:
        _require_same_facts(saved.facts, adapter_facts(config), path)
    elif saved.kind != adapter_kind(config):
        raise ValueError(
            f"{saved.path} holds a {saved.kind} adapter, this model has a {adapter_kind(config)} one; "
            f"compose the starting checkpoint with --adapter {saved.kind}"
        )
    else:
        logger.warning(
            "%s does not say which tower and which frame its adapter was trained with; see to it that they "
            "are those of this model",
            saved.path,
        )
    projector = _projector(model)
    expected: dict[str, Shape] = {
        name: whole_shape(parameter) for name, parameter in projector.named_parameters()
    }
    require_fitting(shapes_of(saved.weights), expected, where=saved.path)
    with torch.no_grad(), gathered(projector.parameters()):
        for name, parameter in projector.named_parameters():
            parameter.copy_(saved.weights[name])
    logger.info("loaded the adapter of %s", path)


def read_adapter(path: str | Path) -> SavedAdapter:
    """The adapter in `path`: an adapter-only folder of ours, or an adapter-only file of LLaVA or its folder.

    LLaVA's names are `model.mm_projector.weight` (linear) or `model.mm_projector.0.weight`, ... (mlp).

    Raises:
        ValueError: if there is none, or a file is broken.
    """
    path = Path(path)
    if path.is_dir() and (path / LLAVA_FILE).is_file() and not (path / WEIGHTS_FILE).is_file():
        path = path / LLAVA_FILE
    if path.is_file() and path.name != WEIGHTS_FILE:
        return _read_llava_adapter(path)
    folder = path.parent if path.is_file() else path
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder} is not an adapter-only folder: no {name}; expected the output of stage 1, or a "
                f"{LLAVA_FILE}{download_hint(path)}"
            )
    facts = read_json(folder / CONFIG_FILE)
    kind = require_adapter_kind(facts.get("kind"))
    weights = read_weights(folder / WEIGHTS_FILE)
    return SavedAdapter(path=folder / WEIGHTS_FILE, kind=kind, weights=weights, facts=facts)


def _read_llava_adapter(path: Path) -> SavedAdapter:
    """Weights under our names; what has another name keeps it, and is found unknown later."""
    weights = {}
    for name, weight in read_weights(path).items():
        prefix = next((prefix for prefix in _LLAVA_PREFIXES if name.startswith(prefix)), "")
        weights[name.removeprefix(prefix)] = weight
    kind: AdapterKind = "linear" if {"weight", "bias"} & weights.keys() else "mlp"
    renamed = {}
    for name, weight in weights.items():
        layer, last = name[: name.rfind(".") + 1], name[name.rfind(".") + 1 :]
        renamed[LLAVA_NAMES[kind].get(layer, layer) + last] = weight
    if kind == "linear" and "linear_1.weight" in renamed:
        renamed.update(identity_layer(renamed["linear_1.weight"]))
    return SavedAdapter(path=path, kind=kind, weights=renamed, facts=None)


def identity_layer(first_weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The second layer of a linear adapter whose first has this weight (D, width in)."""
    width, dtype = first_weight.shape[0], first_weight.dtype
    return {
        "linear_2.weight": torch.eye(width, dtype=dtype),
        "linear_2.bias": torch.zeros(width, dtype=dtype),
    }


def _require_same_facts(saved: dict[str, Any], expected: dict[str, Any], folder: str | Path) -> None:
    for name, value in expected.items():
        got = saved.get(name)
        is_unknown = name in ("tower", "frame") and (
            got is None or value is None
        )  # public checkpoints do not say
        if got != value and not is_unknown:
            raise ValueError(
                f"the adapter in {folder} does not fit this model: {name} is {got!r} there and {value!r} "
                f"here; train stage 1 from the same starting checkpoint, or start stage 2 from the one that "
                f"stage 1 used"
            )


def _projector(model: nn.Module) -> nn.Module:
    return model.get_submodule("model.multi_modal_projector")


def _config(model: nn.Module) -> LlavaConfig:
    config = model.config
    assert isinstance(config, LlavaConfig)
    return config


def whole_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """The parameter's shape, also where ZeRO-3 has cut it up."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


@contextlib.contextmanager
def gathered(parameters: Iterable[nn.Parameter]) -> Iterator[bool]:
    """Whole parameters inside; under ZeRO-3 rank 0's changes reach all ranks. Yields: is it I who writes?"""
    parameters = list(parameters)
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        is_first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        yield is_first
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
        yield torch.distributed.get_rank() == 0
