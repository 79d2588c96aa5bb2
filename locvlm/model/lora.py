"""LoRA: low-rank matrices beside the language model's projections, which train in their stead (by peft).

Only the language model is wrapped. The vision tower has projections of the same names and stays as it is; the
adapter between them is small and trains whole. The layers are put into the model in place: it stays a LocVLM,
whose projections are called `...q_proj.base_layer`, with `lora_A` and `lora_B` beside them.

    FOLDER/lora/      adapter_model.safetensors, adapter_config.json    as peft reads them, too
    FOLDER/adapter/   adapter.safetensors, adapter_config.json          see adapter.py
    FOLDER/base.json  what both belong to: the base checkpoint, its sizes, its coordinate contract

Torch and peft are imported where they are used: run configurations hold `LoraSettings`, and `--help` answers
without them.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locvlm.io import read_json, write_json

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn

    from locvlm.model.locvlm import LocVLM

logger = logging.getLogger(__name__)

LORA_FOLDER, ADAPTER_FOLDER, BASE_FILE = "lora", "adapter", "base.json"
LLAMA_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_PEFT_WEIGHTS = "adapter_model.safetensors"
_PEFT_NAME = "default"  # of the one set of matrices in the model
_PEFT_PREFIX = "base_model.model."  # before every name in peft's files
_LAYERS = "model.language_model.layers."


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSettings:
    """Sizes as in LLaVA-1.5's LoRA script, which trains them with a learning rate of 2e-4."""

    rank: int = 128
    alpha: float = 256.0  # the product of the matrices is scaled by alpha / rank
    dropout: float = 0.05  # of what goes into them
    targets: tuple[str, ...] = LLAMA_PROJECTIONS  # last part of the names of the layers to wrap

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"LoRA needs rank >= 1, alpha > 0 and 0 <= dropout < 1, got rank {self.rank}, alpha "
                f"{self.alpha}, dropout {self.dropout}"
            )
        if not self.targets:
            raise ValueError(f"LoRA needs targets, such as {', '.join(LLAMA_PROJECTIONS)}; got none")


def apply_lora(model: "LocVLM", settings: LoraSettings, *, seed: int = 0) -> None:
    """Put LoRA layers into the language model, in place. At first they change nothing: `lora_B` is zero.

    The same seed gives the same `lora_A` on every rank. All parameters but theirs stop training;
    `freeze(model, train=("adapter", "lora"))` lets the adapter train as well.

    Raises:
        ValueError: for targets that the language model has not (those it has are named), or a second call.
    """
    import torch
    from peft import inject_adapter_in_model

    if any(_lora_layers(model)):
        raise ValueError("the model has LoRA layers already; merge them first, or load into them")
    available = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if name.startswith(_LAYERS) and isinstance(module, torch.nn.Linear)
    }
    unknown = sorted(set(settings.targets) - available)
    if unknown:
        raise ValueError(
            f"LoRA targets {', '.join(unknown)} are no layers of this language model; it has "
            f"{', '.join(sorted(available))}"
        )
    inject_adapter_in_model(_peft_config(settings), model)
    generator = torch.Generator().manual_seed(seed)
    for _, layer in _lora_layers(model):
        weight = layer.lora_A[_PEFT_NAME].weight
        if not layer.get_base_layer().weight.is_floating_point():
            layer.to(torch.float32)  # beside 4-bit weights peft makes them in bf16, which loses small steps
            weight = layer.lora_A[_PEFT_NAME].weight
        fresh = torch.empty(weight.shape)
        torch.nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=generator)  # peft's own, from our seed
        with torch.no_grad():
            weight.copy_(fresh)


def save_lora(model: "LocVLM", folder: str | Path, settings: LoraSettings, *, base: str) -> None:
    """Write LoRA and adapter to `folder`. Under ZeRO-3 every rank must call it; rank 0 writes.

    Args:
        settings: those of `apply_lora`.
        base: the starting checkpoint's folder, for whoever merges.
    """
    from safetensors.torch import save_file

    from locvlm.model.adapter import gathered, save_adapter

    folder = Path(folder)
    save_adapter(model, folder / ADAPTER_FOLDER)
    parameters = _lora_parameters(model)
    with gathered(parameters.values()) as is_writer:
        if not is_writer:
            return
        (folder / LORA_FOLDER).mkdir(parents=True, exist_ok=True)
        weights = {
            _name_in_file(name): weight.detach().cpu().contiguous() for name, weight in parameters.items()
        }
        save_file(weights, folder / LORA_FOLDER / _PEFT_WEIGHTS, metadata={"format": "pt"})
        config = _peft_config(settings)
        config.base_model_name_or_path, config.inference_mode = base, True
        config.save_pretrained(str(folder / LORA_FOLDER))
        facts = {"base": base, "sizes": _sizes(model), "lora": asdict(settings)}
        write_json(folder / BASE_FILE, {**facts, "locvlm": model.config.locvlm})


