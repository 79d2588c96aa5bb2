"""Attention over packed trees, in which only pairs of tokens that may see each other are computed.

A dense mask makes every token of a row look at every other and throws most of it away: with 12 questions
about an image, five sixths. Here the tokens are regrouped by tree: prefixes attend causally to themselves,
branch tokens to their prefix and, causally, to their own branch, in one softmax. The result is that of
`tree_mask` with `sdpa`, its plain twin. Chosen by name: `attn_implementation: tree`.
"""

# R rows, L tokens per row, H heads, D head width; N trees, P tokens of the longest prefix,
# K branches of the tree that has most, T tokens of the longest branch

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from locvlm.constants import NO_SAMPLE

TREE_ATTENTION = "tree"


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeLayout:
    """Where each token of packed rows stands when they are regrouped by tree.

    Tokens are counted through all rows. Places without a token hold the first one, so that there is something
    to compute: no token sees them, and nobody reads what comes out.
    """

    prefixes: torch.Tensor  # (N, P) token at this place of the prefix
    branches: torch.Tensor  # (N, K, T) token at this place of the branch
    places: torch.Tensor  # (R * L,) where a token's output stands in [prefixes, branches, zero] laid flat
    prefix_bias: torch.Tensor | None  # (N, 1, 1, P) minus infinity on empty places; None if there are none


def lay_out_trees(sample_ids: torch.Tensor, branch_ids: torch.Tensor) -> TreeLayout:
    """The layout of packed rows; `sample_ids` and `branch_ids` (R, L) as in `tree_mask`.

    Tokens of a tree stand together in a row, its prefix first, then branch 1, 2, ...
    """
    num_rows, length = sample_ids.shape
    num_tokens = num_rows * length
    sample, branch = sample_ids.reshape(-1).long(), branch_ids.reshape(-1).long()
    row = torch.arange(num_tokens, device=sample.device) // length
    real = torch.nonzero(sample != NO_SAMPLE).squeeze(1)  # (S,) tokens that belong to a tree

    trees, tree = torch.unique_consecutive(
        row[real] * (length + 1) + sample[real], return_inverse=True
    )  # (N,), (S,)
    group = tree * (int(branch.max()) + 1) + branch[real]  # a prefix or a branch of one tree
    _, run, sizes = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
    offset = (
        torch.arange(len(real), device=real.device) - (sizes.cumsum(0) - sizes)[run]
    )  # (S,) place in its run

    in_prefix = branch[real] == 0
    shape_p = (len(trees), int((offset[in_prefix].max() + 1) if in_prefix.any() else 0))
    shape_b = (
        len(trees),
        int(branch[real].max()),
        int((offset[~in_prefix].max() + 1) if (~in_prefix).any() else 0),
    )
    place = torch.where(
        in_prefix,
        tree * shape_p[1] + offset,
        shape_p[0] * shape_p[1] + (tree * shape_b[1] + branch[real] - 1) * shape_b[2] + offset,
    )
    num_places = shape_p[0] * shape_p[1] + shape_b[0] * shape_b[1] * shape_b[2]
    tokens = torch.zeros(num_places, dtype=torch.long, device=real.device)
    tokens[place] = real
    is_filled = torch.zeros(num_places, dtype=torch.bool, device=real.device)
    is_filled[place] = True
    places = torch.full((num_tokens,), num_places, dtype=torch.long, device=real.device)
    places[real] = place
    num_prefix_places = shape_p[0] * shape_p[1]
    is_empty = ~is_filled[:num_prefix_places].view(shape_p)
    bias = torch.zeros(shape_p, device=real.device).masked_fill(is_empty, float("-inf"))[:, None, None]
    return TreeLayout(
        prefixes=tokens[:num_prefix_places].view(shape_p),
        branches=tokens[num_prefix_places:].view(shape_b),
        places=places,
        prefix_bias=bias if is_empty.any() else None,
    )


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    tree_layout: TreeLayout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: query (R, H, L, D) and the like -> (R, L, H, D).

    Key and value may have fewer heads, each shared by several of the query's.

    Without a `tree_layout` (the vision tower, generation) it is stock SDPA.

    Raises:
        ValueError: for dropout in attention, which only the stock kernels have.
    """
    if tree_layout is None:
        stock = AttentionInterface()["sdpa"]
        return stock(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if kwargs.get("dropout"):
        raise ValueError(f"attention {TREE_ATTENTION!r} has no dropout, got {kwargs['dropout']}; use sdpa")
    num_rows, num_heads, length, width = query.shape
    repeats = num_heads // key.shape[1]
    scale = width**-0.5 if scaling is None else scaling
    (query_p, query_b), (key_p, key_b), (value_p, value_b) = (
        _regroup(tensor, tree_layout, times)
        for tensor, times in ((query, 1), (key, repeats), (value, repeats))
    )  # prefixes (N, H, P, D), branches (N, H, K, T, D)
    out_p = _attend_prefixes(query_p * scale, key_p, value_p)
    out_b = _attend_branches(query_b * scale, (key_p, key_b), (value_p, value_b), tree_layout.prefix_bias)
    flat = torch.cat(
        [
            out_p.transpose(1, 2).reshape(-1, num_heads * width),
            out_b.permute(0, 2, 3, 1, 4).reshape(-1, num_heads * width),
            out_b.new_zeros(1, num_heads * width),  # for tokens of no tree
        ]
    )
    return flat.index_select(0, tree_layout.places).view(num_rows, length, num_heads, width), None


def _regroup(tensor: torch.Tensor, layout: TreeLayout, repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(R, H / repeats, L, D) -> its prefixes (N, H, P, D) and its branches (N, H, K, T, D)."""
    heads, width = tensor.shape[1], tensor.shape[3]
    flat = tensor.transpose(1, 2).reshape(-1, heads * width)
    prefix = flat.index_select(0, layout.prefixes.reshape(-1)).view(*layout.prefixes.shape, heads, width)
    branch = flat.index_select(0, layout.branches.reshape(-1)).view(*layout.branches.shape, heads, width)
    prefix, branch = prefix.transpose(1, 2), branch.permute(0, 3, 1, 2, 4)
    if repeats > 1:
        prefix, branch = prefix.repeat_interleave(repeats, 1), branch.repeat_interleave(repeats, 1)
    return prefix, branch


