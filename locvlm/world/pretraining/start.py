"""Where the tiny CLIP starts: weights from which a transformer learns shapes in minutes, not in hours.

Patches enter whitened, positions as sines and cosines, attention leans to what looks alike ("mimetic"
initialisation, Trockman & Kolter 2023), and a caption begins as the bag of its words. Measured on the
contrastive loss after 100 steps of 128 pairs: 4.65 -> 4.40 (chance 4.85).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F

NUM_IMAGES, NUM_PATCHES = 600, 60_000  # from which the patch statistics are taken
POSITION_SCALE = 0.35  # of the sines, against whitened patches of about 0.5


@torch.no_grad()
def warm_start(clip: Any, pixels: torch.Tensor, *, seed: int) -> None:
    """Set the weights of an open_clip model in place.

    Args:
        pixels: (N, 3, canvas, canvas) normalised images of the pretraining scenes.
    """
    generator = torch.Generator().manual_seed(seed)
    _whiten_patches(clip.visual.conv1, pixels, generator)
    _place_positions(clip.visual.positional_embedding)
    for block in clip.visual.transformer.resblocks:
        _mimetic_attention(block.attn, generator)
    _bag_of_words(clip, generator)


def _whiten_patches(conv: Any, pixels: torch.Tensor, generator: torch.Generator) -> None:
    """Patch embedding = a random turn of the whitened patches."""
    width, side = conv.weight.shape[0], conv.weight.shape[2]
    patches = F.unfold(pixels[:NUM_IMAGES], side, stride=side).transpose(1, 2).flatten(0, 1)  # (M, 3 side^2)
    patches = patches[torch.randperm(len(patches), generator=generator)[:NUM_PATCHES]]
    centred = patches - patches.mean(0)
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    whitening = axes / (variances + 0.02 * variances.mean()).sqrt()  # (3 side^2, components)
    turn = torch.linalg.qr(torch.randn(whitening.shape, generator=generator))[0]
    rows = (whitening @ turn).T[:width]
    conv.weight[: len(rows)] = 0.5 * rows.view(-1, *conv.weight.shape[1:])


def _place_positions(embedding: torch.Tensor) -> None:
    """Sines and cosines of row and column for the patches, nothing for the CLS token."""
    grid, quarter = math.isqrt(len(embedding) - 1), embedding.shape[1] // 4
    rates = 0.5 * math.pi / 100.0 ** (torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    waves = [wave(axis.reshape(-1, 1) * rates) for axis in (rows, columns) for wave in (torch.sin, torch.cos)]
    embedding.zero_()
    embedding[1:, : 4 * quarter] = POSITION_SCALE * torch.cat(waves, 1)


def _mimetic_attention(attention: Any, generator: torch.Generator) -> None:
    """Queries meet keys that resemble them; values come back with their sign turned."""
    width, heads = attention.embed_dim, attention.num_heads
    size = width // heads
    query, key, value = attention.in_proj_weight.chunk(3)

    def noise() -> torch.Tensor:
        return torch.randn(width, width, generator=generator) / width**0.5

    for head in range(heads):
        left, strength, right = torch.linalg.svd(0.7 * noise() + 0.7 * torch.eye(width))
        part = slice(head * size, (head + 1) * size)
        root = strength[:size].sqrt()
        query[part] = (left[:, :size] * root).T
        key[part] = (right[:size].T * root).T
    left, strength, right = torch.linalg.svd(0.4 * noise() - 0.4 * torch.eye(width))
    value.copy_((right.T * strength.sqrt()).T)
    attention.out_proj.weight.copy_(left * strength.sqrt())
    attention.in_proj_bias.zero_()
    attention.out_proj.bias.zero_()


def _bag_of_words(clip: Any, generator: torch.Generator) -> None:
    """The first block of the text side averages all words so far."""
    attention = clip.transformer.resblocks[0].attn
    query, key, value = attention.in_proj_weight.chunk(3)
    query.mul_(0.1)
    key.mul_(0.1)
    turn = torch.linalg.qr(torch.randn(value.shape, generator=generator))[0]
    value.copy_(turn)
    attention.out_proj.weight.copy_(3.0 * turn.T)
    clip.token_embedding.weight.copy_(
        0.1 * torch.randn(clip.token_embedding.weight.shape, generator=generator)
    )
    clip.positional_embedding.mul_(0.3)
