"""A page of images with the boxes that were found in them."""

import random
from pathlib import Path

from locvlm.annotations.coco import read_instances
from locvlm.io import Ledger, atomic_writer
from locvlm.pages.frames import render_frames_page

NUM_SAMPLES = 24


def write_boxes_page(
    path: Path, instances: Path, image_root: Path, *, canvas: int = 224, seed: int = 0
) -> None:
    """Write a page of up to 24 images drawn at random from a COCO instances file, crowds dashed."""
    images = list(read_instances(instances, Ledger("annotations")))
    rng = random.Random(f"{seed}/preview")
    drawn = sorted(rng.sample(range(len(images)), min(NUM_SAMPLES, len(images))))
    page = render_frames_page(
        [images[k] for k in drawn], image_root, canvas=canvas, modes=("stretch",), ledger=Ledger("images")
    )
    with atomic_writer(path) as file:
        file.write(page)
