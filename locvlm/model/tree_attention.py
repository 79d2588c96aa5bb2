"""Attention over packed trees, in which only pairs of tokens that may see each other are computed.

A dense mask makes every token of a row look at every other and throws most of it away: with 12 questions
about an image, five sixths. Here the tokens are regrouped by tree: prefixes attend causally to themselves,
branch tokens to their prefix and, causally, to their own branch, in one softmax. Trees of about one size are
computed together, with places for the largest; a tree that would make the others compute too much for
nothing is computed apart. The result is that of `tree_mask` with `sdpa`, its plain twin. Chosen by name:
`attn_implementation: tree`.
"""

# R rows, L tokens per row, S of them in trees, H heads, D head width. Of a group: N trees, P tokens of the
# longest prefix, K branches of the tree that has most, T tokens of the longest branch

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from locvlm.constants import NO_SAMPLE

TREE_ATTENTION = "tree"
SPARE_PAIRS = 20_000  # a group more, with its calls, takes as long as so many pairs computed for nothing
MOST_PAIRS = 600_000  # of a group of several trees: scores of more no longer stay in a CPU's cache

Parts = tuple[torch.Tensor, torch.Tensor]  # of a group: prefixes (N, H, P, D), branches (N, H, K, T, D)


class GroupShape(NamedTuple):
    """Trees that are computed together."""

    trees: int  # N
    prefix: int  # P
    branches: int  # K
    branch: int  # T

    @property
    def places(self) -> tuple[int, int]:
        """In prefixes and in branches."""
        return self.trees * self.prefix, self.trees * self.branches * self.branch

    @property
    def pairs(self) -> int:
        """Pairs of places that are computed, with or without tokens."""
        return self.trees * (self.prefix**2 + self.branches * self.branch * (self.prefix + self.branch))

    def with_tree(self, tree: "GroupShape") -> "GroupShape":
        """This group and one tree more."""
        return GroupShape(self.trees + 1, *map(max, self[1:], tree[1:]))


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeLayout:
    """Where each token of packed rows stands when they are regrouped by tree.

    Tokens are counted through all rows; places through all groups, in each first those of prefixes (N, P),
    then those of branches (N, K, T). Places without a token hold the first one, so that there is something to
    compute: no token sees them, and nobody reads what comes out.
    """

    groups: tuple[GroupShape, ...]
    prefix_biases: tuple[torch.Tensor | None, ...]  # (N, 1, 1, P) minus infinity on empty places, if any
    tokens: torch.Tensor  # (places,) the token at this place
    places: torch.Tensor  # (R * L,) where this token's output stands; behind all places if it has no tree


def lay_out_trees(sample_ids: torch.Tensor, branch_ids: torch.Tensor) -> TreeLayout:
    """The layout of packed rows; `sample_ids` and `branch_ids` (R, L) as in `tree_mask`.

    Tokens of a tree stand together in a row, its prefix first, then branch 1, 2, ...
    """
    num_rows, length = sample_ids.shape
    num_tokens, device = num_rows * length, sample_ids.device
    sample = sample_ids.reshape(-1).long()
    row = torch.arange(num_tokens, device=device) // length
    real = torch.nonzero(sample != NO_SAMPLE).squeeze(1)  # (S,) tokens that belong to a tree
    branch = branch_ids.reshape(-1)[real].long()
    trees, tree = torch.unique_consecutive(row[real] * (length + 1) + sample[real], return_inverse=True)
    _, run, sizes = torch.unique_consecutive(  # a run: a prefix or a branch of one tree
        tree * (int(branch.max()) + 1) + branch, return_inverse=True, return_counts=True
    )
    offset = torch.arange(len(real), device=device) - (sizes.cumsum(0) - sizes)[run]  # (S,) in its run

    groups, starts = _group(_tree_shapes(len(trees), tree, branch, offset))
    prefix_start, branches_start, longest = torch.tensor(starts, device=device)[tree].unbind(1)  # (S,) each
    in_branches = branches_start + (branch - 1) * longest + offset
    place = torch.where(branch == 0, prefix_start + offset, in_branches)

    num_places = sum(sum(group.places) for group in groups)
    tokens = torch.zeros(num_places, dtype=torch.long, device=device).index_copy(0, place, real)
    is_empty = torch.ones(num_places, dtype=torch.bool, device=device).index_fill(0, place, False)
    of_groups = is_empty.split([sum(group.places) for group in groups])
    return TreeLayout(
        groups=groups,
        prefix_biases=tuple(map(_prefix_bias, groups, of_groups)),
        tokens=tokens,
        places=torch.full_like(sample, num_places).index_copy(0, real, place),
    )


def _tree_shapes(
    number: int, tree: torch.Tensor, branch: torch.Tensor, offset: torch.Tensor
) -> list[GroupShape]:
    """Of each tree by itself, from its tokens (S,): their tree, their branch and their place in it."""
    in_prefix = branch == 0
    sizes = [
        torch.zeros(number, dtype=torch.long, device=tree.device).scatter_reduce(0, tree, of_tokens, "amax")
        for of_tokens in ((offset + 1) * in_prefix, branch, (offset + 1) * ~in_prefix)
    ]
    return [GroupShape(1, *of_tree) for of_tree in torch.stack(sizes, dim=1).tolist()]


