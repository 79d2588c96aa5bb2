"""Layouts as the language model meets them before it has seen an image: things pressed into one vector each.

A patch of an image comes to a language model as one vector that says several things at once: what is there,
how it looks, how far it reaches. A large LLaMA has learned to keep such sums apart; a tiny one learns it so.
A layout token is the sum of the embeddings of its words and of a code for its place. The code is a fixed
random projection, which neither the encoder nor an adapter knows: that an adapter learns to speak so is what
stage 1 is for.
"""

# M tokens, D model width

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

from locvlm.world.backbones import VISION
from locvlm.world.captions import Thing
from locvlm.world.shapes import CLASSES

GROUND_WORDS = {
    "wood": "wooden",
    "grass": "grass",
    "fabric": "cloth",
    "sky": "sky",
    "sunset": "evening",
    "sand": "sand",
    "tiles": "floor",
    "paper": "paper",
    "night": "night",
    "water": "water",
    "bricks": "brick",
    "hills": "hills",
    "wallpaper": "wallpaper",
    "stripes": "striped",
    "stone": "stone",
}
MISTAKEN = 0.1  # patches that take their thing for something else, as an encoder's do
LOOKS = 0.6  # tokens that say a colour or a pattern, too
LOOK_SHARE, CENTRE_SHARE = 0.5, 0.7  # strength of look and centre, against 1 for the class and the box
MAX_LENGTH_RATIO = 6.0  # to words: an adapter's vectors come out longer, nobody knows how much
BOX_NOISE = 0.01  # standard deviation, fractions of the canvas
CYCLES = (0.25, 0.5, 1.0, 2.0, 4.0)  # over the canvas, of the waves that a place is written in

Box4f = tuple[float, float, float, float]
NOWHERE: Box4f = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class LayoutToken:
    """What one vector says."""

    word: str  # a class, or the word for a kind of ground
    look: str  # a colour or pattern, or ""
    box: Box4f | None  # of the thing, in fractions of the canvas; None for ground
    center: tuple[float, float]  # of the patch itself, in fractions of the canvas


def thing_token(
    thing: Thing, rng: random.Random, *, center: tuple[float, float] | None = None, mistaken: float = MISTAKEN
) -> LayoutToken:
    """One token about the thing, seen from `center`, or from its own."""
    looks = [thing.color] if thing.pattern == "plain" else [thing.color, thing.pattern]
    return LayoutToken(
        word=rng.choice(CLASSES) if rng.random() < mistaken else thing.category,
        look=rng.choice(looks) if rng.random() < LOOKS else "",
        box=thing.box,
        center=center or thing.center,
    )


def grid_tokens(things: Sequence[Thing], background: str, rng: random.Random) -> list[LayoutToken]:
    """The layout patch by patch, row by row, as an encoder sees a scene; later things hide earlier ones.

    A patch is about a thing with a chance that grows with how much of it the thing covers; the one in its
    middle always is, so that nothing is asked about that is not shown.
    """
    grid = VISION.spec.grid
    centers = [((column + 0.5) / grid, (row + 0.5) / grid) for row in range(grid) for column in range(grid)]
    tokens = [LayoutToken(GROUND_WORDS[background], "", None, center) for center in centers]
    for thing in things:
        for index, center in enumerate(centers):
            if rng.random() < 1.6 * (_covered(thing.box, center, grid) - 0.1):
                tokens[index] = thing_token(thing, rng, center=center)
    for thing in things:
        column, row = (min(grid - 1, int(v * grid)) for v in thing.center)
        middle = row * grid + column
        tokens[middle] = thing_token(thing, rng, center=centers[middle])
    return tokens


def _covered(box: Box4f, center: tuple[float, float], grid: int) -> float:
    """Share of a patch that a box covers."""
    share = 1.0
    for low, high, middle in ((box[0], box[2], center[0]), (box[1], box[3], center[1])):
        share *= max(0.0, min(high * grid, middle * grid + 0.5) - max(low * grid, middle * grid - 0.5))
    return share


def place_waves(values: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of fractions: (M, K) -> (M, K * 2 * len(CYCLES))."""
    angles = values[..., None] * (2 * math.pi * torch.tensor(CYCLES))
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


class LayoutEmbedder:
    """Layout tokens -> vectors in the space of a language model's embeddings.

    Args:
        encode: text -> ids.
        width: of the language model.
        seed: of the code for places; the same seed gives the same code.
    """

    def __init__(self, encode: Callable[[str], list[int]], width: int, *, seed: int = 7) -> None:
        generator = torch.Generator().manual_seed(seed)
        waves = 2 * len(CYCLES)
        self._box_code = torch.randn(4 * waves, width, generator=generator)
        self._center_code = torch.randn(2 * waves, width, generator=generator)
        self._pieces = cache(lambda word: tuple(encode(word)))

    def __call__(self, embedding: nn.Embedding, tokens: Sequence[LayoutToken]) -> torch.Tensor:
        """(M, D); gradients reach the words' embeddings."""
        said = self._bags(embedding, [self._pieces(token.word) for token in tokens])
        looks = self._bags(embedding, [self._pieces(token.look) if token.look else () for token in tokens])
        is_thing = torch.tensor([[float(token.box is not None)] for token in tokens])
        boxes = torch.tensor([token.box or NOWHERE for token in tokens])
        centers = torch.tensor([token.center for token in tokens])
        noisy = boxes + BOX_NOISE * torch.randn(boxes.shape)
        strength = said.detach().norm(dim=-1).mean()  # codes are as long as words
        place = is_thing * F.normalize(place_waves(noisy) @ self._box_code, dim=-1)
        center = F.normalize(place_waves(centers) @ self._center_code, dim=-1)
        length = MAX_LENGTH_RATIO ** torch.rand(len(tokens), 1)
        return length * (said + LOOK_SHARE * looks + strength * (place + CENTRE_SHARE * center))

    @staticmethod
    def _bags(embedding: nn.Embedding, pieces: Sequence[Sequence[int]]) -> torch.Tensor:
        """The mean embedding of each token's pieces; zero where there are none: (M, D)."""
        flat = torch.tensor([piece for word in pieces for piece in word], dtype=torch.long)
        starts = torch.tensor([0, *(len(word) for word in pieces[:-1])]).cumsum(0)
        return F.embedding_bag(flat, embedding.weight, starts, mode="mean")
