"""Rows of trees become one micro-batch: a dict whose keys are the keywords of `LocVLM.forward`.

R rows, L tokens of the longest row rounded up, T targets; V trees with an image or a video, N pictures in
them (images and frames), K videos whose pooled features are known already (S tokens of width D each).
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from locvlm.constants import NO_SAMPLE
from locvlm.data.clips import Frames
from locvlm.data.packing import Tree

Visual = NDArray[np.float32] | Frames | torch.Tensor  # image (3, H, W); a clip's frames, or features (S, D)

_LENGTH_MULTIPLE = 8  # what matrix kernels like; at most 7 tokens of padding a row


def collate(
    rows: Sequence[Sequence[Tree]],
    *,
    pixels: Mapping[int, Visual],
    failed: Container[int] = (),
    pad_token_id: int,
    num_targets: float,
) -> dict[str, Any]:
    """One micro-batch of R rows.

    `pixels` holds what is shown per `Tree.sample_index`; trees of a sample in `failed` (image or video
    unreadable, pixels zero) keep their place and lose their weight. `num_targets` is passed through: the sum
    of target weights of the *whole step*, over all ranks and passes, by which the loss is divided.

    Returns:
        input_ids, position_ids (R, L) int64; sample_ids (R, L) int32, the tree within the row, NO_SAMPLE on
        padding; branch_ids (R, L) int32, 0 for a prefix; target_index (T,) int64 into the R*L states;
        target_ids (T,) int64; target_weights (T,) float32; num_targets. And what is shown, left out where
        there is none: pixel_values (N, 3, H, W) float32 in order of appearance, the frames of a clip
        together; pooled_features (K, S, D); and, unless all are images, frames_per_visual (V,) int64: 0 for
        an image, n for a clip of n frames, -1 for one whose features are the next of pooled_features.

        A token sees what comes before it in its own sample, in the prefix or in its own branch.
    """
    longest = max(sum(tree.num_tokens for tree in row) for row in rows)
    length = -(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
    shape = (len(rows), length)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)  # (R, L)
    position_ids = np.zeros(shape, dtype=np.int64)  # (R, L)
    sample_ids = np.full(shape, NO_SAMPLE, dtype=np.int32)  # (R, L)
    branch_ids = np.zeros(shape, dtype=np.int32)  # (R, L)
    target_index, target_ids, target_weights = [], [], []
    visuals: list[Visual] = []
    for r, row in enumerate(rows):
        start = 0
        for number, tree in enumerate(row):
            span = (r, slice(start, start + tree.num_tokens))
            input_ids[span] = tree.ids
            position_ids[span] = tree.positions
            sample_ids[span] = number
            branch_ids[span] = tree.branch_ids
            target_index.append(r * length + start + tree.target_states)
            target_ids.append(tree.target_ids)
            weight = 0.0 if tree.sample_index in failed else tree.weight
            target_weights.append(np.full(len(tree.target_ids), weight, dtype=np.float32))
            if tree.has_image:
                visuals.append(pixels[tree.sample_index])
            start += tree.num_tokens
    arrays = {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "sample_ids": sample_ids,
        "branch_ids": branch_ids,
        "target_index": np.concatenate(target_index),  # (T,)
        "target_ids": np.concatenate(target_ids),  # (T,)
        "target_weights": np.concatenate(target_weights),  # (T,)
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {**tensors, **_collate_visuals(visuals), "num_targets": num_targets}


def _collate_visuals(visuals: Sequence[Visual]) -> dict[str, torch.Tensor]:
    """What a batch shows, in order of appearance; only what it has."""
    pictures = [visual for visual in visuals if not isinstance(visual, torch.Tensor)]
    pooled = [visual for visual in visuals if isinstance(visual, torch.Tensor)]
    tensors = {}
    if pictures:
        counts = [len(picture) if isinstance(picture, Frames) else 1 for picture in pictures]
        first = pictures[0].levels[0] if isinstance(pictures[0], Frames) else pictures[0]
        values = np.empty((sum(counts), *first.shape), dtype=np.float32)  # (N, 3, H, W)
        ends = np.cumsum(counts)
        for picture, start, end in zip(pictures, ends - counts, ends, strict=True):
            if isinstance(picture, Frames):
                picture.normalise_into(values[start:end])
            else:
                values[start] = picture
        tensors["pixel_values"] = torch.from_numpy(values)
    if pooled:
        tensors["pooled_features"] = torch.stack(pooled)  # (K, S, D)
    if any(not isinstance(visual, np.ndarray) for visual in visuals):
        tensors["frames_per_visual"] = torch.tensor([_num_frames(visual) for visual in visuals])  # (V,)
    return tensors


def _num_frames(visual: Visual) -> int:
    if isinstance(visual, torch.Tensor):
        return -1
    return len(visual) if isinstance(visual, Frames) else 0
