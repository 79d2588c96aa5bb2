"""Procedural clips: of the objects of a scene some rest, one may move or leave, one may appear.

A clip depends on (seed, index) alone. Boxes are the extent of an object's visible pixels in each frame, as in
a scene (locvlm/world/scenes.py). What rests is never hidden by what moves, so its box is one and the same in
all frames that show it; what moves does so by a multiple of what any rule for resting objects tolerates.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from locvlm.world.scenes import (
    MIN_VISIBLE,
    Placed,
    Sprite,
    free_place,
    make_backdrop,
    make_sprite,
    paint_sprite,
    sample_size,
    shadow_of,
)
from locvlm.world.shapes import CLASSES

NUM_FRAMES = 32
FRAMES_PER_SECOND = 8
NUM_SAMPLED = 8  # frames that a segmenter is asked about
# the midpoints of equal parts, which is what readers of videos take: 2, 6, ... 30
SAMPLED = tuple((2 * k + 1) * NUM_FRAMES // (2 * NUM_SAMPLED) for k in range(NUM_SAMPLED))
MOVE_FRACTION, LEAVE_FRACTION = 0.45, 0.35  # of the clips
APPEAR_FRACTION = 0.35
DUPLICATE_FRACTION = 0.1  # of the clips with two resting objects: both are of one class
MIN_WAY = 0.3  # least way of what moves, in fractions of the clip's side in its direction
LARGEST = {1: 0.46, 2: 0.46, 3: 0.42, 4: 0.36}  # objects -> largest side, in fractions of the clip's
TRIES = 30

Act = Literal["rests", "appears", "moves", "leaves"]
Direction = Literal["left", "right", "up", "down"]
STEPS: dict[Direction, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
Corner = tuple[int, int]
BoxPx = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Actor:
    """One object of a clip."""

    category: str
    color: str
    pattern: str
    act: Act
    direction: Direction | None  # in which it moves or leaves
    boxes_px: tuple[BoxPx | None, ...]  # x1, y1, x2, y2 of its visible pixels in each frame, if there are any


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A rendered clip; `actors` are ordered from back to front."""

    frames: tuple[Image.Image, ...]  # RGB
    background: str
    actors: tuple[Actor, ...]
    id_maps: np.ndarray  # (T, H, W) uint8: k where actors[k - 1] is seen, 0 for the background

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frames[0].size


@dataclass(frozen=True, slots=True)
class _Role:
    act: Act
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class _Moving:
    """A sprite with its way: the upper left corner in each frame, None where it is not there yet."""

    role: _Role
    sprite: Sprite
    way: tuple[Corner | None, ...]


def make_clip(seed: int, index: int) -> Clip:
    """Clip `index` of the world `seed`: 4 s of 8 frames a second, sides even and of 78 to 144 pixels."""
    rng = np.random.default_rng((seed, index, 1))  # scenes have no third number
    long_side = rng.uniform(112, 144)
    size = (_even(long_side), _even(long_side * rng.uniform(0.7, 1.0)))
    if rng.random() < 0.4:
        size = (size[1], size[0])
    roles = _draw_roles(rng)
    while True:
        things = _arrange(rng, size, roles)
        if things is None:
            continue
        id_maps = np.stack([_id_map(things, size, t) for t in range(NUM_FRAMES)])
        if all(_is_seen_enough(id_maps == k, thing) for k, thing in enumerate(things, start=1)):
            break
    background, backdrop = make_backdrop(rng, size)
    return Clip(_paint(backdrop, things), background, _actors(things, id_maps), id_maps)


def _even(side: float) -> int:
    """The coding of videos halves the sides of their colours."""
    return 2 * round(side / 2)


def _draw_roles(rng: np.random.Generator) -> list[_Role]:
    """Who does what, from back to front: what moves is behind what rests."""
    draw = rng.random()
    roles: list[_Role] = []
    if draw < MOVE_FRACTION + LEAVE_FRACTION:
        direction = list(STEPS)[int(rng.integers(len(STEPS)))]
        roles.append(_Role("moves" if draw < MOVE_FRACTION else "leaves", direction))
    if rng.random() < APPEAR_FRACTION:
        roles.append(_Role("appears"))
    num_resting = int(rng.integers(1, 3)) + (0 if roles else 1)
    return roles + [_Role("rests")] * num_resting


def _draw_categories(rng: np.random.Generator, roles: list[_Role]) -> list[str]:
    names = [str(name) for name in rng.choice(CLASSES, len(roles), replace=False)]
    if [role.act for role in roles[-2:]] == ["rests", "rests"] and rng.random() < DUPLICATE_FRACTION:
        names[-1] = names[-2]
    return names


