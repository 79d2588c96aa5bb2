"""Procedural scenes: objects with class, colour, pattern, exact boxes and masks, on textured backgrounds.

A scene depends on (seed, index) alone, so that any number of workers makes the same world. Boxes are the
extent of an object's *visible* pixels, as in COCO: x1, y1 inclusive and x2, y2 exclusive pixel edges.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from locvlm.world.drawing import BODY_ALPHA, COLORS, INK, Paint, Pen, mix
from locvlm.world.shapes import CLASSES, SHAPES
from locvlm.world.textures import (
    BACKGROUNDS,
    TILE,
    background_tile,
    highlight_map,
    light_map,
    pattern_mask,
)

MIN_SIDE, MAX_SIDE = 0.12, 0.5  # sides of an object's box, in fractions of the scene's side
MIN_VISIBLE = 0.45  # least share of an object's pixels that an occluder leaves visible
OCCLUDED_FRACTION = 0.3  # scenes with an occluded object
DUPLICATE_FRACTION = 0.1  # scenes that hold two objects of one class
PATTERNS = ("plain",) * 6 + ("striped", "dotted", "checked")
USUAL_COLOR_FRACTION = 0.9  # objects in colours that their class mostly has: a duck is yellow, as a rule
TRIES = 40
COLOR_SHARES = np.array([0.4 if name in ("brown", "gray", "black") else 1.0 for name in COLORS])
COLOR_SHARES /= COLOR_SHARES.sum()


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object as it is seen."""

    category: str
    color: str
    pattern: str
    box_px: tuple[int, int, int, int]  # x1, y1, x2, y2 of the visible pixels, scene pixels
    mask: np.ndarray  # (H, W) bool, the visible pixels
    visible_fraction: float  # visible pixels over all its pixels


@dataclass(frozen=True, slots=True)
class Scene:
    """A rendered scene; `objects` are ordered from back to front."""

    image: Image.Image  # RGB
    background: str
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True, slots=True)
class Sprite:
    """A drawn object before it is placed."""

    category: str
    color: str
    pattern: str
    pixels: Image.Image  # RGBA, already cropped to its extent
    border: tuple[int, int, int]
    mask: np.ndarray  # (h, w) bool

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in scene pixels."""
        return self.pixels.size


def _jitter(
    rng: np.random.Generator, color: tuple[int, int, int], spread: float = 14
) -> tuple[int, int, int]:
    r, g, b = (int(np.clip(c + d, 0, 255)) for c, d in zip(color, rng.normal(0, spread, 3), strict=True))
    return r, g, b


def _draw(
    category: str, paint: Paint, pattern: str, tilt: float, side: int, border: tuple[int, int, int]
) -> Image.Image:
    """The flat drawing with its pattern, cropped to its extent, RGBA."""
    pen = Pen(side, tilt, border)
    SHAPES[category].draw(pen, paint)
    image, alpha = pen.image, pen.image.getchannel("A")
    if pattern != "plain":
        body = alpha.point([255 if a == BODY_ALPHA else 0 for a in range(256)])
        where = ImageChops.multiply(body, pattern_mask(pattern).resize(image.size))
        tone = paint.light if sum(paint.main) < 480 else mix(paint.main, (60, 40, 60), 0.28)
        image.paste((*tone, 255), mask=where)
    extent = alpha.getbbox()
    assert extent is not None, "every drawing leaves pixels"
    return image.crop(extent)


def make_sprite(rng: np.random.Generator, category: str, size: tuple[int, int]) -> Sprite:
    """An object of the class, drawn to cover exactly `size` (width, height) pixels."""
    shape = SHAPES[category]
    if rng.random() < USUAL_COLOR_FRACTION:
        color, accent = (
            str(rng.choice(usual.split())) for usual in (shape.usual_colors, shape.usual_accents)
        )
    else:
        color = str(rng.choice(list(COLORS), p=COLOR_SHARES))
        accent = str(rng.choice([name for name in COLORS if name not in (color, "black")]))
    paint = Paint(main=_jitter(rng, COLORS[color]), accent=_jitter(rng, COLORS[accent]))
    pattern = str(rng.choice(PATTERNS))
    edge = max(1, round(min(size) / 40))
    is_dark = sum(paint.main) < 280
    border = (250, 248, 242) if rng.random() < (0.85 if is_dark else 0.35) else mix(paint.main, INK, 0.72)
    inner = (max(4, size[0] - 2 * edge), max(4, size[1] - 2 * edge))
    drawn = _draw(category, paint, pattern, float(rng.normal(0, 0.12)), 2 * max(inner), border)
    drawn = drawn.resize(inner, Image.Resampling.BOX if max(inner) > 40 else Image.Resampling.HAMMING)
    alpha = drawn.getchannel("A")
    lit = ImageChops.multiply(drawn.convert("RGB"), Image.merge("RGB", [light_map().resize(inner)] * 3))
    lit.paste((255, 255, 250), mask=highlight_map().resize(inner))
    pixels = Image.new("RGBA", size, (*border, 0))
    lit.putalpha(alpha)
    pixels.paste(lit, (edge, edge))
    outline = pixels.getchannel("A").filter(ImageFilter.MaxFilter(2 * edge + 1))
    flat = Image.new("RGBA", size, (*border, 255))
    flat.paste(lit, (edge, edge), mask=alpha)
    flat.putalpha(outline)
    return Sprite(category, color, pattern, flat, border, np.asarray(outline) > 127)


def sample_size(
    rng: np.random.Generator, category: str, scene: tuple[int, int], largest: float
) -> tuple[int, int]:
    """Width and height in pixels: sides 12-50% of the scene, aspect 0.5 to 2 in pixels and in fractions."""
    side = rng.uniform(MIN_SIDE + 0.02, largest)  # of the scene's geometric mean
    aspect = SHAPES[category].aspect * math.exp(rng.normal(0, 0.18))
    stretch = scene[0] / scene[1]
    low, high = max(0.52, 0.52 * stretch), min(1.92, 1.92 * stretch)
    aspect = float(np.clip(aspect, low, high))
    across = side * math.sqrt(aspect / stretch)  # fraction of the scene's width
    down = side / math.sqrt(aspect / stretch)
    grow = max(1.0, (MIN_SIDE + 0.005) / min(across, down)) * min(1.0, (MAX_SIDE - 0.005) / max(across, down))
    return math.ceil(across * grow * scene[0]), math.ceil(down * grow * scene[1])


def overlap_share(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Shared area over the smaller area, of two boxes x1, y1, x2, y2 in one frame."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


@dataclass(slots=True)
class Placed:
    """A sprite with its upper left corner, in scene pixels."""

    sprite: Sprite
    corner: tuple[int, int]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of all its pixels."""
        (x, y), (w, h) = self.corner, self.sprite.size
        return x, y, x + w, y + h

    def full_mask(self, size: tuple[int, int]) -> np.ndarray:
        """(H, W) bool of all its pixels, seen or not."""
        canvas = np.zeros((size[1], size[0]), dtype=bool)
        x1, y1, x2, y2 = self.box
        canvas[y1:y2, x1:x2] = self.sprite.mask
        return canvas