def _attend_prefixes(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Prefix tokens (N, H, P, D) attend to those before them; a prefix's empty places come last.

    Written out: forward and backward of the stock kernel take five times as long on a CPU at this size.
    """
    scores = query @ key.transpose(2, 3) + _causal_bias(query)
    return scores.softmax(-1).to(value.dtype) @ value


def _causal_bias(query: torch.Tensor) -> torch.Tensor:
    """(L, L) minus infinity above the diagonal, for queries (..., L, D)."""
    length = query.shape[-2]
    return torch.full((length, length), float("-inf"), device=query.device).triu(1).to(query.dtype)


def _attend_branches(
    query: torch.Tensor,
    keys: tuple[torch.Tensor, torch.Tensor],
    values: tuple[torch.Tensor, torch.Tensor],
    prefix_bias: torch.Tensor | None,
) -> torch.Tensor:
    """Branch tokens (N, H, K, T, D) attend to their prefix and to what comes before them in their own branch.

    A branch's empty places come last, so causality alone hides them.
    """
    num_trees, num_heads, _, length, width = query.shape
    (key_p, key_b), (value_p, value_b) = keys, values
    to_prefix = query.reshape(num_trees, num_heads, -1, width) @ key_p.transpose(2, 3)  # (N, H, K * T, P)
    if prefix_bias is not None:
        to_prefix = to_prefix + prefix_bias.to(to_prefix.dtype)
    to_own = query @ key_b.transpose(3, 4) + _causal_bias(query)  # (N, H, K, T, T)
    scores = torch.cat([to_prefix, to_own.reshape(num_trees, num_heads, -1, length)], dim=-1)
    weights = scores.softmax(-1).to(value_p.dtype)  # (N, H, K * T, P + T)
    num_prefix = key_p.shape[2]
    from_prefix = (weights[..., :num_prefix] @ value_p).view(query.shape)
    return from_prefix + weights[..., num_prefix:].reshape(to_own.shape) @ value_b


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionMaskInterface.register(TREE_ATTENTION, AttentionMaskInterface()["sdpa"])  # for what is not packed
