"""How the backbones are pretrained: a sentencepiece tokenizer, CLIP by contrast, LLaMA by next token."""

import logging
import math
import multiprocessing
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from locvlm.world.backbones import CAPTIONS, NUM_PIECES, VISION, VOCAB
from locvlm.world.captions import Thing, caption, plain_caption, rich_caption, things_of
from locvlm.world.scenes import make_scene
from locvlm.world.write import stream_seed

logger = logging.getLogger(__name__)

PLAIN_FRACTION = 0.3  # of the contrastive training, on plain captions
PATCH_DROPOUT = 0.5  # share of the patches left out, which halves the cost (FLIP, Li et al. 2023) ...
DROPOUT_FRACTION = 0.75  # ... for this share of the contrastive training; then whole images
STORE = 128  # side of the stored pretraining scenes, from which views are cropped
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


@dataclass(frozen=True, slots=True)
class StoredScene:
    """A pretraining scene in memory."""

    pixels: np.ndarray  # (STORE, STORE, 3) uint8, stretched
    small: np.ndarray  # (canvas, canvas, 3) uint8, stretched
    things: tuple[Thing, ...]
    background: str


def _store(index: int, seed: int) -> StoredScene:
    # a third of close-ups with one object: what crops and product pictures are on the web
    counts = (1,) if index % 4 == 0 else (2, 3, 4)
    scene = make_scene(stream_seed(seed, "pretrain"), index, object_counts=counts)
    stored, small = (
        np.asarray(scene.image.resize((side, side), Image.Resampling.BICUBIC))
        for side in (STORE, VISION.canvas)
    )
    return StoredScene(stored, small, tuple(things_of(scene)), scene.background)


def make_pretraining_scenes(count: int, seed: int, workers: int) -> list[StoredScene]:
    """Scenes of the `pretrain` stream, which shares none with train or val."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        job = partial(_store, seed=seed)
        return list(
            tqdm(pool.imap(job, range(count), chunksize=64), total=count, desc="scenes", unit="scene")
        )


def _swapped(things: Sequence[Thing]) -> tuple[Thing, ...]:
    """The same things in a mirror."""
    return tuple(replace(t, box=(1 - t.box[2], t.box[1], 1 - t.box[0], t.box[3])) for t in things)


def crop_things(things: Sequence[Thing], window: tuple[float, float, float]) -> tuple[Thing, ...]:
    """What is left of the things in a square window (x, y, side in fractions), in the window's fractions.

    Things of which less than half is left go unmentioned.
    """
    x, y, side = window
    kept = []
    for thing in things:
        x1, y1, x2, y2 = ((v - o) / side for v, o in zip(thing.box, (x, y, x, y), strict=True))
        clipped = (max(0.0, x1), max(0.0, y1), min(1.0, x2), min(1.0, y2))
        left = max(0.0, clipped[2] - clipped[0]) * max(0.0, clipped[3] - clipped[1])
        if left > 0.5 * (x2 - x1) * (y2 - y1):
            kept.append(replace(thing, box=clipped))
    return tuple(kept)


class Views:
    """Image-caption pairs: a scene gives itself (or its mirror) and a crop, hard negatives of each other."""

    def __init__(self, scenes: Sequence[StoredScene], encode: Callable[[str], list[int]], seed: int) -> None:
        self._scenes, self._encode = scenes, encode
        self._rng = random.Random(f"views/{seed}")
        self._rich_fraction = 1.0
        spec = VISION.spec
        self._mean = torch.tensor(spec.image_mean).view(3, 1, 1)
        self._std = torch.tensor(spec.image_std).view(3, 1, 1)

    def whole_images(self, count: int) -> torch.Tensor:
        """The first scenes as they are, normalised: (N, 3, canvas, canvas)."""
        stacked = np.stack([scene.small for scene in self._scenes[:count]])
        return (torch.from_numpy(stacked).permute(0, 3, 1, 2) / 255 - self._mean) / self._std

    def _caption(self, things: Sequence[Thing], background: str) -> str:
        if self._rng.random() < self._rich_fraction:
            write = rich_caption if self._rng.random() < 0.8 else caption
            return write(list(things), background, self._rng)
        return plain_caption(list(things), self._rng)

    def _whole(self, scene: StoredScene) -> tuple[torch.Tensor, str]:
        pixels = torch.from_numpy(scene.small).permute(2, 0, 1)
        if self._rng.random() < 0.5:
            return pixels.flip(2).float(), self._caption(_swapped(scene.things), scene.background)
        return pixels.float(), self._caption(scene.things, scene.background)

    def _crop(self, scene: StoredScene) -> tuple[torch.Tensor, str]:
        for _ in range(10):
            side = self._rng.uniform(0.5, 0.95)
            window = (self._rng.uniform(0, 1 - side), self._rng.uniform(0, 1 - side), side)
            if crop_things(scene.things, window):
                return self._window(scene, window)
        return self._whole(scene)

    def _close_up(self, scene: StoredScene) -> tuple[torch.Tensor, str]:
        """A window around one thing, one to two times as large."""
        x1, y1, x2, y2 = self._rng.choice(scene.things).box
        side = min(0.98, max(x2 - x1, y2 - y1) * self._rng.uniform(1.1, 2.2))
        # anywhere such that the thing is inside
        x = self._rng.uniform(max(0.0, x2 - side), min(x1, 1 - side))
        y = self._rng.uniform(max(0.0, y2 - side), min(y1, 1 - side))
        return self._window(scene, (x, y, side))

    def _window(self, scene: StoredScene, window: tuple[float, float, float]) -> tuple[torch.Tensor, str]:
        things = crop_things(scene.things, window)
        x, y, w = (round(v * STORE) for v in window)
        part = torch.from_numpy(scene.pixels[y : y + w, x : x + w]).permute(2, 0, 1)[None].float()
        size = (VISION.canvas, VISION.canvas)
        return F.interpolate(part, size, mode="bilinear", antialias=True)[0], self._caption(
            things, scene.background
        )

    def batch(self, num_scenes: int, *, progress: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (2 S, 3, canvas, canvas) and caption tokens (2 S, context).

        Args:
            progress: share of the training that is done. What things are is learned first, from plain
                captions of unrelated scenes; where they are later, from rich captions of pairs of views.
        """
        self._rich_fraction = min(1.0, max(0.0, 2.5 * (progress - PLAIN_FRACTION)))
        if progress < PLAIN_FRACTION:
            chosen = self._rng.sample(self._scenes, 2 * num_scenes)
            views = [(self._close_up if k % 4 else self._whole)(scene) for k, scene in enumerate(chosen)]
        else:
            chosen = self._rng.sample(self._scenes, num_scenes)
            views = [view(scene) for scene in chosen for view in (self._whole, self._crop)]
        pixels, texts = [pixels for pixels, _ in views], [text for _, text in views]
        return (torch.stack(pixels) / 255 - self._mean) / self._std, caption_tokens(texts, self._encode)


