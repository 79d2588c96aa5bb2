"""What is measured: setups, each a model built once with what trains and steps it, and their workloads."""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from locvlm.model.lora import LoraSettings
from locvlm.model.variants import llava_config, variant
from locvlm.training.arguments import ModelConfig
from locvlm.training.plan.shapes import Scope, StageName

VariantName = Literal["l", "b", "toy"]
OptimizerName = Literal["fp32", "bf16", "8bit"]
Attention = Literal["sdpa", "tree", "flex_attention"]
Compiled = Literal["no", "blocks", "model"]
ATTENTIONS: tuple[Attention, ...] = ("sdpa", "tree", "flex_attention")
PAIRS = (1, 4, 8)  # of an image


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Of a step, on the one device. A step of the paper is 64 conversations in stage 2, over all GPUs."""

    conversations: dict[StageName, int]
    row_tokens: int
    most_rows: int  # in a pass: more make no product faster


SIZES = Sizes(conversations={"stage1": 32, "stage2": 16}, row_tokens=2048, most_rows=4)
TOY_SIZES = Sizes(conversations={"stage1": 4, "stage2": 3}, row_tokens=512, most_rows=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """A model, what of it trains, and what steps it."""

    variant: VariantName
    stage: StageName
    optimizer: OptimizerName = "bf16"
    lora: LoraSettings | None = None
    quantize: Literal["4bit"] | None = None
    liger: bool = False
    compiled: Compiled = "no"

    @property
    def name(self) -> str:
        """Such as l-stage2-adamw_bf16-lora."""
        parts = [self.variant, self.stage, f"adamw_{self.optimizer}"]
        parts += ["lora"] * (self.lora is not None) + ["4bit"] * (self.quantize is not None)
        parts += ["liger"] * self.liger + [f"compiled_{self.compiled}"] * (self.compiled != "no")
        return "-".join(parts)

    @property
    def scope(self) -> Scope:
        """What trains."""
        return Scope(stage=self.stage, lora=self.lora)

    def model_config(self, attention: Attention) -> ModelConfig:
        """The settings of a run that does the same."""
        return ModelConfig(
            checkpoint="random weights",
            attn_implementation=attention,
            liger_kernels=self.liger,
            quantize=self.quantize,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """How a step's pairs lie in rows, and how rows are computed."""

    pairs: int = 8  # of an image
    mode: Literal["shared_prefix", "separate"] = "shared_prefix"
    attention: Attention = "sdpa"
    checkpointing: bool = False
    is_search: bool = False  # not timed: how many rows a pass can have

    @property
    def name(self) -> str:
        """Such as k8-shared-sdpa."""
        mode = "shared" if self.mode == "shared_prefix" else "separate"
        name = f"k{self.pairs}-{mode}-{self.attention.removesuffix('_attention')}"
        name += "-checkpointing" * self.checkpointing
        return f"largest-{name}" if self.is_search else name


Group = tuple[Setup, tuple[Workload, ...]]


def list_groups(variants: Sequence[VariantName], *, attention: Attention = "sdpa") -> list[Group]:
    """All cases, by setup, the most wanted first; `attention` is that of the options' cases.

    Liger comes last: its kernels take the places of the library's, and stay there.
    """
    shared = Workload(attention=attention)
    largest = replace(shared, is_search=True)
    groups: list[Group] = []
    for name in variants:
        groups.append((Setup(variant=name, stage="stage2"), tuple(_stage2_workloads(shared))))
    for name in variants:
        captions = Workload(pairs=1)
        by_attention = tuple(replace(captions, attention=kind) for kind in ATTENTIONS)
        groups.append((Setup(variant=name, stage="stage1"), (*by_attention, replace(largest, pairs=1))))
    lora = LoraSettings()
    for name in variants:
        plain = Setup(variant=name, stage="stage2")
        groups += [
            (replace(plain, optimizer="fp32"), (shared, largest)),
            (replace(plain, optimizer="8bit"), (shared, largest)),
            (replace(plain, lora=lora, optimizer="fp32"), (shared, largest)),
            (replace(plain, lora=lora, optimizer="fp32", quantize="4bit"), (shared, largest)),
            (replace(plain, compiled="blocks"), (shared,)),
            (replace(plain, compiled="model"), (shared,)),
        ]
    return groups + [(Setup(variant=name, stage="stage2", liger=True), (shared,)) for name in variants]


def _stage2_workloads(shared: Workload) -> Iterator[Workload]:
    """All that one built model can compare."""
    for pairs in PAIRS:
        for attention in ATTENTIONS:
            yield Workload(pairs=pairs, attention=attention)
    yield Workload(pairs=4, mode="separate")  # with one pair there is nothing to share
    yield Workload(pairs=8, mode="separate")
    yield Workload(pairs=8, mode="separate", attention="flex_attention")
    yield replace(shared, checkpointing=True)
    yield replace(shared, is_search=True)


def chosen(groups: Sequence[Group], patterns: Sequence[str]) -> list[Group]:
    """The cases whose names, SETUP/WORKLOAD, fit one of the patterns.

    Raises:
        ValueError: if none does.
    """
    kept = [
        (setup, fitting)
        for setup, workloads in groups
        if (fitting := tuple(w for w in workloads if _fits(f"{setup.name}/{w.name}", patterns)))
    ]
    if not kept:
        raise ValueError(
            f"--only {' '.join(patterns)} fits no case; --plan lists them, such as l-stage2-*/k8-*"
        )
    return kept


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def config_of(name: VariantName) -> LlavaConfig:
    """The sizes of a variant; `toy` is for a CPU, and for comparing kernels."""
    if name != "toy":
        return variant(name)
    vision: Any = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        projection_dim=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
    )
    text: Any = LlamaConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=512,
        max_position_embeddings=1024,
    )
    return llava_config(vision, text, "mlp", image_token_id=511, pad_token_id=510)