def _arrange(rng: np.random.Generator, size: tuple[int, int], roles: list[_Role]) -> list[_Moving] | None:
    """All objects with their ways, back to front; None where one finds no place."""
    sprites = [
        make_sprite(rng, name, sample_size(rng, name, size, LARGEST[len(roles)]))
        for name in _draw_categories(rng, roles)
    ]
    placed: list[Placed] = []  # what stands somewhere
    things: list[_Moving] = []
    for role, sprite in zip(reversed(roles), reversed(sprites), strict=True):
        way: tuple[Corner | None, ...] | None
        if role.direction is None:
            new = free_place(rng, sprite, placed, size)
            if new is None:
                return None
            placed.append(new)
            first = int(rng.integers(5, 17)) if role.act == "appears" else 0
            way = (None,) * first + (new.corner,) * (NUM_FRAMES - first)
        else:
            way = _clear_way(rng, sprite, role, placed, size)
            if way is None:
                return None
        things.append(_Moving(role, sprite, way))
    return things[::-1]


def _clear_way(
    rng: np.random.Generator, sprite: Sprite, role: _Role, placed: list[Placed], size: tuple[int, int]
) -> tuple[Corner | None, ...] | None:
    """A way on which what stands does not hide too much of the sprite's box."""
    for _ in range(TRIES):
        way = _draw_way(rng, sprite, role, size)
        if all(_hidden_share(corner, sprite, placed) <= 1 - MIN_VISIBLE for corner in way):
            return tuple(way)
    return None


def _draw_way(rng: np.random.Generator, sprite: Sprite, role: _Role, size: tuple[int, int]) -> list[Corner]:
    """Straight on, at an even pace between two frames, and at rest before and after."""
    assert role.direction is not None
    step = STEPS[role.direction]
    axis = 0 if step[0] else 1
    room = [side - own for side, own in zip(size, sprite.size, strict=True)]
    start = [int(rng.integers(0, r + 1)) for r in room]
    first = int(rng.integers(0, 6))
    if role.act == "leaves":
        start[axis] = int(rng.integers(0, int(room[axis] * 0.6) + 1))  # from where it would come in
        gone_with_shadow = size[axis] - start[axis] + 3 * shadow_of(sprite)[1]
        length, last = gone_with_shadow, int(rng.integers(20, 30))
    else:
        length = int(rng.uniform(MIN_WAY * size[axis], min(0.65 * size[axis], room[axis])))
        start[axis], last = int(rng.integers(0, room[axis] - length + 1)), int(rng.integers(26, 32))
    if step[axis] < 0:  # the same, mirrored
        start[axis] = room[axis] - start[axis]
    way = []
    for t in range(NUM_FRAMES):
        gone = round(length * min(1.0, max(0.0, (t - first) / (last - first))))
        way.append((start[0] + step[0] * gone, start[1] + step[1] * gone))
    return way


def _hidden_share(corner: Corner, sprite: Sprite, placed: list[Placed]) -> float:
    """Share of the sprite's box under other boxes."""
    x1, y1 = corner
    x2, y2 = x1 + sprite.size[0], y1 + sprite.size[1]
    hidden = 0
    for other in placed:
        a1, b1, a2, b2 = other.box
        hidden += max(0, min(x2, a2) - max(x1, a1)) * max(0, min(y2, b2) - max(y1, b1))
    return hidden / (sprite.size[0] * sprite.size[1])


def _id_map(things: list[_Moving], size: tuple[int, int], t: int) -> np.ndarray:
    """(H, W) uint8 of frame `t`."""
    ids = np.zeros((size[1], size[0]), dtype=np.uint8)
    for k, thing in enumerate(things, start=1):
        corner = thing.way[t]
        if corner is None:
            continue
        (x, y), (w, h) = corner, thing.sprite.size
        left, top = max(0, -x), max(0, -y)
        inside = thing.sprite.mask[top : max(top, size[1] - y), left : max(left, size[0] - x)]
        ids[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)][inside] = k
    return ids


def _is_seen_enough(seen: np.ndarray, thing: _Moving) -> bool:
    """Whether the others hide no more of it than allowed, in any frame; `seen` is (T, H, W) bool."""
    size = (seen.shape[2], seen.shape[1])
    whole = thing.sprite.mask.sum()
    for t, corner in enumerate(thing.way):
        if corner is None:
            continue
        alone = _Moving(thing.role, thing.sprite, (corner,))
        inside = int(np.count_nonzero(_id_map([alone], size, 0)))
        if inside >= 0.3 * whole and np.count_nonzero(seen[t]) < MIN_VISIBLE * inside:
            return False
    return True


def _paint(backdrop: Image.Image, things: list[_Moving]) -> tuple[Image.Image, ...]:
    shadows = [shadow_of(thing.sprite) for thing in things]
    frames = []
    for t in range(NUM_FRAMES):
        frame = backdrop.copy()
        for thing, shadow in zip(things, shadows, strict=True):
            corner = thing.way[t]
            if corner is not None:
                paint_sprite(frame, thing.sprite, corner, shadow)
        frames.append(frame)
    return tuple(frames)


def _actors(things: list[_Moving], id_maps: np.ndarray) -> tuple[Actor, ...]:
    actors = []
    for k, thing in enumerate(things, start=1):
        boxes = tuple(_extent(ids == k) for ids in id_maps)
        sprite, role = thing.sprite, thing.role
        actors.append(Actor(sprite.category, sprite.color, sprite.pattern, role.act, role.direction, boxes))
    return tuple(actors)


def _extent(mask: np.ndarray) -> BoxPx | None:
    """The box of the pixels of a (H, W) bool mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