def free_place(
    rng: np.random.Generator, sprite: Sprite, placed: list[Placed], size: tuple[int, int]
) -> Placed | None:
    """Somewhere clear of the others, or None after TRIES tries."""
    for _ in range(TRIES):
        x = int(rng.integers(0, size[0] - sprite.size[0] + 1))
        y = int(rng.integers(0, size[1] - sprite.size[1] + 1))
        new = Placed(sprite, (x, y))
        if all(overlap_share(new.box, old.box) < 0.03 for old in placed):
            return new
    return None


def _covering_place(
    rng: np.random.Generator, sprite: Sprite, placed: list[Placed], size: tuple[int, int]
) -> Placed | None:
    """Somewhere in front of one of the others, hiding 10% to 1 - MIN_VISIBLE of its pixels."""
    for _ in range(TRIES):
        target = placed[int(rng.integers(len(placed)))]
        x1, y1, x2, y2 = target.box
        x = int(rng.integers(x1 - sprite.size[0] + 1, x2))
        y = int(rng.integers(y1 - sprite.size[1] + 1, y2))
        if not (0 <= x <= size[0] - sprite.size[0] and 0 <= y <= size[1] - sprite.size[1]):
            continue
        new = Placed(sprite, (x, y))
        if any(old is not target and overlap_share(new.box, old.box) >= 0.03 for old in placed):
            continue
        whole = target.full_mask(size)
        hidden = (whole & new.full_mask(size)).sum() / whole.sum()
        if 0.1 <= hidden <= 1 - MIN_VISIBLE:
            return new
    return None


