"""Sizes of a model, and its parameters by part, counted in the real classes on the meta device."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import AutoConfig, LlamaConfig, LlavaConfig

from locvlm.model.adapter import AdapterKind, adapter_kind, require_adapter_kind
from locvlm.model.freeze import Part, freeze
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings
from locvlm.model.variants import llava_config, variant
from locvlm.training.plan.machines import require_name

StageName = Literal["stage1", "stage2", "stage3"]

AFTER_ATTENTION = ("gate_proj", "up_proj", "down_proj")  # of a block's linear layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What trains: stage 1 the adapter; later the language model, too, or LoRA's matrices beside it."""

    stage: StageName
    lora: LoraSettings | None = None
    is_adapter_alone: bool = False  # in stage 3: LocVLM-Vid-B

    @property
    def trains_llm(self) -> bool:
        """Whether the language model's own weights train."""
        return self.stage != "stage1" and not self.is_adapter_alone and self.lora is None

    @property
    def parts(self) -> tuple[Part, ...]:
        """For `freeze`, of a model in which LoRA's matrices have not been put yet."""
        return ("adapter", "llm") if self.trains_llm else ("adapter",)


_LLAMA_13B: dict[str, Any] = {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "vocab_size": 32064,
}
LLMS: dict[str, Callable[[], Any]] = {
    "llama-7b": lambda: variant("b").text_config,
    "llama-2-7b": lambda: variant("l").text_config,
    "llama-13b": lambda: LlamaConfig(**_LLAMA_13B, max_position_embeddings=2048),
    "llama-2-13b": lambda: LlamaConfig(**_LLAMA_13B, max_position_embeddings=4096),
    "tiny": lambda: variant("tiny").text_config,
}
TOWERS: dict[str, Callable[[], Any]] = {
    "clip-l-14-224": lambda: variant("b").vision_config,
    "clip-l-14-336": lambda: variant("l").vision_config,
    "tiny": lambda: variant("tiny").vision_config,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """What FLOPs and memory depend on. Widths in values, lengths in tokens."""

    canvas: int  # side of the tower's input, in pixels
    patch: int
    tower_width: int
    tower_mlp: int
    tower_layers: int  # that are run: not the last, whose output nobody reads
    adapter: AdapterKind
    width: int  # of the language model
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    max_position: int
    num_frames: int = 0  # of a video; 0 where there are none
    pad_frames: int | None = None

    @property
    def image_tokens(self) -> int:
        """Tokens of one image."""
        return (self.canvas // self.patch) ** 2

    @property
    def video_tokens(self) -> int:
        """Tokens of one video."""
        return (self.pad_frames or self.num_frames) + self.image_tokens

    @property
    def attention_width(self) -> int:
        """Heads x head width: of queries, and of keys and values once they are repeated for all heads."""
        return self.heads * self.head_width

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(values in, values out) of the linear layers of a block."""
        kept = self.kv_heads * self.head_width
        return {
            "q_proj": (self.width, self.attention_width),
            "k_proj": (self.width, kept),
            "v_proj": (self.width, kept),
            "o_proj": (self.attention_width, self.width),
            "gate_proj": (self.width, self.mlp),
            "up_proj": (self.width, self.mlp),
            "down_proj": (self.mlp, self.width),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PartSize:
    """Parameters of one part of the model."""

    total: int
    trained: int


def shape_of(config: LlavaConfig) -> ModelShape:
    """The sizes in a configuration."""
    vision: Any = config.vision_config
    text: Any = config.text_config
    layer = config.vision_feature_layer
    video: dict[str, Any] = (getattr(config, "locvlm", None) or {}).get("video") or {}
    if not isinstance(layer, int):
        raise ValueError(f"the planner knows models that read one layer of the tower, got {layer}")
    return ModelShape(
        canvas=vision.image_size,
        patch=vision.patch_size,
        tower_width=vision.hidden_size,
        tower_mlp=vision.intermediate_size,
        tower_layers=layer if layer >= 0 else vision.num_hidden_layers + 1 + layer,
        adapter=adapter_kind(config),
        width=text.hidden_size,
        mlp=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_width=text.head_dim or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        max_position=text.max_position_embeddings,
        num_frames=video.get("num_frames") or 0,
        pad_frames=video.get("pad_frames"),
    )


def model_config(
    checkpoint: str | Path, *, llm: str | None = None, tower: str | None = None, adapter: str | None = None
) -> LlavaConfig:
    """The configuration of the folder `checkpoint`; or, where parts are named, of a model made of them.

    Raises:
        ValueError: if there is no such folder and no description, or only a part of one; for an unknown name.
    """
    described = {"--llm": llm, "--tower": tower, "--adapter": adapter}
    missing = [option for option, value in described.items() if value is None]
    if len(missing) == len(described):
        return _config_in(checkpoint)
    if llm is None or tower is None or adapter is None:
        raise ValueError(
            f"a model is described by --llm, --tower and --adapter; missing {', '.join(missing)}"
        )
    # which ids mean "image" and "padding" has no influence on a plan
    return llava_config(
        _part(tower, TOWERS, "--tower"),
        _part(llm, LLMS, "--llm"),
        require_adapter_kind(require_name(adapter, get_args(AdapterKind), "--adapter")),
        image_token_id=0,
        pad_token_id=0,
    )


def _config_in(checkpoint: str | Path) -> LlavaConfig:
    if not (Path(checkpoint) / "config.json").is_file():
        raise ValueError(
            f"model.checkpoint: there is no {Path(checkpoint) / 'config.json'} yet; describe the model "
            f"instead, such as --llm llama-7b --tower clip-l-14-224 --adapter linear"
        )
    config = AutoConfig.from_pretrained(checkpoint)
    if not isinstance(config, LlavaConfig):
        raise ValueError(f"{checkpoint} holds a {config.model_type!r} model, expected 'llava'")
    return config


def _part(name: str, known: dict[str, Callable[[], Any]], option: str) -> Any:
    """The configuration of a named part, or of the model in a folder."""
    if name not in known and (Path(name) / "config.json").is_file():
        config = AutoConfig.from_pretrained(name)
        return config.vision_config if config.model_type == "clip" else config
    return known[require_name(name, known, f"{option} (no such folder either)")]()


def meta_model(config: LlavaConfig) -> LocVLM:
    """The real model without weights: nothing is allocated."""
    with torch.device("meta"):
        return LocVLM(config)


def count_parameters(config: LlavaConfig, scope: Scope) -> dict[str, PartSize]:
    """Parameters of tower, adapter, llm (its blocks and last norm), embeddings, head, and of LoRA, if any."""
    model = meta_model(config)
    freeze(model, train=scope.parts)
    counts = {name: [0, 0] for name in ("tower", "adapter", "llm", "embeddings", "head")}
    for name, parameter in model.named_parameters():
        count = counts[_part_of(name)]
        count[0] += parameter.numel()
        count[1] += parameter.numel() if parameter.requires_grad else 0
    if scope.lora is not None:
        counts["lora"] = [lora_size(shape_of(config), scope.lora)] * 2
    return {name: PartSize(total=total, trained=trained) for name, (total, trained) in counts.items()}


def lora_size(shape: ModelShape, lora: LoraSettings) -> int:
    """Parameters of LoRA: two matrices beside each layer that it is put to."""
    return shape.layers * sum(lora.rank * sum(shape.projections[name]) for name in lora.targets)


def _part_of(name: str) -> str:
    """The planner's part that a parameter belongs to."""
    for piece, part in {
        "vision_tower.": "tower",
        "multi_modal_projector.": "adapter",
        "embed_tokens.": "embeddings",
        "lm_head.": "head",
    }.items():
        if piece in name:
            return part
    return "llm"
