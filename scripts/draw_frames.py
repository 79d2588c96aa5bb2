"""Photographs with their ground-truth boxes on the model canvas, after stretch, pad and crop, as one HTML
page.

    python scripts/draw_frames.py --instances annotations/instances_val2017.json --image-root val2017 \\
        --out runs/frames.html

A look at the geometry before anything is trained: in every column the boxes must lie on the objects. They are
moved by the same frames, and the pixels by the same steps, as in training. What a crop cuts off is left out,
by the same policy as in training.
"""

import argparse
import random
from pathlib import Path
from typing import get_args

from locvlm.annotations.coco import read_instances
from locvlm.geometry import FrameMode
from locvlm.io import Ledger, atomic_writer
from locvlm.log import setup_logging
from locvlm.pages.frames import render_frames_page


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--instances", type=Path, required=True, help="COCO instances JSON")
    parser.add_argument("--image-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="HTML file to write")
    parser.add_argument("--canvas", type=int, default=336, help="side of the square model input, in pixels")
    parser.add_argument(
        "--number", type=int, default=24, help="photographs, drawn at random from those with boxes"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Draw photographs, draw their boxes, write the page."""
    args = parse_arguments()
    setup_logging()
    ledger = Ledger("annotations")
    images = [image for image in read_instances(args.instances, ledger) if image.objects]
    chosen = random.Random(args.seed).sample(images, min(args.number, len(images)))
    page = render_frames_page(
        chosen, args.image_root, canvas=args.canvas, modes=get_args(FrameMode), ledger=ledger
    )
    with atomic_writer(args.out) as out:
        out.write(page)
    print(f"{args.out}: {ledger.summary()}")


if __name__ == "__main__":
    main()
