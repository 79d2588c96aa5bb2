"""Backgrounds, patterns and light for the scenes, drawn once per process from fixed seeds."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

TILE = 384  # side of a background tile in pixels; scenes show a window of it
PATTERN_SIDE = 128  # side of a pattern tile in pixels
Array = np.ndarray


def _noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], octaves: int = 4
) -> Array:
    """Smooth fractal noise in [0, 1]; `cells` is the number of coarse cells (down, across)."""
    height, width = shape
    total, weight = np.zeros(shape, dtype=np.float32), 0.0
    for octave in range(octaves):
        rows, columns = (min(c * 2**octave, s) for c, s in zip(cells, shape, strict=True))
        grid = Image.fromarray(rng.random((max(rows, 2), max(columns, 2)), dtype=np.float32), mode="F")
        total += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
        weight += 1 / 2**octave
    total /= weight
    return np.clip((total - total.min()) / (np.ptp(total) + 1e-6), 0, 1)


def _ramp(value: Array, *stops: tuple[int, int, int]) -> Array:
    """Colours along evenly spaced stops for values in [0, 1]: (H, W) -> (H, W, 3)."""
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(value, at, [s[k] for s in stops]) for k in range(3)], -1)


def _axes() -> tuple[Array, Array]:
    y, x = np.mgrid[0:TILE, 0:TILE].astype(np.float32) / TILE
    return y, x


def _wood(rng: np.random.Generator) -> Array:
    y, _ = _axes()
    grain = _noise(rng, (TILE, TILE), (24, 2))
    plank = np.floor(y * 6).astype(int)
    value = 0.5 + 0.3 * np.sin(40 * grain + 5 * y) * 0.4 + 0.35 * (grain - 0.5) + 0.12 * rng.random(6)[plank]
    colors = _ramp(np.clip(value, 0, 1), (142, 96, 58), (186, 138, 88), (214, 172, 120))
    colors[np.abs((y * 6) % 1 - 0.5) > 0.487] *= 0.7
    return colors


def _grass(rng: np.random.Generator) -> Array:
    value = 0.55 * _noise(rng, (TILE, TILE), (20, 90), 3) + 0.45 * _noise(rng, (TILE, TILE), (4, 4), 3)
    return _ramp(value, (84, 138, 62), (124, 176, 84), (168, 206, 112))


def _fabric(rng: np.random.Generator) -> Array:
    y, x = _axes()
    weave = 0.5 + 0.25 * np.sin(x * 400) * np.sign(np.sin(y * 200)) + 0.25 * np.sin(y * 400)
    value = 0.35 * weave + 0.65 * _noise(rng, (TILE, TILE), (5, 5), 3)
    return _ramp(value, (150, 132, 158), (184, 166, 188), (212, 198, 212))


def _sky(rng: np.random.Generator) -> Array:
    y, _ = _axes()
    cloud = np.clip((_noise(rng, (TILE, TILE), (6, 3)) - 0.5) * 3.2, 0, 1)[..., None]
    return (
        _ramp(y, (112, 172, 228), (178, 214, 240), (228, 238, 240)) * (1 - 0.75 * cloud) + 248 * 0.75 * cloud
    )


def _sunset(rng: np.random.Generator) -> Array:
    y, _ = _axes()
    cloud = np.clip((_noise(rng, (TILE, TILE), (10, 2)) - 0.55) * 3, 0, 1)[..., None]
    return _ramp(y, (124, 112, 180), (224, 150, 160), (252, 208, 150)) * (1 - 0.4 * cloud) + 235 * 0.4 * cloud


def _sand(rng: np.random.Generator) -> Array:
    y, x = _axes()
    ripples = 0.5 + 0.5 * np.sin(70 * (y + 0.08 * np.sin(9 * x) + 0.15 * _noise(rng, (TILE, TILE), (3, 3))))
    value = 0.35 * ripples + 0.4 * _noise(rng, (TILE, TILE), (4, 4)) + 0.25 * rng.random((TILE, TILE))
    return _ramp(value, (210, 184, 138), (230, 208, 164), (246, 230, 194))


def _tiles(rng: np.random.Generator) -> Array:
    y, x = _axes()
    rows, columns = (y * 8).astype(int), (x * 8).astype(int)
    value = 0.3 + 0.4 * ((rows + columns) % 2) + 0.2 * rng.random((9, 9))[rows, columns]
    colors = _ramp(value, (168, 200, 200), (204, 226, 222), (238, 244, 238))
    colors[(np.abs((y * 8) % 1 - 0.5) > 0.47) | (np.abs((x * 8) % 1 - 0.5) > 0.47)] = (246, 246, 240)
    return colors


def _paper(rng: np.random.Generator) -> Array:
    y, x = _axes()
    colors = _ramp(_noise(rng, (TILE, TILE), (6, 6)), (244, 238, 222), (250, 246, 234))
    lines = (np.abs((y * 24) % 1 - 0.5) > 0.46) | (np.abs((x * 24) % 1 - 0.5) > 0.46)
    colors[lines] = colors[lines] * 0.6 + np.array([168, 196, 220]) * 0.4
    return colors


def _night(rng: np.random.Generator) -> Array:
    y, _ = _axes()
    value = 0.7 * y + 0.3 * _noise(rng, (TILE, TILE), (4, 4))
    colors = _ramp(value, (34, 38, 78), (62, 64, 116), (104, 96, 150))
    spots = rng.integers(2, TILE - 2, (160, 2))
    colors[spots[:, 0], spots[:, 1]] = (236, 236, 220)
    return colors


def _water(rng: np.random.Generator) -> Array:
    y, x = _axes()
    warp = _noise(rng, (TILE, TILE), (8, 4))
    waves = np.clip(np.sin(60 * y + 7 * warp + 3 * np.sin(6 * x)) - 0.72, 0, 1) * 2.2
    return _ramp(
        np.clip(0.6 * _noise(rng, (TILE, TILE), (5, 3)) + waves, 0, 1),
        (86, 152, 196),
        (132, 192, 220),
        (226, 242, 246),
    )


def _brick(rng: np.random.Generator) -> Array:
    y, x = _axes()
    row = (y * 14).astype(int)
    shifted = x * 7 + 0.5 * (row % 2)
    value = 0.6 * rng.random((15, 9))[row, shifted.astype(int)] + 0.4 * _noise(rng, (TILE, TILE), (30, 30), 2)
    colors = _ramp(value, (170, 104, 88), (194, 128, 108), (212, 152, 130))
    colors[(np.abs((y * 14) % 1 - 0.5) > 0.43) | (np.abs(shifted % 1 - 0.5) > 0.465)] = (222, 210, 196)
    return colors


def _hills(rng: np.random.Generator) -> Array:
    y, x = _axes()
    colors = _ramp(y, (150, 200, 236), (206, 230, 244), (240, 244, 236))
    for level, amplitude, tint in (
        (0.5, 0.07, (142, 190, 150)),
        (0.64, 0.05, (122, 178, 104)),
        (0.8, 0.04, (150, 198, 106)),
    ):
        edge = level + amplitude * np.sin(x * rng.uniform(5, 11) + rng.uniform(0, 6))
        blend = (_noise(rng, (TILE, TILE), (20, 40), 2)[..., None] - 0.5) * 18
        colors = np.where((y > edge)[..., None], np.array(tint) + blend, colors)
    return colors


def _dots(rng: np.random.Generator) -> Array:
    y, x = _axes()
    shift = 0.5 * ((y * 16).astype(int) % 2)
    far = np.hypot((x * 16 + shift) % 1 - 0.5, (y * 16) % 1 - 0.5)
    colors = _ramp(_noise(rng, (TILE, TILE), (3, 3)), (246, 214, 206), (250, 226, 218))
    colors[far < 0.22] = (253, 245, 238)
    return colors


def _stripes(rng: np.random.Generator) -> Array:
    _, x = _axes()
    value = np.where((x * 12) % 1 < 0.5, 0.25, 0.75) + 0.2 * (_noise(rng, (TILE, TILE), (4, 4)) - 0.5)
    return _ramp(value, (186, 208, 190), (212, 226, 206), (236, 242, 226))


def _stone(rng: np.random.Generator) -> Array:
    value = 0.6 * _noise(rng, (TILE, TILE), (5, 5), 5) + 0.4 * np.abs(
        2 * _noise(rng, (TILE, TILE), (8, 8)) - 1
    )
    return _ramp(value, (138, 138, 144), (172, 172, 176), (204, 204, 204))


BACKGROUNDS: dict[str, Callable[[np.random.Generator], Array]] = {
    "wood": _wood,
    "grass": _grass,
    "fabric": _fabric,
    "sky": _sky,
    "sunset": _sunset,
    "sand": _sand,
    "tiles": _tiles,
    "paper": _paper,
    "night": _night,
    "water": _water,
    "bricks": _brick,
    "hills": _hills,
    "wallpaper": _dots,
    "stripes": _stripes,
    "stone": _stone,
}


@cache
def background_tile(name: str, variant: int) -> Image.Image:
    """The (TILE, TILE) RGB tile of a background, the same in every process."""
    rng = np.random.default_rng((sum(name.encode()), variant))
    return Image.fromarray(np.clip(BACKGROUNDS[name](rng), 0, 255).astype(np.uint8))


@cache
def pattern_mask(name: str) -> Image.Image:
    """Where the second tone of a pattern goes, as an L image of PATTERN_SIDE pixels square."""
    y, x = np.mgrid[0:PATTERN_SIDE, 0:PATTERN_SIDE] / PATTERN_SIDE
    if name == "striped":
        value = ((x + y) * 5) % 1 < 0.42
    elif name == "dotted":
        shift = 0.5 * ((y * 6).astype(int) % 2)
        value = np.hypot((x * 6 + shift) % 1 - 0.5, (y * 6) % 1 - 0.5) < 0.27
    elif name == "checked":
        value = ((x * 6).astype(int) + (y * 6).astype(int)) % 2 == 0
    else:
        raise ValueError(f"unknown pattern {name!r}; expected striped, dotted or checked")
    return Image.fromarray((value * 255).astype(np.uint8))


@cache
def light_map() -> Image.Image:
    """How much light falls on a sprite, brightest at the upper left: L, 64 x 64."""
    y, x = np.mgrid[0:64, 0:64] / 63
    value = 265 - 84 * np.clip(np.hypot(x - 0.3, y - 0.25), 0, 1) ** 1.5
    return Image.fromarray(np.clip(value, 0, 255).astype(np.uint8))


@cache
def highlight_map() -> Image.Image:
    """A soft gleam near the upper left: L, 64 x 64."""
    y, x = np.mgrid[0:64, 0:64] / 63
    value = 105 * np.exp(-(((x - 0.3) / 0.16) ** 2) - ((y - 0.24) / 0.13) ** 2)
    return Image.fromarray(value.astype(np.uint8))
