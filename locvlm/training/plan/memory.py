"""Bytes of one rank: model states by ZeRO stage, activations, logits, and the rows that fit beside them.

Activations follow Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
section 4.1: what each layer keeps for its backward pass is counted, tensor by tensor. Their layer (GPT,
dropout, two-matrix MLP, scores kept) comes to 34 s b h + 5 a s^2 b bytes; a LLaMA layer as transformers runs
it, whose attention kernel keeps no scores, keeps for each token in bf16

    two norms      2 (4 h + 4)    input in fp32, 1 / rms
                 + 2 (2 h + 2 h)  before and after the gain, if the layer trains (else nobody needs them)
    attention      4 (2 A) + 4 a  query, key (both rotated), value, output; log of the softmax sums
    MLP            3 (2 f)        gate, its SiLU, up
                 + 2 f            their product, if the layer trains

with width h, attention width A, heads a, MLP width f: 186 kB a token and layer of LLaMA-7B. With LoRA, what
goes into its matrices is kept. The last layer keeps second norm and MLP, and the last norm what it keeps, of
supervised tokens alone (model/last_layer.py). The tests compare this with the bytes that autograd keeps in
the real model, on a CPU, in all three precisions.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from locvlm.model.lora import LoraSettings
from locvlm.training.plan.flops import Load, adapter_tokens
from locvlm.training.plan.shapes import AFTER_ATTENTION, ModelShape, PartSize, Scope

Precision = Literal["bf16", "autocast", "fp32"]
"""bf16: weights are bf16, DeepSpeed keeps fp32 masters; autocast: weights fp32, products bf16; fp32: all."""

Attention = Literal["sdpa", "eager", "tree", "flex_attention"]

# CUDA context, communication buffers and workspaces of the math libraries; pieces too small to be used again.
# Estimates: scripts/preflight.py measures the run itself.
_FIXED_BYTES = 2 * 2**30
_FRAGMENTED_FRACTION = 0.04
_4BIT = 0.516  # bytes of a weight in nf4, its scales quantized (Dettmers et al. 2023, section 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Zero:
    """What of a DeepSpeed config memory depends on; stage 0 is the Trainer without DeepSpeed."""

    stage: int = 0
    offload_optimizer: bool = False
    offload_param: bool = False
    accumulate_fp32: bool = True  # data_types.grad_accum_dtype
    communicate_fp32: bool = True  # communication_data_type
    reduce_bucket: int = 0  # in values
    overlap: bool = True  # two buckets
    max_live: int = 0  # values of gathered parameters, ZeRO-3


@dataclass(frozen=True, kw_only=True, slots=True)
class StateBytes:
    """Model states of one rank. They are the same in every pass."""

    weights: float
    gradients: float
    optimizer: float  # fp32 masters and both moments
    buffers: float  # communication; casts of weights; gathered parameters
    host: float = 0.0  # in the host's memory, of one rank

    @property
    def device(self) -> float:
        """On the accelerator."""
        return self.weights + self.gradients + self.optimizer + self.buffers


def state_bytes(
    parameters: dict[str, PartSize],
    zero: Zero,
    precision: Precision,
    num_ranks: int,
    *,
    is_4bit: bool = False,
) -> StateBytes:
    """Weights, gradients and AdamW's states as DeepSpeed 0.19 (or, for stage 0, DDP) keeps them.

    `is_4bit`: the language model's blocks are quantized (QLoRA).
    """
    total = sum(part.total for part in parameters.values())
    trained = sum(part.trained for part in parameters.values())
    if zero.stage == 0:
        return _without_deepspeed(parameters, trained, precision, num_ranks, is_4bit=is_4bit)
    size = 4 if precision == "fp32" else 2
    grad_size = 4 if zero.accumulate_fp32 or size == 4 else 2
    sums_whole = zero.stage == 1 and grad_size > size  # ZeRO-1 then keeps the fp32 sums of all gradients
    weights = weight_bytes(parameters, size, is_4bit=is_4bit) / (num_ranks if zero.stage == 3 else 1)
    gradients = grad_size * trained / (1 if sums_whole else num_ranks)
    optimizer = (4 + 8) * trained / num_ranks
    buffers = _bucket_bytes(zero, size, trained)
    host = 0.0
    if zero.stage == 3:
        buffers += size * min(zero.max_live, total)
    if zero.offload_optimizer:
        host += optimizer + gradients
        optimizer = gradients = 0.0
    if zero.offload_param:
        host += weights
        weights = 0.0
    return StateBytes(weights=weights, gradients=gradients, optimizer=optimizer, buffers=buffers, host=host)


def weight_bytes(parameters: dict[str, PartSize], size: int, *, is_4bit: bool) -> float:
    """Of the weights alone, `size` bytes each; the language model's blocks in 4 bits, if they are."""
    quantized = parameters["llm"].total if is_4bit else 0
    return size * (sum(part.total for part in parameters.values()) - quantized) + _4BIT * quantized


