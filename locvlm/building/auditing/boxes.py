"""What boxes are like: sizes, shapes, and where in the image they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from locvlm.coords.lab import SIZE_CLASSES

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BINS = 20  # of the side, as a fraction of the image's
GRID = 12  # cells a side, for the centres
_SIDES_PX = (32, 96)  # COCO's size classes, sides of squares of the same area


def box_statistics(objects_px: NDArray[np.float64]) -> dict[str, Any]:
    """Statistics of objects as plain values; only `num_objects` if there is none.

    Args:
        objects_px: (N, 6), x1, y1, x2, y2 and the image's width and height, source pixels.

    Returns:
        size_classes as COCO has them, but of boxes; quantiles of width, height (pixels), area (fraction of
        the image), side (its root) and aspect (width / height); side_histogram over [0, 1] in NUM_BINS bins;
        centres, GRID x GRID counts, rows from the top.
    """
    if not len(objects_px):
        return {"num_objects": 0}
    x1, y1, x2, y2, image_width, image_height = objects_px.T
    width, height = x2 - x1, y2 - y1
    area = width * height / (image_width * image_height)
    side = np.sqrt(area)
    kinds = np.digitize(width * height, [limit**2 for limit in _SIDES_PX])
    columns = {"width": width, "height": height, "area": area, "side": side, "aspect": width / height}
    centres, _, _ = np.histogram2d(
        _inside((y1 + y2) / 2 / image_height),
        _inside((x1 + x2) / 2 / image_width),
        bins=GRID,
        range=((0, 1), (0, 1)),
    )
    return {
        "num_objects": len(objects_px),
        "size_classes": {name: int((kinds == k).sum()) for k, name in enumerate(SIZE_CLASSES)},
        "quantiles": {name: quantiles_of(values) for name, values in columns.items()},
        "side_histogram": np.histogram(_inside(side), bins=NUM_BINS, range=(0, 1))[0].tolist(),
        "centres": centres.astype(int).tolist(),
    }


def quantiles_of(values: NDArray[Any]) -> dict[str, float]:
    """Quantile -> value, with the mean and the largest."""
    found = np.quantile(values, QUANTILES)
    named = {f"{quantile:.0%}": float(value) for quantile, value in zip(QUANTILES, found, strict=True)}
    return {**named, "mean": float(values.mean()), "max": float(values.max())}


def _inside(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(fractions, 0, 1)
