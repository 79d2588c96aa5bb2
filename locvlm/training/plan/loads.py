"""The load of real micro-batches, as `data/collate.py` makes them: what they ask for, what is executed."""

# R rows, L tokens per row, N images, T targets

from typing import Any

import numpy as np
import torch

from locvlm.constants import NO_SAMPLE
from locvlm.training.plan.flops import Load, dense_pairs
from locvlm.training.plan.memory import Attention


def useful_load(batch: dict[str, Any]) -> Load:
    """What the batch asks for: no padding, no pair of tokens of different branches, a shared prefix once."""
    rows = batch["sample_ids"].shape[0]
    tokens = int((batch["sample_ids"] != NO_SAMPLE).sum())
    return Load(
        rows=rows,
        row_tokens=tokens / rows,
        **_shown(batch),
        targets=int((batch["target_weights"] > 0).sum()),
        pairs=count_tree_pairs(batch["sample_ids"], batch["branch_ids"]),
    )


def executed_load(batch: dict[str, Any], attention: Attention) -> Load:
    """What the planner counts for such a batch: rows with their padding, and all pairs of `attention`."""
    rows, length = batch["sample_ids"].shape
    is_dense = attention in ("sdpa", "eager")
    return Load(
        rows=rows,
        row_tokens=length,
        **_shown(batch),
        targets=batch["target_ids"].numel(),
        pairs=dense_pairs(rows, length)
        if is_dense
        else count_tree_pairs(batch["sample_ids"], batch["branch_ids"]),
    )


def count_tree_pairs(sample_ids: torch.Tensor, branch_ids: torch.Tensor) -> float:
    """Pairs of `tree` attention in packed rows (R, L), as `flops.tree_pairs` has them for equal trees.

    A prefix of P tokens makes P x P pairs, each branch of B tokens B x (P + B).
    """
    samples, branches = sample_ids.cpu().numpy(), branch_ids.cpu().numpy()
    rows = np.broadcast_to(np.arange(len(samples))[:, None], samples.shape)
    columns = np.stack([rows, samples, branches]).reshape(3, -1)  # (3, R * L)
    starts = np.flatnonzero(np.any(columns[:, 1:] != columns[:, :-1], axis=0)) + 1
    runs = np.concatenate([[0], starts])  # first token of each prefix, branch and padding
    lengths = np.diff([*runs, columns.shape[1]]).astype(np.float64)
    row, sample, branch = columns[:, runs]
    is_new_tree = np.concatenate([[True], (row[1:] != row[:-1]) | (sample[1:] != sample[:-1])])
    tree = np.cumsum(is_new_tree) - 1
    prefixes = np.zeros(tree[-1] + 1)
    is_prefix = branch == 0
    prefixes[tree[is_prefix]] = lengths[is_prefix]
    pairs = np.where(is_prefix, lengths**2, lengths * (prefixes[tree] + lengths))
    return float(pairs[sample != NO_SAMPLE].sum())


def add_loads(loads: list[Load]) -> Load:
    """The load of several passes together."""
    rows = sum(load.rows for load in loads)
    return Load(
        rows=rows,
        row_tokens=sum(load.tokens for load in loads) / rows,
        images=sum(load.images for load in loads),
        frames=sum(load.frames for load in loads),
        videos=sum(load.videos for load in loads),
        targets=sum(load.targets for load in loads),
        pairs=sum(load.pairs for load in loads),
    )


def _shown(batch: dict[str, Any]) -> dict[str, float]:
    """Images, videos, and the frames of those whose features are not kept."""
    num_pictures = len(batch["pixel_values"]) if "pixel_values" in batch else 0
    if "frames_per_visual" not in batch:
        return {"images": num_pictures}
    num_images = int((batch["frames_per_visual"] == 0).sum())
    num_videos = len(batch["frames_per_visual"]) - num_images
    return {"images": num_images, "videos": num_videos, "frames": num_pictures - num_images}