def _arrange(rng: np.random.Generator, size: tuple[int, int], num_objects: int) -> list[Placed]:
    """Sprites with their places, back to front; fewer than asked for where they do not fit."""
    categories = [str(c) for c in rng.choice(CLASSES, num_objects, replace=False)]
    if num_objects > 2 and rng.random() < DUPLICATE_FRACTION * 1.5:
        categories[1] = categories[0]
    cover_last = num_objects > 1 and rng.random() < OCCLUDED_FRACTION + 0.02
    largest = {1: 0.5, 2: 0.5, 3: 0.44, 4: 0.38}[num_objects]
    placed: list[Placed] = []
    for k, category in enumerate(categories):
        for _ in range(4):
            sprite = make_sprite(rng, category, sample_size(rng, category, size, largest))
            place = _covering_place if cover_last and k == num_objects - 1 else free_place
            new = place(rng, sprite, placed, size)
            if new is not None:
                placed.append(new)
                break
    return placed


def make_backdrop(rng: np.random.Generator, size: tuple[int, int]) -> tuple[str, Image.Image]:
    """The name of a background, and a window of it of `size` (width, height)."""
    name = str(rng.choice(list(BACKGROUNDS)))
    tile = background_tile(name, int(rng.integers(3)))
    scale = rng.uniform(0.75, 1.3)
    window = (min(TILE, int(size[0] * scale)), min(TILE, int(size[1] * scale)))
    x, y = (int(rng.integers(0, TILE - w + 1)) for w in window)
    image = tile.resize(size, Image.Resampling.BILINEAR, box=(x, y, x + window[0], y + window[1]))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gains = rng.uniform(0.86, 1.0) * rng.normal(1, 0.05, 3)
    return name, image.point([min(255, int(v * g)) for g in gains for v in range(256)])


def shadow_of(sprite: Sprite) -> tuple[Image.Image, int]:
    """The soft shadow of a sprite, and how far it reaches over its left side, in pixels."""
    reach = max(2, min(sprite.size) // 12)
    shadow = Image.new("L", (sprite.size[0] + 4 * reach, sprite.size[1] + 4 * reach), 0)
    shadow.paste(
        sprite.pixels.getchannel("A").point([v * 2 // 5 for v in range(256)]), (2 * reach, 2 * reach)
    )
    return shadow.filter(ImageFilter.BoxBlur(reach * 0.8)), reach


def paint_sprite(
    image: Image.Image, sprite: Sprite, corner: tuple[int, int], shadow: tuple[Image.Image, int]
) -> None:
    """Draw a sprite with its shadow into the image; what lies outside of it is cut off."""
    (x, y), (dark, reach) = corner, shadow
    image.paste((22, 18, 34), (x - reach, y - reach // 2), dark)
    image.paste(sprite.pixels, (x, y), sprite.pixels.getchannel("A"))


def _visible(placed: list[Placed], size: tuple[int, int]) -> tuple[SceneObject, ...]:
    covered = np.zeros((size[1], size[0]), dtype=bool)
    seen: list[SceneObject] = []
    for item in reversed(placed):
        whole = item.full_mask(size)
        mask = whole & ~covered
        covered |= whole
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        sprite = item.sprite
        seen.append(
            SceneObject(
                sprite.category, sprite.color, sprite.pattern, box, mask, float(mask.sum() / whole.sum())
            )
        )
    return tuple(reversed(seen))


def _is_fair(thing: SceneObject, size: tuple[int, int]) -> bool:
    """Whether what is seen of it keeps to the promised sides, aspects and visible share."""
    width, height = thing.box_px[2] - thing.box_px[0], thing.box_px[3] - thing.box_px[1]
    across, down = width / size[0], height / size[1]
    return (
        thing.visible_fraction >= MIN_VISIBLE
        and all(MIN_SIDE <= side <= MAX_SIDE for side in (across, down))
        and all(0.5 <= aspect <= 2 for aspect in (width / height, across / down))
    )


def make_scene(seed: int, index: int, *, object_counts: tuple[int, ...] = (2, 3, 4)) -> Scene:
    """Scene `index` of the world `seed`. Sizes vary from 128 to 256 pixels a side.

    Args:
        object_counts: how many objects a scene may hold, each count equally likely.
    """
    rng = np.random.default_rng((seed, index))
    long_side, ratio = rng.uniform(160, 256), rng.uniform(0.7, 1.0)
    size = (round(long_side), round(long_side * ratio))
    if rng.random() < 0.4:
        size = (size[1], size[0])
    wanted = int(rng.choice(object_counts))
    while True:
        placed = _arrange(rng, size, wanted)
        objects = _visible(placed, size)
        if len(placed) == wanted and all(_is_fair(o, size) for o in objects):
            break
    name, image = make_backdrop(rng, size)
    for item in placed:  # back to front
        paint_sprite(image, item.sprite, item.corner, shadow_of(item.sprite))
    return Scene(image, name, objects)