def caption_tokens(texts: Sequence[str], encode: Callable[[str], list[int]]) -> torch.Tensor:
    """(N, context) ids: begin, text, end (the highest id), zeros; a text that is too long is cut."""
    out = torch.zeros(len(texts), CAPTIONS.context, dtype=torch.long)
    for row, text in zip(out, texts, strict=True):
        ids = [1, *encode(text)[: CAPTIONS.context - 2], VOCAB - 1]
        row[: len(ids)] = torch.tensor(ids)
    return out


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainRun:
    """How long and how fast."""

    steps: int
    batch: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 100
    seed: int = 0
    log_every: int = 50


def _optimizer(model: torch.nn.Module, run: PretrainRun) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": run.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=run.learning_rate, betas=(0.9, 0.98), foreach=True)


def _train(
    model: torch.nn.Module,
    run: PretrainRun,
    loss_of_step: Callable[[float], tuple[torch.Tensor, str]],
    save: Callable[[], None],
    name: str,
) -> None:
    optimizer, start = _optimizer(model, run), time.time()
    bar = tqdm(range(run.steps), desc=name, mininterval=20)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate * one_cycle(step, run.steps, warmup=run.warmup)
        loss, note = loss_of_step(step / run.steps)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % run.log_every == 0 or step == run.steps - 1:
            logger.info(
                "%s step %d: loss %.4f %s (%.0f s)", name, step, loss.item(), note, time.time() - start
            )
            save()


def train_clip(model: Any, views: Views, run: PretrainRun, save: Callable[[], None] = lambda: None) -> None:
    """Contrastive training with open_clip's loss; `run.batch` is scenes a step, two pairs each."""
    from open_clip.loss import ClipLoss
    from open_clip.transformer import PatchDropout

    contrast = ClipLoss()

    def loss_of_step(progress: float) -> tuple[torch.Tensor, str]:
        is_last_part = progress > DROPOUT_FRACTION
        model.visual.patch_dropout = torch.nn.Identity() if is_last_part else PatchDropout(PATCH_DROPOUT)
        pixels, tokens = views.batch(run.batch, progress=progress)
        with torch.autocast("cpu", torch.bfloat16):
            images, texts = (
                model.encode_image(pixels, normalize=True),
                model.encode_text(tokens, normalize=True),
            )
        images, texts = images.float(), texts.float()
        scale = model.logit_scale.exp().clamp(max=100)
        right = ((images @ texts.T).argmax(1) == torch.arange(len(images))).float().mean().item()
        return contrast(images, texts, scale), f"retrieval {right:.3f} scale {scale.item():.1f}"

    _train(model, run, loss_of_step, save, "clip")


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
    length: int = 384,
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
