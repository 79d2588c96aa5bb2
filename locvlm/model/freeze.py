"""Which parts of the model train in a stage."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn
from transformers import LlavaForConditionalGeneration

from locvlm.model.adapter import adapter_kind

logger = logging.getLogger(__name__)

Part = Literal["vision_tower", "adapter", "llm", "lora"]


@dataclass(frozen=True, slots=True)
class FreezeRow:
    """One line of the table of what trains."""

    part: str
    num_trained: int  # parameters
    num_total: int


def freeze(model: LlavaForConditionalGeneration, *, train: Sequence[str]) -> list[FreezeRow]:
    """Let exactly the named parts train, log the table and return it.

    Stage 1 trains ("adapter",), stage 2 ("adapter", "llm"), with LoRA ("adapter", "lora"). The second layer
    of a linear adapter is the identity and never trains (see adapter.py). `llm` covers the language model,
    its embeddings and its head, but not what lora.py adds beside them.

    Raises:
        ValueError: if a part is unknown or nothing would train, or for `lora` in a model without.
    """
    unknown = sorted(set(train) - set(get_args(Part)))
    if unknown or not train:
        raise ValueError(f"train takes one or more of {', '.join(get_args(Part))}, got {list(train)}")
    is_linear = adapter_kind(model.config) == "linear"
    counts = {part: [0, 0] for part in get_args(Part)}
    for part, name, parameter in _parts(model):
        parameter.requires_grad = part in train and not (
            is_linear and part == "adapter" and "linear_2." in name
        )
        counts[part][0] += _size(parameter) if parameter.requires_grad else 0
        counts[part][1] += _size(parameter)
    if "lora" in train and not counts["lora"][1]:
        raise ValueError("train names lora, but the model has none; call locvlm.model.lora.apply_lora first")
    rows = [FreezeRow(part, *numbers) for part, numbers in counts.items() if part != "lora" or numbers[1]]
    for row in rows:
        logger.info(
            "%-12s %14s of %14s parameters train", row.part, f"{row.num_trained:,}", f"{row.num_total:,}"
        )
    return rows


def _parts(model: LlavaForConditionalGeneration) -> Iterator[tuple[Part, str, nn.Parameter]]:
    """Every parameter with its name and the part it belongs to."""
    for name, parameter in model.named_parameters():
        if "vision_tower." in name:
            yield "vision_tower", name, parameter
        elif "multi_modal_projector." in name:
            yield "adapter", name, parameter
        elif ".lora_A." in name or ".lora_B." in name:  # peft's names
            yield "lora", name, parameter
        else:
            yield "llm", name, parameter


def _size(parameter: nn.Parameter) -> int:
    """Number of values, also where ZeRO-3 has cut the parameter up."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
