"""A COCO instances file of any size, made up, with no images to it; and what is said of building from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from locvlm.benchmarks.result import TIMES_AS_FAST, Headline

NUM_CLASSES, NUM_THEMES = 80, 12
MEAN_CLASSES, MOST_CLASSES = 3.7, 8  # drawn for an image; some are the same, and some images are too empty
NUM_POLYGONS, MEAN_POINTS = 4000, 25  # different polygons, and their mean number of points
CHUNK = 50_000


def write_instances(path: Path, num_images: int, num_instances: int, *, seed: int = 0) -> None:
    """A COCO instances file, as COCO writes them, of images that are nowhere.

    Near COCO's figures: 2.6 classes an image (COCO 2.9), 89,405 images with a class that is there once
    (95,899 in PRefCOCO), one class in half of the images. An image has a theme, so that some classes stand
    beside each other more often than by chance.
    """
    rng = np.random.default_rng(seed)
    polygons = make_polygons(rng)
    image_ids = np.sort(rng.choice(5 * num_images, num_images, replace=False)) + 1
    crowded = rng.gamma(2.5, size=num_images)
    owners = np.sort(rng.choice(num_images, num_instances, p=crowded / crowded.sum()))
    classes = draw_classes(rng, owners, num_images)
    corner, side = rng.random((num_instances, 2)) * 0.8, 0.02 + 0.18 * rng.random((num_instances, 2)) ** 2
    boxes = np.round(np.concatenate([corner, side], axis=1) * [640, 480, 640, 480], 2)
    crowd = rng.random(num_instances) < 0.012
    outlines = np.array(polygons, dtype=object)[rng.integers(len(polygons), size=num_instances)]
    ids = rng.permutation(num_instances) + 1
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {"description": "made up"},"licenses": [],"images": [')
        file.write(",".join(image_entry(n) for n in image_ids.tolist()))
        file.write('],"annotations": [')
        for start in range(0, num_instances, CHUNK):
            part = slice(start, start + CHUNK)
            columns = (outlines, image_ids[owners], classes, crowd, ids)
            rows = zip(*(column[part].tolist() for column in columns), boxes[part].tolist(), strict=True)
            file.write("," * bool(start) + ",".join(annotation_entry(*row) for row in rows))
        names = (f'{{"supercategory": "s","id": {k + 1},"name": "class {k}"}}' for k in range(NUM_CLASSES))
        file.write(f'],"categories": [{",".join(names)}]}}')


def make_polygons(rng: np.random.Generator) -> list[str]:
    """Outlines as JSON, with as many points as COCO's have on average, a few very long ones among them."""
    counts = 4 + rng.gamma(0.9, (MEAN_POINTS - 4) / 0.9, NUM_POLYGONS).astype(int)
    return [str([np.round(rng.random(2 * count) * 640, 2).tolist()]) for count in counts]


def draw_classes(rng: np.random.Generator, owners: np.ndarray, num_images: int) -> np.ndarray:
    """A class for every instance, of images `owners` (sorted): a few to an image, mostly once, one often."""
    frequency = 1 / (np.arange(NUM_CLASSES) + 8.0)
    frequency[0] = 0.3 * frequency[1:].sum()
    anywhere = rng.choice(NUM_CLASSES, (num_images, MOST_CLASSES), p=frequency / frequency.sum())
    in_theme = anywhere - anywhere % NUM_THEMES + rng.integers(NUM_THEMES, size=(num_images, 1))
    keeps_theme = (rng.random(anywhere.shape) < 0.7) & (anywhere > 0) & (in_theme < NUM_CLASSES)
    table = np.where(keeps_theme, in_theme, anywhere)  # images x the classes in them
    number = np.minimum(1 + rng.poisson(MEAN_CLASSES - 1, num_images), MOST_CLASSES)[owners]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)  # of an instance in its image
    often = np.where(rng.random(len(owners)) < 0.85, 0, rng.integers(number))
    return table[owners, np.where(place < number, place, often)]


def annotation_entry(
    polygon: str, image: int, label: int, is_crowd: bool, number: int, box: list[float]
) -> str:
    """An entry of "annotations"."""
    return (
        f'{{"segmentation": {polygon},"area": {box[2] * box[3] / 2},"iscrowd": {int(is_crowd)},'
        f'"image_id": {image},"bbox": {box},"category_id": {label + 1},"id": {number}}}'
    )


def image_entry(number: int) -> str:
    """An entry of "images"."""
    url = f"http://images.cocodataset.org/train2017/{number:012}.jpg"
    return (
        f'{{"license": 3,"file_name": "{number:012}.jpg","coco_url": "{url}","height": 480,"width": 640,'
        f'"date_captured": "2013-11-14 11:18:45","flickr_url": "{url}","id": {number}}}'
    )


def headline(rows: Sequence[dict[str, Any]]) -> list[Headline]:
    """Time and memory of the builders; how much the fast reader gains over the plain one."""
    by_name = {row["run"]: row for row in rows}
    found = []
    for name in ("localize_instruct", "coco_spatial"):
        if name in by_name:
            row, what = by_name[name], f"data_builders/{name}.py on a file of COCO's size"
            found += [
                Headline(what=what, figure=row["wall_s"], unit="s", goal=60, limit="<="),
                Headline(
                    what=f"{what}, memory", figure=row["max_rss_mib"], unit="MiB", goal=2048, limit="<="
                ),
            ]
    if {"fast_reader", "plain_reader"} <= by_name.keys():
        fast, plain = by_name["fast_reader"], by_name["plain_reader"]
        what, than = "reading a file of COCO's size", "the plain reader"
        ratios = (plain["cpu_s"] / fast["cpu_s"], fast["max_rss_mib"] / plain["max_rss_mib"])
        units = (TIMES_AS_FAST, "of its memory")
        found += [
            Headline(what=what, figure=r, unit=u, than=than) for r, u in zip(ratios, units, strict=True)
        ]
    return found
