"""Detectors whose answers are known beforehand, and pictures with something to blur."""

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from locvlm.building.faces.detect import Face
from locvlm.geometry import Box


@dataclass(frozen=True)
class FixedFaces:
    """Finds faces at the same places in every image."""

    boxes_px: tuple[Box, ...]

    def find(self, image):
        assert image.mode == "RGB"
        return [Face(box, 0.9) for box in self.boxes_px]


@dataclass(frozen=True)
class RedPatch:
    """Takes what is red for one face."""

    def find(self, image):
        pixels = np.asarray(image).astype(int)
        rows, columns = np.nonzero((pixels[..., 0] > 120) & (pixels[..., 1:].max(axis=-1) < 90))
        if len(rows) < 20:
            return []
        box = Box(*map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))
        return [Face(box, 0.8)]


def striped(size, background=(70, 140, 90), face=None):
    """Fine vertical stripes, light and dark, so that what is blurred loses its contrast; `face` is red."""
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = background
    if face is not None:
        x1, y1, x2, y2 = (int(v) for v in face)
        pixels[y1:y2, x1:x2] = (230, 40, 40)
    pixels[:, ::2] = (pixels[:, ::2].astype(int) * 3) // 4
    return Image.fromarray(pixels)


def contrast(image, box):
    """Mean difference of neighbouring columns within a box."""
    pixels = np.asarray(image).astype(float)
    x1, y1, x2, y2 = (int(v) for v in box)
    return float(np.abs(np.diff(pixels[y1:y2, x1:x2], axis=1)).mean())


@pytest.fixture
def fixed_faces():
    return lambda *boxes: FixedFaces(tuple(boxes))


@pytest.fixture
def red_patch():
    return RedPatch()


@pytest.fixture
def picture():
    return striped


@pytest.fixture
def contrast_in():
    return contrast
