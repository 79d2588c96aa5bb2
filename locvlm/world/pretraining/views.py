"""What the tiny CLIP learns from: scenes in memory, views of them, words for wholes and regions."""

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

from locvlm.world.backbones import BOS, CAPTIONS, VISION, VOCAB
from locvlm.world.captions import Thing, caption, phrase, plain_caption, rich_caption, things_of
from locvlm.world.scenes import make_scene
from locvlm.world.write import stream_seed

STORE = 128  # side of the stored pretraining scenes, from which crops are cut
CROPS = 0.3  # share of views that are crops
PLAIN_UNTIL = 0.2  # share of the training in which words name what things are, not yet where


@dataclass(frozen=True, slots=True)
class StoredScene:
    """A pretraining scene in memory."""

    pixels: np.ndarray  # (STORE, STORE, 3) uint8, stretched
    small: np.ndarray  # (canvas, canvas, 3) uint8, stretched
    things: tuple[Thing, ...]
    background: str


def store_scene(index: int, seed: int) -> StoredScene:
    """Scene `index` of the `pretrain` stream."""
    # a quarter of close-ups with one object: what crops and product pictures are on the web
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
        job = partial(store_scene, seed=seed)
        return list(
            tqdm(pool.imap(job, range(count), chunksize=64), total=count, desc="scenes", unit="scene")
        )


def _mirrored(things: Sequence[Thing]) -> tuple[Thing, ...]:
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


def with_one_edge_moved(thing: Thing, rng: random.Random) -> Thing:
    """The thing with one of its four edges elsewhere, by about the width of a patch or two."""
    edge, step = rng.randrange(4), rng.uniform(0.08, 0.25)
    box = list(thing.box)
    opposite = box[edge ^ 2]
    outwards = -step if edge < 2 else step
    can_shrink = abs(box[edge] - opposite) > 2 * step
    box[edge] = min(1.0, max(0.0, box[edge] + (-outwards if can_shrink and rng.random() < 0.5 else outwards)))
    return replace(thing, box=(box[0], box[1], box[2], box[3]))


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Images with a caption each, and regions of them with a phrase each."""

    pixels: torch.Tensor  # (N, 3, canvas, canvas) normalised
    captions: torch.Tensor  # (N, longest caption) ids
    image_of: torch.Tensor  # (R,) image that each region belongs to
    boxes: torch.Tensor  # (R, 4) x1, y1, x2, y2 in fractions of the image
    phrases: torch.Tensor  # (R, longest phrase) ids
    near_misses: torch.Tensor  # (R, longest phrase) ids of the same phrase, were the thing a little elsewhere


class Views:
    """Image-caption and region-phrase pairs from stored scenes, seen whole, mirrored or cropped."""

    def __init__(self, scenes: Sequence[StoredScene], encode: Callable[[str], list[int]], seed: int) -> None:
        self._scenes, self._encode = scenes, encode
        self._rng = random.Random(f"views/{seed}")
        self._order: list[StoredScene] = []
        self._mean = torch.tensor(VISION.spec.image_mean).view(3, 1, 1)
        self._std = torch.tensor(VISION.spec.image_std).view(3, 1, 1)

    def whole_images(self, count: int) -> torch.Tensor:
        """The first scenes as they are, normalised: (N, 3, canvas, canvas)."""
        return self._normalised([torch.from_numpy(scene.small) for scene in self._scenes[:count]])

    def _normalised(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """(canvas, canvas, 3) uint8 images as one normalised batch."""
        return (torch.stack(list(images)).permute(0, 3, 1, 2) / 255 - self._mean) / self._std

    def _next_scenes(self, count: int) -> list[StoredScene]:
        """Every scene once before any comes again."""
        while len(self._order) < count:
            self._order += self._rng.sample(self._scenes, len(self._scenes))
        taken, self._order = self._order[:count], self._order[count:]
        return taken

    def _view(self, scene: StoredScene) -> tuple[torch.Tensor, Sequence[Thing]]:
        """(canvas, canvas, 3) uint8 and what it shows."""
        pixels: torch.Tensor = torch.from_numpy(scene.small)
        things: Sequence[Thing] = scene.things
        if self._rng.random() < CROPS:
            pixels, things = self._crop(scene)
        if self._rng.random() < 0.5:
            return pixels.flip(1), _mirrored(things)
        return pixels, things

    def _crop(self, scene: StoredScene) -> tuple[torch.Tensor, Sequence[Thing]]:
        for _ in range(10):
            side = self._rng.uniform(0.5, 0.95)
            window = (self._rng.uniform(0, 1 - side), self._rng.uniform(0, 1 - side), side)
            things = crop_things(scene.things, window)
            if things:
                break
        else:
            return torch.from_numpy(scene.small), scene.things
        x, y, w = (round(v * STORE) for v in window)
        part = torch.from_numpy(scene.pixels[y : y + w, x : x + w]).permute(2, 0, 1)[None].float()
        resized = F.interpolate(part, (VISION.canvas,) * 2, mode="bilinear", antialias=True)[0]
        return resized.permute(1, 2, 0).clamp(0, 255).byte(), things

    def batch(self, num_scenes: int, progress: float) -> ClipBatch:
        """What a step learns from: what things are first, then also where they are and what surrounds them.

        Args:
            progress: share of the training that is done.
        """
        plain, rng = progress < PLAIN_UNTIL, self._rng
        images, captions, image_of, boxes, phrases, near_misses = [], [], [], [], [], []
        for index, scene in enumerate(self._next_scenes(num_scenes)):
            image, things = self._view(scene)
            images.append(image)
            if plain:
                captions.append(plain_caption(list(things), rng))
            else:
                write = rich_caption if rng.random() < 0.8 else caption
                captions.append(write(list(things), scene.background, rng))
            for thing in things:
                image_of.append(index)
                boxes.append(thing.box)
                is_placed, wording = not plain and rng.random() < 0.7, rng.random()
                phrases.append(phrase(thing, random.Random(wording), placed=is_placed))
                elsewhere = with_one_edge_moved(thing, rng)
                near_misses.append(phrase(elsewhere, random.Random(wording), placed=is_placed))
        said, missed = caption_tokens(phrases + near_misses, self._encode).chunk(2)
        return ClipBatch(
            self._normalised(images),
            caption_tokens(captions, self._encode),
            torch.tensor(image_of),
            torch.tensor(boxes),
            said,
            missed,
        )


def caption_tokens(texts: Sequence[str], encode: Callable[[str], list[int]]) -> torch.Tensor:
    """(N, longest) ids: begin, text, end (the highest id), zeros; a text that is too long is cut."""
    rows = [[BOS, *encode(text)[: CAPTIONS.context - 2], VOCAB - 1] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