def _without_deepspeed(
    parameters: dict[str, PartSize], trained: int, precision: Precision, num_ranks: int, *, is_4bit: bool
) -> StateBytes:
    """fp32 weights, gradients, moments; DDP's buckets; autocast's bf16 copies of what backward multiplies."""
    casts = 0
    if precision == "autocast":
        multiplied = {"adapter", "head", "lora"} | (set() if is_4bit else {"llm"})
        casts = 2 * sum(part.total for name, part in parameters.items() if name in multiplied)
    return StateBytes(
        weights=weight_bytes(parameters, 4, is_4bit=is_4bit),
        gradients=4 * trained,
        optimizer=8 * trained,
        buffers=casts + (4 * trained if num_ranks > 1 else 0),
    )


def _bucket_bytes(zero: Zero, size: int, trained: int) -> float:
    """Buckets in which gradients are collected, and the fp32 copy of one in which they are summed."""
    if zero.stage == 1:  # a pass's own gradients, whole
        return size * trained
    if zero.stage == 3:
        return 4 * zero.reduce_bucket
    copies = size * (2 if zero.overlap else 1)
    return copies * zero.reduce_bucket + (4 * min(zero.reduce_bucket, trained) if size == 2 else 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationBytes:
    """What a forward pass keeps for the backward pass, and what backward needs on top at its worst moment."""

    blocks: float  # of the language model; with checkpointing, their inputs
    shared: float  # by all blocks: the mask of packed rows, cosines and sines of positions
    adapter: float
    head: float  # of supervised tokens: last norm, states, log-probabilities
    working: float  # freed within the pass: gradients of logits, or one block's intermediate results
    logits: float  # contained in the last two: all that supervised tokens x vocabulary take at once

    @property
    def kept(self) -> float:
        """At the end of the forward pass."""
        return self.blocks + self.shared + self.adapter + self.head

    @property
    def peak(self) -> float:
        """At the worst moment."""
        return self.kept + self.working


def activation_bytes(
    shape: ModelShape,
    load: Load,
    *,
    scope: Scope,
    precision: Precision,
    attention: Attention = "sdpa",
    checkpointing: bool = False,
) -> ActivationBytes:
    """Of one pass of one rank; `load.pairs` counts for attention that keeps its scores."""
    size = _size(precision)
    stream = 2 if precision == "bf16" else 4  # of the residual stream: autocast leaves it in fp32
    is_trained = scope.trains_llm
    first_half = load.tokens * _attention_bytes(shape, precision, scope)
    first_half += _score_bytes(shape, load, precision, attention)
    second_half = _mlp_bytes(shape, precision, scope)  # of one token
    block = first_half + load.tokens * second_half
    logits = load.targets * shape.vocabulary
    rotary = 2 * stream * load.tokens * shape.head_width
    masks = _mask_bytes(shape, load, precision, attention, checkpointing=checkpointing)
    # backward through the MLP: gradients of its four activations, and the norm's in fp32
    working = load.tokens * (4 * size * shape.mlp + 3 * 4 * shape.width)
    blocks = shape.layers * block - (load.tokens - load.targets) * second_half
    if checkpointing:
        blocks = shape.layers * stream * load.tokens * shape.width
        working += block
    return ActivationBytes(
        blocks=blocks,
        shared=masks + rotary,
        adapter=adapter_tokens(shape, load) * size * _adapter_widths(shape),
        head=load.targets * _norm_bytes(shape, precision, is_trained=is_trained, num_uses=0)
        + (size * load.targets * shape.width if is_trained else 0)
        + 4 * logits,
        # the loss: gradients of log-probabilities and of logits in fp32, beside the kept 4 bytes
        working=max(working, 8 * logits),
        logits=12 * logits,
    )


def _attention_bytes(shape: ModelShape, precision: Precision, scope: Scope) -> float:
    """Of one token in one block, up to its attention's output, without scores; see the module's docstring."""
    norm = _norm_bytes(shape, precision, is_trained=scope.trains_llm, num_uses=3)  # by query, key, value
    kept = 4 * _size(precision) * shape.attention_width + 4 * shape.heads
    names = [name for name in shape.projections if name not in AFTER_ATTENTION]
    return norm + kept + _lora_bytes(shape, precision, scope.lora, names)


def _mlp_bytes(shape: ModelShape, precision: Precision, scope: Scope) -> float:
    """Of one token in one block, after attention."""
    norm = _norm_bytes(shape, precision, is_trained=scope.trains_llm, num_uses=2)  # by gate, up
    kept = _size(precision) * shape.mlp * (4 if scope.trains_llm else 3)
    return norm + kept + _lora_bytes(shape, precision, scope.lora, AFTER_ATTENTION)


def _size(precision: Precision) -> int:
    """Bytes of a value that a matrix product takes."""
    return 4 if precision == "fp32" else 2


def _lora_bytes(
    shape: ModelShape, precision: Precision, lora: LoraSettings | None, names: Collection[str]
) -> float:
    """Of one token: what goes into LoRA's matrices beside layers of these names; masks of its dropout."""
    if lora is None:
        return 0.0
    size, wrapped = _size(precision), [name for name in lora.targets if name in names]
    inner = size * lora.rank * len(wrapped)
    if lora.dropout:  # each layer has a copy of its own
        return inner + sum((size + 1) * shape.projections[name][0] for name in wrapped)
    if precision == "autocast":  # each casts its input anew
        return inner + sum(size * shape.projections[name][0] for name in wrapped)
    groups = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # that have their input in common
    inputs = sum(size * shape.width for group in groups if any(name in wrapped for name in group))
    return inner + inputs + (size * shape.mlp if "down_proj" in wrapped else 0)


def _norm_bytes(shape: ModelShape, precision: Precision, *, is_trained: bool, num_uses: int) -> float:
    """Of one token: a norm, and its output, which `num_uses` linear layers keep."""
    kept = 4.0 * shape.width + 4
    if not is_trained:
        return kept
    size = 2 if precision == "bf16" else 4
    kept += size * shape.width  # before the gain
    if num_uses and precision == "autocast":
        return kept + 2 * shape.width * num_uses  # each casts it anew
    return kept + (size * shape.width if num_uses else 0)


def _score_bytes(shape: ModelShape, load: Load, precision: Precision, attention: Attention) -> float:
    """Attention scores of one block: fused kernels keep none."""
    if attention in ("sdpa", "flex_attention"):
        return 0.0
    size = 4 if precision == "fp32" else 2
    per_pair = size if attention == "tree" else (4 if precision == "fp32" else 4 + 2)
    return load.pairs * shape.heads * per_pair


def _mask_bytes(
    shape: ModelShape, load: Load, precision: Precision, attention: Attention, *, checkpointing: bool
) -> float:
    """The mask of packed rows, one for all layers; autocast casts it anew in each, and keeps the casts."""
    if attention in ("tree", "flex_attention"):
        return 0.0
    pairs = load.rows * load.row_tokens**2
    if precision != "autocast" or attention == "eager":
        return pairs * (2 if precision == "bf16" else 4)
    return pairs * (4 if checkpointing else 2 * shape.layers)


def _adapter_widths(shape: ModelShape) -> int:
    """Values that the adapter keeps for an image token: its input; before and after its GELU."""
    return shape.tower_width + (2 * shape.width if shape.adapter == "mlp" else 0)


def usable_bytes(memory_bytes: int) -> float:
    """What of an accelerator's memory a plan may fill."""
    return memory_bytes * (1 - _FRAGMENTED_FRACTION) - _FIXED_BYTES