def _group(trees: Sequence[GroupShape]) -> tuple[tuple[GroupShape, ...], list[tuple[int, int, int]]]:
    """Groups of trees of about one size; and where each tree's prefix and branches start, and its group's T.

    The largest tree first: each joins the group of the one before it, or starts another.
    """
    groups: list[GroupShape] = []
    members: list[list[int]] = []
    for index in sorted(range(len(trees)), key=lambda i: -trees[i].pairs):
        tree = trees[index]
        if groups and _are_alike(groups[-1], tree):
            groups[-1] = groups[-1].with_tree(tree)
            members[-1].append(index)
        else:
            groups.append(tree)
            members.append([index])
    starts, first = [(0, 0, 0)] * len(trees), 0
    for group, indices in zip(groups, members, strict=True):
        branches_start = first + group.places[0]
        for number, index in enumerate(indices):
            before = number * group.branches * group.branch
            starts[index] = (first + number * group.prefix, branches_start + before, group.branch)
        first += sum(group.places)
    return tuple(groups), starts


def _are_alike(group: GroupShape, tree: GroupShape) -> bool:
    """Whether a tree is cheaper in the group than by itself."""
    together = group.with_tree(tree).pairs
    return together <= MOST_PAIRS and together - group.pairs - tree.pairs <= SPARE_PAIRS


def _prefix_bias(group: GroupShape, is_empty: torch.Tensor) -> torch.Tensor | None:
    """(N, 1, 1, P), from which of a group's places are empty; None if none of its prefixes' are."""
    of_prefixes = is_empty[: group.places[0]].view(group.trees, 1, 1, group.prefix)
    if not of_prefixes.any():
        return None
    return torch.zeros(of_prefixes.shape, device=is_empty.device).masked_fill(of_prefixes, float("-inf"))


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
    query = query * (width**-0.5 if scaling is None else scaling)
    device = query.device.type
    if torch.is_autocast_enabled(device):  # cast once, as for sdpa, and not the softmax up and down again
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    with torch.autocast(device, enabled=False):
        outputs = []
        for query_parts, key_parts, value_parts, bias in zip(
            _regroup(query, tree_layout),
            _regroup(key, tree_layout, repeats),
            _regroup(value, tree_layout, repeats),
            tree_layout.prefix_biases,
            strict=True,
        ):
            outputs.append(_attend_prefixes(query_parts, key_parts, value_parts))
            outputs.append(_attend_branches(query_parts, key_parts, value_parts, bias))
        outputs.append(query.new_zeros(1, num_heads, width))  # for tokens of no tree
        flat = torch.cat([part.reshape(-1, num_heads * width) for part in outputs])
        flat = flat.index_select(0, tree_layout.places)
    return flat.view(num_rows, length, num_heads, width), None


def _regroup(tensor: torch.Tensor, layout: TreeLayout, repeats: int = 1) -> list[Parts]:
    """(R, H / repeats, L, D) -> each group's prefixes (N, H, P, D) and branches (N, H, K, T, D)."""
    heads, width = tensor.shape[1], tensor.shape[3]
    flat = tensor.transpose(1, 2).reshape(-1, heads * width).index_select(0, layout.tokens)
    parts = iter(flat.split([size for group in layout.groups for size in group.places]))
    regrouped = []
    for n, p, k, t in layout.groups:
        prefix = next(parts).view(n, p, heads, width).transpose(1, 2)
        branch = next(parts).view(n, k, t, heads, width).permute(0, 3, 1, 2, 4)
        if repeats > 1:
            prefix, branch = prefix.repeat_interleave(repeats, 1), branch.repeat_interleave(repeats, 1)
        regrouped.append((prefix, branch))
    return regrouped


def _attend_prefixes(query: Parts, key: Parts, value: Parts) -> torch.Tensor:
    """Prefix tokens attend to those before them; a prefix's empty places come last. (N, P, H, D).

    Written out: forward and backward of the stock kernel take five times as long on a CPU at this size.
    """
    scores = query[0] @ key[0].transpose(2, 3)
    scores += _causal_bias(scores)
    return (scores.softmax(-1) @ value[0]).transpose(1, 2)


def _attend_branches(query: Parts, key: Parts, value: Parts, bias: torch.Tensor | None) -> torch.Tensor:
    """Branch tokens attend to their prefix and to what comes before them in their branch. (N, K, T, H, D).

    A branch's empty places come last, so causality alone hides them.
    """
    num_trees, num_heads, num_branches, length, width = query[1].shape
    in_one = query[1].reshape(num_trees, num_heads, num_branches * length, width)
    to_prefix = in_one @ key[0].transpose(2, 3)  # (N, H, K * T, P)
    if bias is not None:
        to_prefix += bias.to(to_prefix.dtype)
    to_own = query[1] @ key[1].transpose(3, 4)  # (N, H, K, T, T)
    to_own += _causal_bias(to_own)
    weights = torch.cat([to_prefix, to_own.view(*to_prefix.shape[:3], length)], dim=-1).softmax(-1)
    for_prefix, for_own = weights.split([key[0].shape[2], length], dim=-1)
    from_prefix = (for_prefix @ value[0]).view(query[1].shape)
    return (from_prefix + for_own.reshape(to_own.shape) @ value[1]).permute(0, 2, 3, 1, 4)


def _causal_bias(scores: torch.Tensor) -> torch.Tensor:
    """(L, L) minus infinity above the diagonal, for scores (..., L, L)."""
    length = scores.shape[-1]
    return torch.full((length, length), float("-inf"), dtype=scores.dtype, device=scores.device).triu(1)


AttentionInterface.register(TREE_ATTENTION, tree_attention)
AttentionMaskInterface.register(TREE_ATTENTION, AttentionMaskInterface()["sdpa"])  # for what is not packed