def load_lora(model: "LocVLM", folder: str | Path) -> None:
    """Put what `save_lora` wrote into a model that has LoRA layers of these settings.

    Raises:
        ValueError: if a file is missing or broken, or was written with another base, or does not fit.
    """
    import torch

    from locvlm.model.adapter import gathered, load_adapter, whole_shape
    from locvlm.model.weight_files import read_weights, require_fitting, shapes_of

    folder = Path(folder)
    _read_facts(model, folder)
    path = folder / LORA_FOLDER / _PEFT_WEIGHTS
    saved = read_weights(path)
    parameters = {_name_in_file(name): weight for name, weight in _lora_parameters(model).items()}
    expected = {name: whole_shape(weight) for name, weight in parameters.items()}
    require_fitting(shapes_of(saved), expected, where=path)
    load_adapter(model, folder / ADAPTER_FOLDER)
    with torch.no_grad(), gathered(parameters.values()):
        for name, weight in parameters.items():
            weight.copy_(saved[name])


def attach_lora(model: "LocVLM", folder: str | Path) -> LoraSettings:
    """Give a base checkpoint the LoRA layers, the adapter and the coordinate contract that `folder` holds.

    Raises:
        ValueError: as `load_lora`.
    """
    facts = _read_facts(model, Path(folder))
    settings = LoraSettings(**{**facts["lora"], "targets": tuple(facts["lora"]["targets"])})
    apply_lora(model, settings)
    own = {name: value for name, value in (model.config.locvlm or {}).items() if name == "tower"}
    model.config.locvlm = {**facts["locvlm"], **own}  # its own tower: load_adapter compares it
    load_lora(model, folder)
    return settings


def merge_lora(model: "LocVLM") -> None:
    """Add the matrices' product to the weights, computed in fp32, and take the LoRA layers out, in place.

    Raises:
        ValueError: if there are none, or ZeRO-3 has cut the weights up.
    """
    import torch

    layers = list(_lora_layers(model))
    if not layers:
        raise ValueError("the model has no LoRA layers to merge")
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        raise ValueError("LoRA cannot be merged under ZeRO-3; save it and run scripts/merge_lora.py")
    for name, layer in layers:
        weight = layer.base_layer.weight
        exact = torch.promote_types(weight.dtype, torch.float32)
        first, second = (part[_PEFT_NAME].weight.to(exact) for part in (layer.lora_A, layer.lora_B))
        with torch.no_grad():
            weight.copy_(weight.to(exact) + layer.scaling[_PEFT_NAME] * (second @ first))
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.base_layer)
    model.__dict__.pop("peft_config", None)


def _peft_config(settings: LoraSettings) -> "LoraConfig":
    from peft import LoraConfig

    names = "|".join(settings.targets)
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft divides it by the rank, whole or not
        lora_dropout=settings.dropout,
        target_modules=rf"{re.escape(_LAYERS)}\d+\..*({names})",
        bias="none",
    )


def _lora_layers(model: "nn.Module") -> Iterator[tuple[str, Any]]:
    """(name, layer) of every wrapped projection."""
    from peft.tuners.lora import LoraLayer

    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer))


def _lora_parameters(model: "nn.Module") -> dict[str, "nn.Parameter"]:
    return {
        f"{name}.{part}.{_PEFT_NAME}.weight": getattr(layer, part)[_PEFT_NAME].weight
        for name, layer in _lora_layers(model)
        for part in ("lora_A", "lora_B")
    }


def _name_in_file(name: str) -> str:
    """`...q_proj.lora_A.default.weight` -> peft's name of it in files, which leaves `default` out."""
    return _PEFT_PREFIX + name.removesuffix(f".{_PEFT_NAME}.weight") + ".weight"


def _sizes(model: "LocVLM") -> dict[str, int]:
    """Of the language model: what LoRA matrices depend on, and the vocabulary."""
    text: Any = model.config.text_config
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads", "vocab_size")
    return {name: getattr(text, name) for name in names}


def _read_facts(model: "LocVLM", folder: Path) -> dict[str, Any]:
    """base.json of a LoRA folder, if it is of a base of the model's sizes."""
    if not (folder / BASE_FILE).is_file():
        raise ValueError(f"{folder} is no LoRA folder: it has no {BASE_FILE}; expected the output of stage 2")
    facts: dict[str, Any] = read_json(folder / BASE_FILE)
    differing = [
        f"{name} is {facts['sizes'].get(name)} there and {value} here"
        for name, value in _sizes(model).items()
        if facts["sizes"].get(name) != value
    ]
    if differing:
        raise ValueError(
            f"the LoRA in {folder} was trained on another base ({'; '.join(differing)}); give the one it "
            f"names: {facts['base']}"
        )
    return facts
