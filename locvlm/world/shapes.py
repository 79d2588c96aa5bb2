"""The classes of the embedded world: one drawing each, a function of a `Pen` and a `Paint`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from locvlm.world.drawing import CREAM, GLASS, GOLD, INK, STEM, WHITE, WOOD, XY, Paint, Pen, mix


def _mug(pen: Pen, c: Paint) -> None:
    pen.curve((0.72, 0.52), (0.2, 0.22), (-90, 90), 0.09, c.dark)
    pen.poly(
        [(0.08, 0.16), (0.74, 0.16), (0.7, 0.9), (0.62, 0.97), (0.2, 0.97), (0.12, 0.9)], c.main, body=True
    )
    pen.oval((0.41, 0.16), (0.33, 0.1), c.light)
    pen.oval((0.41, 0.17), (0.27, 0.07), (96, 58, 40))


def _star(pen: Pen, c: Paint) -> None:
    def ring(outer: float, inner: float) -> list[XY]:
        return [
            (0.5 + r * math.sin(math.pi * k / 5), 0.52 - r * math.cos(math.pi * k / 5))
            for k in range(10)
            for r in [inner if k % 2 else outer]
        ]

    pen.poly(ring(0.5, 0.22), c.main, body=True)
    pen.poly(ring(0.26, 0.12), c.light)


def _kite(pen: Pen, c: Paint) -> None:
    pen.line([(0.42, 0.68), (0.52, 0.76), (0.44, 0.84), (0.56, 0.92), (0.5, 0.98)], 0.035, INK)
    pen.poly([(0.54, 0.76), (0.66, 0.72), (0.64, 0.82)], c.accent)
    pen.poly([(0.44, 0.84), (0.32, 0.82), (0.35, 0.92)], c.accent)
    pen.poly([(0.42, 0.0), (0.86, 0.28), (0.42, 0.72), (0.06, 0.3)], c.main, body=True)
    pen.poly([(0.42, 0.0), (0.86, 0.28), (0.42, 0.3)], c.accent)
    pen.poly([(0.42, 0.72), (0.06, 0.3), (0.42, 0.3)], c.accent)
    pen.line([(0.42, 0.02), (0.42, 0.7)], 0.025, INK)
    pen.line([(0.08, 0.3), (0.84, 0.29)], 0.025, INK)


def _mushroom(pen: Pen, c: Paint) -> None:
    pen.blob([(0.36, 0.5), (0.64, 0.5), (0.7, 0.9), (0.5, 0.98), (0.3, 0.9)], CREAM)
    pen.oval((0.5, 0.52), (0.5, 0.5), c.main, arc=(180, 360), body=True)
    pen.oval((0.5, 0.52), (0.5, 0.09), c.dark)
    for x, y, r in ((0.3, 0.3, 0.08), (0.56, 0.18, 0.09), (0.74, 0.36, 0.07)):
        pen.oval((x, y), (r, r), WHITE)


def _apple(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.3), (0.54, 0.06)], 0.06, WOOD)
    pen.blob([(0.5, 0.3), (0.72, 0.22), (0.95, 0.44), (0.82, 0.84), (0.6, 0.97), (0.5, 0.93), (0.4, 0.97),
              (0.18, 0.84), (0.05, 0.44), (0.28, 0.22)], c.main, body=True)  # fmt: skip
    pen.blob([(0.56, 0.16), (0.7, 0.02), (0.88, 0.06), (0.74, 0.2)], STEM)


def _fish(pen: Pen, c: Paint) -> None:
    pen.poly([(0.3, 0.5), (0.0, 0.2), (0.06, 0.5), (0.0, 0.8)], c.accent)
    pen.blob([(0.44, 0.3), (0.6, 0.08), (0.74, 0.28)], c.accent)
    pen.blob(
        [(0.22, 0.5), (0.42, 0.26), (0.72, 0.22), (0.98, 0.48), (0.74, 0.78), (0.42, 0.74)], c.main, body=True
    )
    pen.poly([(0.5, 0.5), (0.38, 0.64), (0.56, 0.66)], c.dark)
    pen.oval((0.8, 0.43), (0.065, 0.065), WHITE)
    pen.oval((0.815, 0.43), (0.035, 0.035), INK)


def _tree(pen: Pen, c: Paint) -> None:
    pen.poly([(0.42, 0.7), (0.58, 0.7), (0.62, 1.0), (0.38, 1.0)], WOOD)
    for top, bottom, half in ((0.36, 0.82, 0.46), (0.17, 0.58, 0.36), (0.0, 0.34, 0.25)):
        pen.poly([(0.5, top), (0.5 + half, bottom), (0.5 - half, bottom)], c.main, body=True)
        pen.poly([(0.5 - half, bottom), (0.5 + half, bottom), (0.5 + half * 0.8, bottom - 0.07),
                  (0.5 - half * 0.8, bottom - 0.07)], c.dark)  # fmt: skip


def _house(pen: Pen, c: Paint) -> None:
    pen.poly([(0.7, 0.06), (0.82, 0.06), (0.82, 0.32), (0.7, 0.32)], c.dark)
    pen.poly([(0.1, 0.42), (0.9, 0.42), (0.9, 1.0), (0.1, 1.0)], c.main, body=True)
    pen.poly([(0.5, 0.0), (1.0, 0.46), (0.0, 0.46)], c.accent)
    pen.poly([(0.4, 0.66), (0.6, 0.66), (0.6, 1.0), (0.4, 1.0)], WOOD)
    for x in (0.18, 0.68):
        pen.poly([(x, 0.56), (x + 0.15, 0.56), (x + 0.15, 0.74), (x, 0.74)], GLASS)
    pen.oval((0.5, 0.3), (0.07, 0.07), GLASS)


def _boat(pen: Pen, c: Paint) -> None:
    pen.line([(0.46, 0.04), (0.46, 0.74)], 0.05, WOOD)
    pen.poly([(0.5, 0.02), (0.96, 0.6), (0.5, 0.62)], WHITE)
    pen.poly([(0.42, 0.12), (0.42, 0.62), (0.1, 0.62)], c.accent)
    pen.poly([(0.0, 0.68), (1.0, 0.68), (0.8, 0.98), (0.2, 0.98)], c.main, body=True)
    pen.poly([(0.0, 0.68), (1.0, 0.68), (0.96, 0.75), (0.04, 0.75)], c.dark)


def _key(pen: Pen, c: Paint) -> None:
    pen.line([(0.28, 0.5), (0.98, 0.5)], 0.13, c.main, body=True)
    pen.poly([(0.74, 0.5), (0.82, 0.5), (0.82, 0.76), (0.74, 0.76)], c.main, body=True)
    pen.poly([(0.9, 0.5), (1.0, 0.5), (1.0, 0.82), (0.9, 0.82)], c.main, body=True)
    pen.oval((0.24, 0.5), (0.24, 0.4), c.main, body=True)
    pen.oval((0.22, 0.5), (0.1, 0.17), c.dark)


def _umbrella(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.04), (0.5, 0.86)], 0.05, WOOD)
    pen.curve((0.6, 0.86), (0.1, 0.1), (0, 180), 0.05, WOOD)
    pen.oval((0.5, 0.52), (0.5, 0.46), c.main, arc=(180, 360), body=True)
    pen.oval((0.5, 0.52), (0.18, 0.46), c.accent, arc=(180, 360))
    for x in (0.17, 0.5, 0.83):
        pen.oval((x, 0.52), (0.165, 0.06), c.dark, arc=(180, 360))


def _cactus(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.14), (0.5, 0.72)], 0.26, c.main, body=True)
    pen.line([(0.5, 0.56), (0.14, 0.52), (0.14, 0.3)], 0.16, c.main, body=True)
    pen.line([(0.5, 0.46), (0.86, 0.42), (0.86, 0.2)], 0.16, c.main, body=True)
    for x, y in ((0.45, 0.2), (0.55, 0.3), (0.45, 0.4), (0.55, 0.5), (0.14, 0.34), (0.86, 0.26)):
        pen.line([(x, y), (x, y + 0.05)], 0.025, WHITE)
    pen.oval((0.5, 0.03), (0.1, 0.06), (240, 120, 160))
    pen.poly([(0.22, 0.7), (0.78, 0.7), (0.7, 1.0), (0.3, 1.0)], c.accent)
    pen.poly([(0.18, 0.66), (0.82, 0.66), (0.82, 0.76), (0.18, 0.76)], mix(c.accent, INK, 0.25))


def _clock(pen: Pen, c: Paint) -> None:
    for x in (0.2, 0.8):
        pen.oval((x, 0.14), (0.16, 0.14), c.accent)
        pen.line([(x, 0.84), (x + (x - 0.5) * 0.2, 0.96)], 0.08, c.dark)
    pen.oval((0.5, 0.54), (0.46, 0.44), c.main, body=True)
    pen.oval((0.5, 0.54), (0.35, 0.34), WHITE)
    for k in range(4):
        pen.oval(
            (0.5 + 0.28 * math.cos(k * math.pi / 2), 0.54 + 0.27 * math.sin(k * math.pi / 2)),
            (0.03, 0.03),
            INK,
        )
    pen.line([(0.5, 0.54), (0.5, 0.32)], 0.045, INK)
    pen.line([(0.5, 0.54), (0.66, 0.62)], 0.045, (200, 60, 60))


def _heart(pen: Pen, c: Paint) -> None:
    t = np.linspace(0, 2 * math.pi, 48)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    pen.poly(np.stack([0.5 + x / 33, 0.46 + y / 31], 1), c.main, body=True)
    pen.oval((0.3, 0.26), (0.1, 0.07), c.light)


def _moon(pen: Pen, c: Paint) -> None:
    outer = np.radians(np.linspace(50, 310, 40))
    inner = np.radians(np.linspace(292, 68, 40))
    points = np.concatenate([
        np.stack([0.55 + 0.5 * np.cos(outer), 0.5 + 0.5 * np.sin(outer)], 1),
        np.stack([0.74 + 0.37 * np.cos(inner), 0.5 + 0.41 * np.sin(inner)], 1),
    ])  # fmt: skip
    pen.poly(points, c.main, body=True)
    for x, y, r in ((0.2, 0.42, 0.05), (0.3, 0.7, 0.06), (0.3, 0.2, 0.04)):
        pen.oval((x, y), (r, r), c.dark)


def _flower(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.5), (0.48, 0.98)], 0.06, STEM)
    pen.blob([(0.5, 0.86), (0.66, 0.66), (0.88, 0.7), (0.74, 0.84)], STEM)
    for k in range(6):
        a = k * math.pi / 3
        pen.oval((0.5 + 0.22 * math.cos(a), 0.32 + 0.21 * math.sin(a)), (0.15, 0.14), c.main, body=True)
    pen.oval((0.5, 0.32), (0.14, 0.13), c.accent)


def _cupcake(pen: Pen, c: Paint) -> None:
    pen.poly([(0.12, 0.56), (0.88, 0.56), (0.74, 1.0), (0.26, 1.0)], c.accent)
    for x in (0.3, 0.43, 0.57, 0.7):
        pen.line([(x, 0.6), (0.5 + (x - 0.5) * 0.75, 0.98)], 0.03, mix(c.accent, INK, 0.3))
    pen.blob(
        [(0.02, 0.54), (0.12, 0.36), (0.5, 0.3), (0.88, 0.36), (0.98, 0.54), (0.5, 0.64)], c.main, body=True
    )
    pen.blob([(0.2, 0.4), (0.3, 0.22), (0.5, 0.14), (0.7, 0.22), (0.8, 0.4), (0.5, 0.46)], c.light, body=True)
    pen.oval((0.5, 0.1), (0.1, 0.1), (208, 40, 56))


def _balloon(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.72), (0.44, 0.82), (0.56, 0.9), (0.5, 0.99)], 0.03, INK)
    pen.poly([(0.5, 0.66), (0.6, 0.77), (0.4, 0.77)], c.dark)
    pen.oval((0.5, 0.36), (0.44, 0.36), c.main, body=True)
    pen.oval((0.32, 0.22), (0.08, 0.1), c.light)


def _rocket(pen: Pen, c: Paint) -> None:
    pen.poly([(0.38, 0.8), (0.62, 0.8), (0.5, 1.0)], (250, 170, 50))
    pen.poly([(0.3, 0.5), (0.06, 0.84), (0.34, 0.8)], c.accent)
    pen.poly([(0.7, 0.5), (0.94, 0.84), (0.66, 0.8)], c.accent)
    pen.blob([(0.5, 0.0), (0.7, 0.26), (0.72, 0.56), (0.64, 0.84), (0.36, 0.84), (0.28, 0.56), (0.3, 0.26)],
             c.main, body=True)  # fmt: skip
    pen.poly([(0.5, 0.0), (0.62, 0.17), (0.38, 0.17)], c.accent)
    pen.oval((0.5, 0.4), (0.12, 0.11), INK)
    pen.oval((0.5, 0.4), (0.085, 0.075), GLASS)


def _bus(pen: Pen, c: Paint) -> None:
    pen.poly(
        [(0.03, 0.2), (0.1, 0.1), (0.9, 0.1), (0.99, 0.3), (0.99, 0.82), (0.03, 0.82)], c.main, body=True
    )
    for x in (0.1, 0.32, 0.54):
        pen.poly([(x, 0.22), (x + 0.17, 0.22), (x + 0.17, 0.46), (x, 0.46)], GLASS)
    pen.poly([(0.76, 0.22), (0.9, 0.22), (0.96, 0.46), (0.76, 0.46)], GLASS)
    pen.poly([(0.03, 0.58), (0.99, 0.58), (0.99, 0.66), (0.03, 0.66)], WHITE)
    for x in (0.25, 0.75):
        pen.oval((x, 0.82), (0.13, 0.17), INK)
        pen.oval((x, 0.82), (0.06, 0.08), (190, 190, 196))


def _crown(pen: Pen, c: Paint) -> None:
    pen.poly([(0.06, 0.95), (0.0, 0.26), (0.27, 0.54), (0.5, 0.08), (0.73, 0.54), (1.0, 0.26), (0.94, 0.95)],
             c.main, body=True)  # fmt: skip
    pen.poly([(0.06, 0.95), (0.94, 0.95), (0.95, 0.78), (0.05, 0.78)], c.dark)
    for x, y in ((0.05, 0.24), (0.5, 0.09), (0.95, 0.24)):
        pen.oval((x, y), (0.07, 0.09), c.accent)
    for x in (0.28, 0.5, 0.72):
        pen.oval((x, 0.865), (0.05, 0.055), c.accent)


def _bell(pen: Pen, c: Paint) -> None:
    pen.oval((0.5, 0.9), (0.12, 0.1), c.dark)
    pen.oval((0.5, 0.1), (0.1, 0.1), c.dark)
    pen.blob([(0.5, 0.1), (0.72, 0.22), (0.78, 0.56), (0.95, 0.8), (0.05, 0.8), (0.22, 0.56), (0.28, 0.22)],
             c.main, body=True)  # fmt: skip
    pen.poly([(0.06, 0.76), (0.94, 0.76), (0.98, 0.86), (0.02, 0.86)], c.accent)


def _butterfly(pen: Pen, c: Paint) -> None:
    for s in (-1, 1):
        pen.blob(
            [(0.5, 0.46), (0.5 + s * 0.2, 0.12), (0.5 + s * 0.48, 0.08), (0.5 + s * 0.46, 0.42)],
            c.main,
            body=True,
        )
        pen.blob(
            [(0.5, 0.5), (0.5 + s * 0.36, 0.56), (0.5 + s * 0.34, 0.88), (0.5 + s * 0.1, 0.84)], c.accent
        )
        pen.oval((0.5 + s * 0.3, 0.26), (0.08, 0.09), c.light)
        pen.line([(0.5, 0.24), (0.5 + s * 0.1, 0.06)], 0.025, INK)
    pen.line([(0.5, 0.24), (0.5, 0.82)], 0.085, INK)


def _lamp(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.5), (0.5, 0.9)], 0.08, WOOD)
    pen.oval((0.5, 0.93), (0.26, 0.07), c.dark)
    pen.poly([(0.32, 0.02), (0.68, 0.02), (0.94, 0.54), (0.06, 0.54)], c.main, body=True)
    pen.poly([(0.09, 0.48), (0.91, 0.48), (0.94, 0.55), (0.06, 0.55)], c.accent)
    pen.line([(0.7, 0.56), (0.7, 0.68)], 0.025, INK)


def _cherry(pen: Pen, c: Paint) -> None:
    pen.line([(0.56, 0.06), (0.34, 0.34), (0.26, 0.6)], 0.045, STEM)
    pen.line([(0.56, 0.06), (0.7, 0.36), (0.74, 0.64)], 0.045, STEM)
    pen.blob([(0.56, 0.06), (0.76, 0.0), (0.96, 0.12), (0.74, 0.2)], STEM)
    for x, y in ((0.25, 0.74), (0.74, 0.77)):
        pen.oval((x, y), (0.24, 0.23), c.main, body=True)
        pen.oval((x - 0.08, y - 0.08), (0.06, 0.05), c.light)


def _ladder(pen: Pen, c: Paint) -> None:
    for y in (0.16, 0.34, 0.52, 0.7, 0.88):
        pen.line([(0.2, y), (0.8, y)], 0.09, c.dark)
    pen.line([(0.22, 0.06), (0.12, 0.95)], 0.14, c.main, body=True)
    pen.line([(0.78, 0.06), (0.88, 0.95)], 0.14, c.main, body=True)


def _guitar(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.08), (0.5, 0.5)], 0.13, WOOD)
    pen.poly([(0.38, 0.0), (0.62, 0.0), (0.58, 0.14), (0.42, 0.14)], INK)
    pen.blob([(0.5, 0.4), (0.72, 0.44), (0.68, 0.6), (0.86, 0.78), (0.7, 0.97), (0.5, 0.99), (0.3, 0.97),
              (0.14, 0.78), (0.32, 0.6), (0.28, 0.44)], c.main, body=True)  # fmt: skip
    pen.oval((0.5, 0.66), (0.12, 0.09), INK)
    pen.poly([(0.34, 0.84), (0.66, 0.84), (0.66, 0.89), (0.34, 0.89)], INK)
    for x in (0.47, 0.53):
        pen.line([(x, 0.1), (x, 0.86)], 0.015, CREAM)


def _anchor(pen: Pen, c: Paint) -> None:
    pen.curve((0.5, 0.56), (0.4, 0.36), (5, 175), 0.13, c.main)
    for s in (-1, 1):
        pen.poly([(0.5 + s * 0.28, 0.62), (0.5 + s * 0.5, 0.44), (0.5 + s * 0.5, 0.74)], c.main, body=True)
    pen.line([(0.5, 0.2), (0.5, 0.9)], 0.13, c.main, body=True)
    pen.line([(0.28, 0.34), (0.72, 0.34)], 0.1, c.accent)
    pen.oval((0.5, 0.14), (0.14, 0.14), c.main, body=True)
    pen.oval((0.5, 0.14), (0.06, 0.06), INK)


def _snowman(pen: Pen, c: Paint) -> None:
    pen.line([(0.2, 0.44), (0.02, 0.3)], 0.04, WOOD)
    pen.line([(0.8, 0.44), (0.98, 0.3)], 0.04, WOOD)
    pen.oval((0.5, 0.74), (0.36, 0.26), WHITE)
    pen.oval((0.5, 0.42), (0.26, 0.2), WHITE)
    pen.oval((0.5, 0.2), (0.19, 0.15), WHITE)
    pen.line([(0.3, 0.33), (0.7, 0.33)], 0.09, c.main, body=True)
    pen.line([(0.62, 0.34), (0.66, 0.52)], 0.09, c.main, body=True)
    pen.poly([(0.3, 0.0), (0.7, 0.0), (0.76, 0.11), (0.24, 0.11)], c.main, body=True)
    pen.poly([(0.5, 0.19), (0.5, 0.25), (0.72, 0.23)], (240, 130, 40))
    for x, y in ((0.42, 0.17), (0.58, 0.17), (0.5, 0.66), (0.5, 0.8)):
        pen.oval((x, y), (0.03, 0.025), INK)


def _robot(pen: Pen, c: Paint) -> None:
    pen.line([(0.5, 0.04), (0.5, 0.16)], 0.04, INK)
    pen.oval((0.5, 0.04), (0.06, 0.05), c.accent)
    for x in (0.3, 0.7):
        pen.line([(x, 0.86), (x, 0.97)], 0.12, c.dark)
    for x in (0.06, 0.94):
        pen.line([(x, 0.54), (x, 0.76)], 0.1, c.dark)
    pen.poly([(0.18, 0.13), (0.82, 0.13), (0.82, 0.47), (0.18, 0.47)], c.main, body=True)
    pen.poly([(0.12, 0.5), (0.88, 0.5), (0.84, 0.9), (0.16, 0.9)], c.main, body=True)
    pen.poly([(0.3, 0.6), (0.7, 0.6), (0.7, 0.78), (0.3, 0.78)], c.accent)
    for x in (0.35, 0.65):
        pen.oval((x, 0.27), (0.085, 0.075), WHITE)
        pen.oval((x, 0.27), (0.04, 0.035), INK)
    pen.line([(0.36, 0.4), (0.64, 0.4)], 0.035, INK)


def _duck(pen: Pen, c: Paint) -> None:
    pen.poly([(0.8, 0.26), (1.0, 0.34), (0.8, 0.4)], (244, 150, 40))
    pen.blob([(0.02, 0.5), (0.2, 0.6), (0.5, 0.52), (0.84, 0.56), (0.86, 0.82), (0.6, 0.98), (0.24, 0.94),
              (0.06, 0.76)], c.main, body=True)  # fmt: skip
    pen.oval((0.66, 0.29), (0.22, 0.27), c.main, body=True)
    pen.blob([(0.24, 0.66), (0.52, 0.64), (0.6, 0.76), (0.4, 0.86)], c.dark)
    pen.oval((0.73, 0.22), (0.045, 0.055), INK)


def _donut(pen: Pen, c: Paint) -> None:
    pen.oval((0.5, 0.54), (0.5, 0.44), (206, 154, 92))
    pen.oval((0.5, 0.5), (0.46, 0.39), c.main, body=True)
    pen.oval((0.5, 0.5), (0.17, 0.14), INK)
    for k in range(9):
        a = k * 2 * math.pi / 9
        x, y = 0.5 + 0.32 * math.cos(a), 0.5 + 0.26 * math.sin(a)
        pen.line([(x - 0.025, y - 0.02), (x + 0.03, y + 0.015)], 0.035, (WHITE, c.accent, GOLD)[k % 3])


def _pizza(pen: Pen, c: Paint) -> None:
    pen.blob([(0.0, 0.14), (0.5, 0.0), (1.0, 0.14), (0.94, 0.28), (0.5, 0.18), (0.06, 0.28)], (196, 138, 74))
    pen.poly([(0.06, 0.24), (0.5, 0.14), (0.94, 0.24), (0.5, 1.0)], c.main, body=True)
    for x, y in ((0.34, 0.34), (0.64, 0.36), (0.5, 0.6)):
        pen.oval((x, y), (0.1, 0.085), c.accent)
    pen.oval((0.48, 0.42), (0.03, 0.03), STEM)


def _candle(pen: Pen, c: Paint) -> None:
    pen.oval((0.5, 0.14), (0.13, 0.14), (250, 150, 40))
    pen.oval((0.5, 0.17), (0.07, 0.09), (255, 236, 140))
    pen.line([(0.5, 0.26), (0.5, 0.36)], 0.04, INK)
    pen.poly([(0.3, 0.36), (0.7, 0.36), (0.7, 0.88), (0.3, 0.88)], c.main, body=True)
    pen.blob(
        [(0.28, 0.36), (0.72, 0.36), (0.7, 0.46), (0.6, 0.42), (0.5, 0.54), (0.42, 0.43), (0.32, 0.48)],
        c.light,
    )
    pen.oval((0.5, 0.9), (0.42, 0.1), c.accent)


def _ghost(pen: Pen, c: Paint) -> None:
    pen.blob([(0.5, 0.0), (0.86, 0.22), (0.94, 0.7), (0.97, 0.94), (0.8, 0.86), (0.66, 0.98),
              (0.5, 0.87), (0.34, 0.98), (0.2, 0.86), (0.03, 0.94), (0.06, 0.7), (0.14, 0.22)],
             c.light, body=True)  # fmt: skip
    for x in (0.35, 0.65):
        pen.oval((x, 0.34), (0.07, 0.1), INK)
        pen.oval((x + (x - 0.5) * 0.6, 0.5), (0.06, 0.035), (240, 150, 160))
    pen.oval((0.5, 0.54), (0.08, 0.09), INK)


def _ice_cream(pen: Pen, c: Paint) -> None:
    pen.poly([(0.2, 0.5), (0.8, 0.5), (0.5, 1.0)], (216, 164, 96))
    for k in (0.32, 0.5, 0.68):
        pen.line([(k, 0.54), (0.5, 0.98)], 0.025, (170, 116, 60))
    pen.oval((0.3, 0.4), (0.24, 0.19), c.main, body=True)
    pen.oval((0.7, 0.4), (0.24, 0.19), c.accent)
    pen.oval((0.5, 0.22), (0.25, 0.21), c.light, body=True)
    pen.oval((0.52, 0.04), (0.06, 0.05), (208, 40, 56))


def _top_hat(pen: Pen, c: Paint) -> None:
    pen.oval((0.5, 0.86), (0.5, 0.13), c.dark)
    pen.poly([(0.2, 0.1), (0.8, 0.1), (0.76, 0.84), (0.24, 0.84)], c.main, body=True)
    pen.oval((0.5, 0.84), (0.26, 0.07), c.main)
    pen.oval((0.5, 0.1), (0.3, 0.08), c.light)
    pen.poly([(0.23, 0.62), (0.77, 0.62), (0.76, 0.8), (0.24, 0.8)], c.accent)


def _gift_box(pen: Pen, c: Paint) -> None:
    pen.blob([(0.5, 0.26), (0.24, 0.22), (0.2, 0.02), (0.4, 0.06)], c.accent)
    pen.blob([(0.5, 0.26), (0.76, 0.22), (0.8, 0.02), (0.6, 0.06)], c.accent)
    pen.poly([(0.07, 0.44), (0.93, 0.44), (0.93, 1.0), (0.07, 1.0)], c.main, body=True)
    pen.poly([(0.0, 0.25), (1.0, 0.25), (1.0, 0.46), (0.0, 0.46)], c.dark)
    pen.poly([(0.41, 0.25), (0.59, 0.25), (0.59, 1.0), (0.41, 1.0)], c.accent)


def _beach_ball(pen: Pen, c: Paint) -> None:
    pen.oval((0.5, 0.5), (0.5, 0.5), WHITE)
    for k in range(3):
        a = k * 2 * math.pi / 3 + 0.4
        ends = np.linspace(a, a + math.pi / 3, 9)
        rim = [(0.5 + 0.5 * math.cos(e), 0.5 + 0.5 * math.sin(e)) for e in ends]
        pen.poly([(0.44, 0.44), *rim], c.main if k else c.accent, body=True)
    pen.oval((0.44, 0.44), (0.09, 0.09), WHITE)


def _owl(pen: Pen, c: Paint) -> None:
    for s in (-1, 1):
        pen.poly([(0.5 + s * 0.1, 0.14), (0.5 + s * 0.4, 0.0), (0.5 + s * 0.36, 0.3)], c.dark)
        pen.oval((0.5 + s * 0.14, 0.96), (0.1, 0.04), (244, 160, 50))
    pen.oval((0.5, 0.56), (0.42, 0.42), c.main, body=True)
    pen.oval((0.5, 0.7), (0.26, 0.24), c.light)
    for s in (-1, 1):
        pen.blob(
            [(0.5 + s * 0.4, 0.4), (0.5 + s * 0.5, 0.7), (0.5 + s * 0.3, 0.84), (0.5 + s * 0.3, 0.6)], c.dark
        )
        pen.oval((0.5 + s * 0.18, 0.32), (0.17, 0.16), WHITE)
        pen.oval((0.5 + s * 0.16, 0.32), (0.08, 0.08), INK)
    pen.poly([(0.43, 0.42), (0.57, 0.42), (0.5, 0.54)], (244, 160, 50))


@dataclass(frozen=True, slots=True)
class Shape:
    """A class of the world: how it is drawn, its usual width over height, its usual colours and accents."""

    draw: Callable[[Pen, Paint], None]
    aspect: float
    usual_colors: str
    usual_accents: str  # of its parts and decoration


SHAPES: dict[str, Shape] = {
    "mug": Shape(_mug, 1.1, "blue white red", "white yellow"),
    "star": Shape(_star, 1.0, "yellow orange", "orange white"),
    "kite": Shape(_kite, 0.75, "teal purple pink", "yellow orange"),
    "mushroom": Shape(_mushroom, 1.05, "red brown orange", "white yellow"),
    "apple": Shape(_apple, 0.95, "red green", "green"),
    "fish": Shape(_fish, 1.4, "orange blue", "yellow white"),
    "tree": Shape(_tree, 0.75, "green teal", "brown"),
    "house": Shape(_house, 1.05, "white yellow brown", "red brown"),
    "boat": Shape(_boat, 1.1, "red blue", "white yellow"),
    "key": Shape(_key, 1.7, "gray yellow", "brown"),
    "umbrella": Shape(_umbrella, 1.05, "purple red blue", "white yellow"),
    "cactus": Shape(_cactus, 0.8, "green", "pink red"),
    "clock": Shape(_clock, 0.95, "red teal white", "white black"),
    "heart": Shape(_heart, 1.05, "red pink", "white"),
    "moon": Shape(_moon, 0.75, "yellow white", "orange"),
    "flower": Shape(_flower, 0.75, "pink yellow purple", "yellow orange"),
    "cupcake": Shape(_cupcake, 0.95, "pink white brown", "teal red"),
    "balloon": Shape(_balloon, 0.65, "red blue yellow", "white"),
    "rocket": Shape(_rocket, 0.65, "white red gray", "red orange"),
    "bus": Shape(_bus, 1.6, "yellow red", "white blue"),
    "crown": Shape(_crown, 1.3, "yellow", "red blue"),
    "bell": Shape(_bell, 0.9, "yellow orange", "red brown"),
    "butterfly": Shape(_butterfly, 1.15, "orange blue purple", "yellow pink"),
    "lamp": Shape(_lamp, 0.75, "teal white orange", "brown gray"),
    "cherry": Shape(_cherry, 0.95, "red purple", "green"),
    "ladder": Shape(_ladder, 0.6, "brown gray", "gray"),
    "guitar": Shape(_guitar, 0.6, "brown orange black", "yellow black"),
    "anchor": Shape(_anchor, 0.9, "gray blue black", "gray red"),
    "snowman": Shape(_snowman, 0.75, "red green blue", "orange black"),
    "robot": Shape(_robot, 0.8, "gray teal", "red yellow"),
    "duck": Shape(_duck, 1.15, "yellow", "orange"),
    "donut": Shape(_donut, 1.2, "pink brown", "white teal"),
    "pizza": Shape(_pizza, 0.9, "yellow orange", "red green"),
    "candle": Shape(_candle, 0.6, "white pink red", "yellow gray"),
    "ghost": Shape(_ghost, 0.8, "white gray purple", "pink"),
    "owl": Shape(_owl, 0.9, "brown gray", "yellow orange"),
    "ice cream": Shape(_ice_cream, 0.65, "pink white brown", "red teal"),
    "top hat": Shape(_top_hat, 1.15, "black purple", "red purple"),
    "gift box": Shape(_gift_box, 1.0, "green red blue", "yellow white"),
    "beach ball": Shape(_beach_ball, 1.0, "blue red teal", "white yellow"),
}
CLASSES: tuple[str, ...] = tuple(SHAPES)
