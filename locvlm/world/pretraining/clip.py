"""How the backbones are pretrained: a sentencepiece tokenizer, CLIP by contrast, LLaMA by next token."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from locvlm.muon import Muon, muon_groups
from locvlm.world.backbones import NUM_PIECES
from locvlm.world.views import Views

logger = logging.getLogger(__name__)

ROW_TOKENS = 384  # of the language model's pretraining
IMAGE_SHARE = 0.1  # weight of whole images against regions
LONGEST_LINE = 4192  # sentencepiece's own limit, in bytes


def train_tokenizer(lines: Iterable[str], path: Path, *, num_pieces: int = NUM_PIECES) -> None:
    """A byte-pair sentencepiece model with split digits and byte fallback, as LLaMA's."""
    import sentencepiece

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(line for line in lines if len(line) < LONGEST_LINE),
            model_writer=out,
            vocab_size=num_pieces,
            model_type="bpe",
            split_digits=True,
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )


def one_cycle(step: int, steps: int, *, warmup: int, last: float = 0.02) -> float:
    """Linear warm-up, then a cosine down to the share `last` of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainRun:
    """How long and how fast."""

    steps: int
    batch: int
    learning_rate: float = 1.2e-3
    muon_learning_rate: float = 3e-3  # of the matrices in blocks
    weight_decay: float = 0.02
    warmup: int = 100
    log_every: int = 50


def _train(
    model: torch.nn.Module,
    run: PretrainRun,
    loss_of_step: Callable[[float], tuple[torch.Tensor, str]],
    save: Callable[[], None],
    name: str,
) -> None:
    groups = muon_groups(
        model,
        learning_rate=run.learning_rate,
        muon_learning_rate=run.muon_learning_rate,
        weight_decay=run.weight_decay,
    )
    optimizer, start = Muon(groups, betas=(0.9, 0.98), foreach=True), time.time()
    schedule = LambdaLR(optimizer, partial(one_cycle, steps=run.steps, warmup=run.warmup))
    bar = tqdm(range(run.steps), desc=name, mininterval=20)
    for step in bar:
        loss, note = loss_of_step(step / run.steps)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % run.log_every == 0 or step == run.steps - 1:
            logger.info(
                "%s step %d: loss %.4f %s (%.0f s)", name, step, loss.item(), note, time.time() - start
            )
            save()


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
    """One patch under each box, drawn by how much of it the box covers; as `pool_regions`."""
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
            which is what an adapter reads, against the phrases.
    """
    from open_clip.loss import ClipLoss

    contrast = ClipLoss()

    def loss_of_step(progress: float) -> tuple[torch.Tensor, str]:
        batch = views.batch(run.batch, 1.0 if by_patch else progress)
        with torch.autocast("cpu", torch.bfloat16):
            read, tokens, images = region_features(model.visual, batch.pixels)
            captions, phrases = (encode_captions(model, ids) for ids in (batch.captions, batch.phrases))
        pooled = pool_regions(tokens.float(), batch.image_of, batch.boxes) @ model.visual.proj
        images, regions = F.normalize(images.float(), dim=-1), F.normalize(pooled, dim=-1)
        captions, phrases = captions.float(), phrases.float()
        scale = model.logit_scale.exp().clamp(max=100)
        of_images, of_regions = contrast(images, captions, scale), contrast(regions, phrases, scale)
        note = (
            f"images {of_images.item():.3f} of {math.log(len(images)):.2f}, regions {of_regions.item():.3f} "
            f"of {math.log(len(regions)):.2f}, found {_retrieval(images, captions):.3f} "
            f"and {_retrieval(regions, phrases):.3f}, scale {scale.item():.1f}"
        )
        loss = IMAGE_SHARE * of_images + of_regions
        if by_patch:
            drawn = draw_patches(read.float(), batch.image_of, batch.boxes)
            patches = F.normalize(drawn @ model.visual.proj, dim=-1)
            of_patches = contrast(patches, phrases, scale)
            note += f", patches {of_patches.item():.3f}, found {_retrieval(patches, phrases):.3f}"
            loss = loss + of_patches
        return loss, note

    _train(model, run, loss_of_step, save, "clip")


def _retrieval(left: torch.Tensor, right: torch.Tensor) -> float:
    """Share of rows whose best match is their own."""
    return ((left @ right.T).argmax(1) == torch.arange(len(left))).float().mean().item()


def document_ids(text: str, encode: Callable[[str], list[int]], end: str) -> list[int]:
    """Ids of a document: begin mark, text, an end mark wherever `end` stands."""
    ids = [1]
    parts = text.split(end)
    for part in parts[:-1]:
        ids += [*encode(part), 2]
    return ids + encode(parts[-1])


def pack_documents(documents: Iterable[list[int]], length: int, rows: int) -> Iterable[torch.Tensor]:
    """(rows, length + 1) ids of documents one after another, cut where a row ends."""
    held: list[int] = []
    for ids in documents:
        held.extend(ids)
        if len(held) >= rows * (length + 1):
            yield torch.tensor(held[: rows * (length + 1)]).view(rows, length + 1)
            held = held[rows * (length + 1) :]


def train_llm(
    model: Any,
    documents: Iterable[list[int]],
    run: PretrainRun,
    *,
    length: int = ROW_TOKENS,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Next-token training on packed documents; `run.batch` is rows of `length` tokens a step."""
    batches = iter(pack_documents(documents, length, run.batch))

    def loss_of_step(progress: float) -> tuple[torch.Tensor, str]:
        del progress
        ids = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids[:, :-1]).logits
        return F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten()), ""

    _train(model, run, loss_of_step, save, "llm")
