"""How the tiny CLIP is pretrained: images against captions, regions against phrases."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from locvlm.world.pretraining.loop import PretrainRun, train
from locvlm.world.pretraining.views import ClipBatch, Views

Contrast = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # open_clip's ClipLoss
IMAGE_SHARE = 0.1  # weight of whole images against regions


def patch_shares(boxes: torch.Tensor, grid: int) -> torch.Tensor:
    """How much of each patch a box covers, as shares of the whole.

    Args:
        boxes: (R, 4) x1, y1, x2, y2 in fractions of the image.

    Returns:
        (R, grid^2), rows sum to 1.
    """
    first = torch.arange(grid, dtype=boxes.dtype)

    def covered(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:  # (R, grid)
        return (torch.minimum(high[:, None], first + 1) - torch.maximum(low[:, None], first)).clamp(0)

    x1, y1, x2, y2 = (boxes * grid).unbind(1)
    share = (covered(y1, y2)[:, :, None] * covered(x1, x2)[:, None, :]).flatten(1)
    return share / share.sum(1, keepdim=True)


def pool_regions(tokens: torch.Tensor, image_of: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Mean over the patches under each box, weighted by how much of a patch the box covers.

    Args:
        tokens: (N, grid^2, D) patch features.
        image_of: (R,) index into N.
        boxes: (R, 4) as for `patch_shares`.

    Returns:
        (R, D).
    """
    return torch.einsum("rp,rpd->rd", patch_shares(boxes, math.isqrt(tokens.shape[1])), tokens[image_of])


def draw_patches(tokens: torch.Tensor, image_of: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """One patch under each box, mostly one that it covers whole; as `pool_regions`.

    Patches are drawn by the square of what is covered: at the rim of a box other things meet.
    """
    patch = torch.multinomial(patch_shares(boxes, math.isqrt(tokens.shape[1])).square(), 1).squeeze(1)
    return tokens[image_of, patch]


def region_features(visual: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Patches of the last layer but one and of the last, under the final norm, and the image's embedding.

    Returns:
        (N, grid^2, D), (N, grid^2, D), (N, embed).
    """
    out = visual.forward_intermediates(pixels, indices=2, normalize_intermediates=True, output_fmt="NLC")
    read, last = out["image_intermediates"]
    return read, last, out["image_features"]


def encode_captions(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """open_clip's `encode_text`, normalised, for captions (N, L) that are not padded to the full context."""
    length = tokens.shape[1]
    hidden = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.transformer(hidden, attn_mask=model.attn_mask[:length, :length])
    last = model.ln_final(hidden)[torch.arange(len(tokens)), tokens.argmax(1)]  # (N, D) at the end mark
    return F.normalize(last @ model.text_projection, dim=-1)


def train_clip(
    model: Any,
    views: Views,
    run: PretrainRun,
    save: Callable[[], None] = lambda: None,
    *,
    by_patch: bool = False,
) -> None:
    """Contrast with open_clip's loss: images with captions, and regions with phrases (after RegionCLIP).

    The regions (Zhong et al. 2022) are what lets a tower from scratch learn what things are within minutes.

    Args:
        run: `run.batch` is scenes a step.
        by_patch: for a tower that knows things already: also hold single patches of the last layer but one,
            which is what an adapter reads, against the phrases, and against phrases that just miss.
    """
    from open_clip.loss import ClipLoss

    contrast = ClipLoss()

    def loss_of_step(progress: float) -> tuple[torch.Tensor, str]:
        batch = views.batch(run.batch, 1.0 if by_patch else progress)
        with torch.autocast("cpu", torch.bfloat16):
            read, last, images = region_features(model.visual, batch.pixels)
            phrases = encode_captions(model, batch.phrases).float()
        scale = model.logit_scale.exp().clamp(max=100)
        loss, note = _whole_loss(model, batch, last, images, phrases, scale, contrast)
        if not by_patch:
            return loss, note
        of_patches, patch_note = _patch_loss(model, batch, read, phrases, scale, contrast)
        return loss + of_patches, f"{note}, {patch_note}"

    train(model, run, loss_of_step, save, "clip")


def _whole_loss(
    model: Any,
    batch: ClipBatch,
    last: torch.Tensor,
    images: torch.Tensor,
    phrases: torch.Tensor,
    scale: torch.Tensor,
    contrast: Contrast,
) -> tuple[torch.Tensor, str]:
    """Images against captions, regions against phrases; and a line about it."""
    with torch.autocast("cpu", torch.bfloat16):
        captions = encode_captions(model, batch.captions).float()
    pooled = pool_regions(last.float(), batch.image_of, batch.boxes) @ model.visual.proj
    images, regions = F.normalize(images.float(), dim=-1), F.normalize(pooled, dim=-1)
    of_images, of_regions = contrast(images, captions, scale), contrast(regions, phrases, scale)
    note = (
        f"images {of_images.item():.3f} of {math.log(len(images)):.2f}, regions {of_regions.item():.3f} "
        f"of {math.log(len(regions)):.2f}, found {_retrieval(images, captions):.3f} "
        f"and {_retrieval(regions, phrases):.3f}, scale {scale.item():.1f}"
    )
    return IMAGE_SHARE * of_images + of_regions, note


def _patch_loss(
    model: Any,
    batch: ClipBatch,
    read: torch.Tensor,
    phrases: torch.Tensor,
    scale: torch.Tensor,
    contrast: Contrast,
) -> tuple[torch.Tensor, str]:
    """Single patches of the layer that is read against phrases and near misses; and a line about it."""
    drawn = draw_patches(read.float(), batch.image_of, batch.boxes)
    patches = F.normalize(drawn @ model.visual.proj, dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        near_misses = encode_captions(model, batch.near_misses).float()
    is_same = (batch.phrases == batch.near_misses).all(1)
    of_patches = contrast(patches, phrases, scale)
    of_places = place_loss(patches, phrases, near_misses, is_same, scale)
    note = (
        f"patches {of_patches.item():.3f}, found {_retrieval(patches, phrases):.3f}, "
        f"places {of_places.item():.3f}"
    )
    return of_patches + of_places, note


def place_loss(
    patches: torch.Tensor,
    phrases: torch.Tensor,
    near_misses: torch.Tensor,
    is_same: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Cross-entropy of each patch's phrase against all phrases and all near misses.

    Among a batch's phrases the class alone mostly tells which is right; a near miss differs in a word about
    the place or the size, so that a patch has to know how far its thing reaches.

    Args:
        patches: (R, E) as are phrases and near misses, normalised.
        is_same: (R,) near misses that say what the phrase says, and are no miss.
    """
    own = torch.diag(is_same)
    to_misses = (scale * patches @ near_misses.T).masked_fill(own, float("-inf"))
    logits = torch.cat([scale * patches @ phrases.T, to_misses], 1)
    return F.cross_entropy(logits, torch.arange(len(patches)))


def _retrieval(left: torch.Tensor, right: torch.Tensor) -> float:
    """Share of rows whose best match is their own."""
    return ((left @ right.T).argmax(1) == torch.arange(len(left))).float().mean().item()
