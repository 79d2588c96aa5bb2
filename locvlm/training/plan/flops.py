"""Floating-point operations of matrix products, which are nearly all of a step.

A product (m, k) x (k, n) is 2 m k n operations, a parameter's share 2 a token. Backward takes as many for
the gradient of the input, where something before it trains, and as many for the gradient of the weight, where
that trains. What follows the attention of the last layer sees supervised tokens alone (model/last_layer.py).
The tests compare each figure with what `torch.utils.flop_counter` counts in the real model.

    stage 1   the adapter alone trains: the language model passes gradients through (2 x forward in all)
    stage 2   adapter and language model train (3 x forward); with LoRA 2 x, and 3 x its matrices
"""

from dataclasses import dataclass

from locvlm.training.plan.shapes import AFTER_ATTENTION, ModelShape, Scope

PARTS = ("tower", "adapter", "llm", "lora", "attention", "head")
_IN_BLOCKS = ("llm", "lora", "attention")


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What goes through a model, in a pass or in a step. Means may be fractions."""

    rows: float
    row_tokens: float  # length of a row, with its padding
    images: float
    targets: float  # supervised tokens: what the head sees, and the last layer after its attention
    pairs: float  # (query, key) that attention computes, in one head of one layer
    videos: float = 0.0
    frames: float = 0.0  # of those whose features are not kept: what the tower sees beside images

    @property
    def tokens(self) -> float:
        """Of all rows."""
        return self.rows * self.row_tokens


def dense_pairs(rows: float, row_tokens: float) -> float:
    """Pairs of `sdpa` under a mask, and of `eager`: every token of a row with every other."""
    return rows * row_tokens**2


def tree_pairs(trees: float, prefix: float, branches: float, branch: float) -> float:
    """Pairs of `tree` attention, for trees of a prefix and equal branches (lengths in tokens)."""
    return trees * (prefix**2 + branches * branch * (prefix + branch))


def forward_flops(shape: ModelShape, load: Load, scope: Scope) -> dict[str, float]:
    """Operations of one forward pass by part; `attention` is the language model's scores and sums."""
    projections = shape.projections.items()
    return {
        "tower": (load.images + load.frames) * _tower_flops(shape),
        "adapter": adapter_tokens(shape, load) * sum(_adapter_layers(shape)),
        "llm": sum(tokens_through(shape, load, name) * 2 * ins * outs for name, (ins, outs) in projections),
        "lora": sum(
            tokens_through(shape, load, name) * 2 * scope.lora.rank * (ins + outs)
            for name, (ins, outs) in projections
            if scope.lora and name in scope.lora.targets
        ),
        "attention": 4 * load.pairs * shape.attention_width * shape.layers,
        "head": load.targets * 2 * shape.width * shape.vocabulary,
    }


def backward_flops(shape: ModelShape, load: Load, scope: Scope) -> dict[str, float]:
    """Operations of the backward pass by part.

    Attention counts four products, two for each of forward's. Fused kernels compute the scores once more; as
    usual, that is not counted.
    """
    forward = forward_flops(shape, load, scope)
    times = 2 if scope.trains_llm else 1
    first, second = (adapter_tokens(shape, load) * flops for flops in _adapter_layers(shape))
    return {
        "tower": 0.0,
        # nothing trains before the adapter; the second layer of a linear one is the identity and frozen
        "adapter": first + second * (2 if shape.adapter == "mlp" else 1),
        "llm": times * forward["llm"],
        "lora": 2 * forward["lora"],
        "attention": 2 * forward["attention"],
        "head": times * forward["head"],
    }


def recomputed_flops(shape: ModelShape, load: Load, scope: Scope) -> dict[str, float]:
    """What activation checkpointing computes a second time: the language model's blocks but for their last
    product, which nothing in their backward pass needs (torch stops there unless `use_reentrant` is set)."""
    again = {name: flops for name, flops in forward_flops(shape, load, scope).items() if name in _IN_BLOCKS}
    last = tokens_through(shape, load, "down_proj") * 2 * shape.width
    if scope.lora is not None and "down_proj" in scope.lora.targets:
        again["lora"] -= last * scope.lora.rank
    else:
        again["llm"] -= last * shape.mlp
    return again


def flops_by_direction(
    shape: ModelShape, load: Load, scope: Scope, *, checkpointing: bool
) -> dict[str, dict[str, float]]:
    """All operations that are executed for `load`: {forward, backward[, recomputed]: {part: operations}}."""
    flops = {
        "forward": forward_flops(shape, load, scope),
        "backward": backward_flops(shape, load, scope),
    }
    return {**flops, "recomputed": recomputed_flops(shape, load, scope)} if checkpointing else flops


def total_flops(flops: dict[str, dict[str, float]]) -> float:
    """Of all directions and parts."""
    return sum(sum(parts.values()) for parts in flops.values())


def useful_flops(shape: ModelShape, load: Load, scope: Scope) -> float:
    """What MFU counts: forward and backward, nothing computed twice."""
    return total_flops(flops_by_direction(shape, load, scope, checkpointing=False))


def _tower_flops(shape: ModelShape) -> float:
    """Of one image: patch embedding, then the layers that are run, on patches and CLS."""
    tokens, width = shape.image_tokens + 1, shape.tower_width
    embedding = 2 * shape.image_tokens * 3 * shape.patch**2 * width
    per_token = 2 * (4 * width**2 + 2 * width * shape.tower_mlp) + 4 * tokens * width
    return float(embedding + shape.tower_layers * tokens * per_token)


def tokens_through(shape: ModelShape, load: Load, projection: str) -> float:
    """That go through one of a block's linear layers, in all blocks together."""
    if projection in AFTER_ATTENTION:
        return load.tokens * (shape.layers - 1) + load.targets
    return load.tokens * shape.layers


def adapter_tokens(shape: ModelShape, load: Load) -> float:
    """That go through the adapter: patches of images, pooled tokens of videos."""
    return load.images * shape.image_tokens + load.videos * shape.video_tokens


def _adapter_layers(shape: ModelShape) -> tuple[float, float]:
    """Of one token, forward: the two layers. The second of a linear adapter is multiplied with, too."""
    return float(2 * shape.tower_width * shape.width), float(2 * shape.width**2)
