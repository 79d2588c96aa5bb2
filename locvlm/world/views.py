"""What the tiny CLIP learns from: scenes in memory, views of them, captions of what a view shows."""

import math
import multiprocessing
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from locvlm.world.backbones import CAPTIONS, VISION, VOCAB
from locvlm.world.captions import Thing, caption, plain_caption, rich_caption, things_of
from locvlm.world.scenes import make_scene
from locvlm.world.write import stream_seed

STORE = 128  # side of the stored pretraining scenes, from which crops are cut
WINDOW = 6  # patches
WINDOWS_UNTIL = 0.5  # share of the training on windows; then on pairs of views,
DROPOUT_UNTIL = 0.8  # of which half of the patches are left out (FLIP, Li et al. 2023) until here


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
        np.array(scene.image.resize((side, side), Image.Resampling.BICUBIC))
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


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Image-caption pairs of one step."""

    pixels: torch.Tensor  # (N, 3, canvas, canvas) normalised
    tokens: torch.Tensor  # (N, longest caption) ids
    kept: torch.Tensor | None  # (N, K) patches that the tower is to see; None for all


class Views:
    """Image-caption pairs from stored scenes: windows with a thing or two, whole scenes, crops."""

    def __init__(self, scenes: Sequence[StoredScene], encode: Callable[[str], list[int]], seed: int) -> None:
        self._scenes, self._encode = scenes, encode
        self._rng = random.Random(f"views/{seed}")
        spec = VISION.spec
        self._grid = spec.grid
        self._mean = torch.tensor(spec.image_mean).view(3, 1, 1)
        self._std = torch.tensor(spec.image_std).view(3, 1, 1)

    def whole_images(self, count: int) -> torch.Tensor:
        """The first scenes as they are, normalised: (N, 3, canvas, canvas)."""
        return self._normalised([torch.from_numpy(scene.small) for scene in self._scenes[:count]])

    def _normalised(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """(canvas, canvas, 3) uint8 images as one normalised batch."""
        return (torch.stack(list(images)).permute(0, 3, 1, 2) / 255 - self._mean) / self._std

    def _whole(self, scene: StoredScene) -> tuple[torch.Tensor, Sequence[Thing]]:
        pixels = torch.from_numpy(scene.small)
        if self._rng.random() < 0.5:
            return pixels.flip(1), _swapped(scene.things)
        return pixels, scene.things

    def _crop(self, scene: StoredScene) -> tuple[torch.Tensor, Sequence[Thing]]:
        for _ in range(10):
            side = self._rng.uniform(0.5, 0.95)
            window = (self._rng.uniform(0, 1 - side), self._rng.uniform(0, 1 - side), side)
            things = crop_things(scene.things, window)
            if things:
                break
        else:
            return self._whole(scene)
        x, y, w = (round(v * STORE) for v in window)
        part = torch.from_numpy(scene.pixels[y : y + w, x : x + w]).permute(2, 0, 1)[None].float()
        resized = F.interpolate(part, (VISION.canvas,) * 2, mode="bilinear", antialias=True)[0]
        return resized.permute(1, 2, 0).clamp(0, 255).byte(), things

    def windows(self, count: int) -> ClipBatch:
        """Scenes of which the tower sees WINDOW x WINDOW patches around a thing, with plain captions.

        The patches stand where they always stand, at their true size: a quarter of a scene's cost, and the
        object is intact.
        """
        images, kept, texts = [], [], []
        patches = torch.arange(self._grid**2).view(self._grid, self._grid)
        for scene in self._rng.choices(self._scenes, k=count):
            image, things = self._whole(scene)
            x1, y1, x2, y2 = (v * self._grid for v in self._rng.choice(things).box)
            column, row = self._corner(x1, x2), self._corner(y1, y2)
            window = (column / self._grid, row / self._grid, WINDOW / self._grid)
            images.append(image)
            kept.append(patches[row : row + WINDOW, column : column + WINDOW].flatten())
            texts.append(plain_caption(list(crop_things(things, window)), self._rng))
        return ClipBatch(self._normalised(images), caption_tokens(texts, self._encode), torch.stack(kept))

    def _corner(self, low: float, high: float) -> int:
        """First row or column of a window that holds [low, high], in patches, or has it in its middle."""
        first, last = math.ceil(high) - WINDOW, math.floor(low)
        corner = self._rng.randint(first, last) if first <= last else round((low + high) / 2) - WINDOW // 2
        return min(max(corner, 0), self._grid - WINDOW)

    def pairs(self, num_scenes: int, *, drop_fraction: float) -> ClipBatch:
        """Two views of each scene, hard negatives of each other, with rich captions.

        Args:
            drop_fraction: share of the patches that the tower does not see.
        """
        images, texts = [], []
        for scene in self._rng.sample(self._scenes, num_scenes):
            for view in (self._whole, self._crop):
                image, things = view(scene)
                write = rich_caption if self._rng.random() < 0.8 else caption
                images.append(image)
                texts.append(write(list(things), scene.background, self._rng))
        num_kept = round(self._grid**2 * (1 - drop_fraction))
        kept = None
        if drop_fraction:
            rows = [self._rng.sample(range(self._grid**2), num_kept) for _ in images]
            kept = torch.tensor(rows)
        return ClipBatch(self._normalised(images), caption_tokens(texts, self._encode), kept)

    def batch(self, num_scenes: int, progress: float) -> ClipBatch:
        """What a step learns from: what things are first, at little cost; then where they are.

        Args:
            progress: share of the training that is done.
        """
        if progress < WINDOWS_UNTIL:
            return self.windows(4 * num_scenes)
        return self.pairs(num_scenes, drop_fraction=0.5 if progress < DROPOUT_UNTIL else 0.0)


def caption_tokens(texts: Sequence[str], encode: Callable[[str], list[int]]) -> torch.Tensor:
    """(N, longest) ids: begin, text, end (the highest id), zeros; a text that is too long is cut."""
    rows = [[1, *encode(text)[: CAPTIONS.context - 2], VOCAB - 1] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
