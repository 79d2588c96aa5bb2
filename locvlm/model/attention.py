"""Who may look at whom in a packed row: the tree mask, as the additive mask that stock attention takes, and
as the block mask of FlexAttention, which skips the blocks where nobody looks at anybody.
"""

# R rows, L tokens per row

from typing import Any

import torch

from locvlm.constants import NO_SAMPLE

# FlashAttention knows no masks, and flex takes a 4D tensor for a BlockMask and crashes.
MASKED_ATTENTION = ("sdpa", "eager")
FLEX_ATTENTION = "flex_attention"  # takes a BlockMask; for GPUs: on a CPU it has no backward pass


def tree_mask(sample_ids: torch.Tensor, branch_ids: torch.Tensor, *, dtype: torch.dtype) -> torch.Tensor:
    """The additive attention mask of packed rows: 0 where a token may look, the dtype's minimum elsewhere.

    A sample is a tree: a prefix (branch 0: text and image tokens that all branches share) and branches 1, 2,
    ... Token `query` sees token `key` when `key` is not later in the row, both belong to the same sample, and
    `key` is in the prefix or in `query`'s own branch. A padding token sees itself alone, so that no softmax
    is empty.

    Two samples and one padding token in a row (`x` = may look, `.` = may not):

        sample_ids   0 0 0 0 0 1 1 -1
        branch_ids   0 0 1 1 2 0 1  0
        key          a b c d e f g  _       a b     prefix of sample 0
        query  a     x . . . . . .  .       c d     its first branch
               b     x x . . . . .  .       e       its second: sees a, b, itself, but neither c nor d
               c     x x x . . . .  .       f       prefix of sample 1
               d     x x x x . . .  .       g       its only branch
               e     x x . . x . .  .       _       padding
               f     . . . . . x .  .
               g     . . . . . x x  .
               _     . . . . . . .  x

    Why the dtype's minimum and additive: `eager` attention adds the mask, so a boolean one is silently wrong
    there.

    Args:
        sample_ids: (R, L) which sample of its row a token belongs to, `NO_SAMPLE` on padding.
        branch_ids: (R, L) 0 in the prefix, 1, 2, ... in the branches.
        dtype: that of the hidden states.

    Returns:
        (R, 1, L, L), indexed [row, head, query, key].

    Raises:
        ValueError: if the two tensors are not of one (R, L) shape.
    """
    if sample_ids.ndim != 2 or sample_ids.shape != branch_ids.shape:
        raise ValueError(
            f"sample_ids and branch_ids must have one shape (rows, tokens), got {tuple(sample_ids.shape)} "
            f"and {tuple(branch_ids.shape)}"
        )
    query_sample, key_sample = sample_ids[:, :, None], sample_ids[:, None, :]  # (R, L, 1), (R, 1, L)
    query_branch, key_branch = branch_ids[:, :, None], branch_ids[:, None, :]
    position = torch.arange(sample_ids.shape[1], device=sample_ids.device)
    not_later = position[:, None] >= position[None, :]  # (L, L)
    same_tree = (query_sample == key_sample) & (query_sample != NO_SAMPLE)
    on_path = (key_branch == 0) | (key_branch == query_branch)
    itself = position[:, None] == position[None, :]
    may_look = (not_later & same_tree & on_path) | itself  # (R, L, L)
    blocked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=sample_ids.device)
    return torch.where(may_look, torch.zeros_like(blocked), blocked)[:, None]  # (R, 1, L, L)


def require_masked_attention(implementation: str | None) -> None:
    """Check that the attention kernel takes a 4D float mask.

    Raises:
        ValueError: for a kernel that would ignore the mask or crash on it.
    """
    if implementation not in MASKED_ATTENTION:
        raise ValueError(
            f"packed rows need an attention kernel that takes a mask, one of {', '.join(MASKED_ATTENTION)}, "
            f"got attn_implementation {implementation!r}; set model.attn_implementation: sdpa"
        )


def tree_block_mask(sample_ids: torch.Tensor, branch_ids: torch.Tensor) -> Any:
    """`tree_mask` as a BlockMask for FlexAttention (https://pytorch.org/blog/flexattention/).

    Args:
        sample_ids: (R, L) as for `tree_mask`.
        branch_ids: (R, L) as for `tree_mask`.

    Returns:
        A BlockMask of shape (R, 1, L, L).
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Any, head: Any, query: Any, key: Any) -> Any:
        del head
        sample, branch = sample_ids[row, query], branch_ids[row, key]
        same_tree = (sample == sample_ids[row, key]) & (sample != NO_SAMPLE)
        on_path = (branch == 0) | (branch == branch_ids[row, query])
        return (query == key) | ((query >= key) & same_tree & on_path)

    rows, length = sample_ids.shape
    return create_block_mask(sees, rows, None, length, length, device=str(sample_ids.device))
