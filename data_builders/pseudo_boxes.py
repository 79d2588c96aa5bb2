"""Boxes for images that have none (CC3M, LAION): what a panoptic segmenter finds, as COCO instances.

    python data_builders/pseudo_boxes.py --image-root cc3m --device cuda --dtype float16 \\
        --checkpoint facebook/mask2former-swin-large-coco-panoptic --out cc3m_instances.json
    python data_builders/pseudo_boxes.py --panoptic seem.json --panoptic-pngs seem --out instances.json

Images are those of a folder or zip, or those of --images: a path a line, or LLaVA JSON. With --panoptic alone
they are those of the panoptic files, which COCO ships and scripts/segment_with_seem writes. localize_instruct
and coco_spatial read the output as they read COCO's own; objects go by their class. What is found is kept in
OUT.segments.jsonl: a killed build goes on from there, and other options (with --overwrite) take seconds.
data_builders/merge puts shards together.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from locvlm.building.build import Build, begin_build
from locvlm.building.journal import Journal
from locvlm.building.listing import hash_of_names, list_files, read_list
from locvlm.building.options import add_build_options, first
from locvlm.building.segmenting.boxes_page import write_boxes_page
from locvlm.building.segmenting.coco_file import write_coco_file
from locvlm.building.segmenting.images import Placed, found_images, segment_images
from locvlm.building.segmenting.options import (
    add_segmenter_options,
    open_journal,
    open_segmenter,
    segmenter_inputs,
)
from locvlm.building.segmenting.panoptic_files import PanopticFiles
from locvlm.building.segmenting.segment import Category, Segmenter, count_segments
from locvlm.data.shards import IMAGE_EXTENSIONS
from locvlm.io import Ledger
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--image-root", type=Path, help="folder or zip of the images")
    parser.add_argument("--images", type=Path, help="only these: a path a line, or LLaVA JSON")
    parser.add_argument("--stuff", action="store_true", help="boxes of stuff, such as sky, as well")
    parser.add_argument(
        "--min-area",
        type=float,
        default=0.0,
        help="of the mask, source pixels; what is smaller is marked as a crowd: there, and not asked about",
    )
    add_segmenter_options(parser)
    add_build_options(
        parser,
        out="COCO instances to write, JSON",
        seed=False,
        workers=True,
        dropped="of images, and of segments",
    )
    args = parser.parse_args()
    if (args.panoptic is None) == (args.checkpoint is None):
        parser.error("say where segments come from: --panoptic or --checkpoint")
    if args.image_root is None and (args.checkpoint is not None or args.preview is not None):
        parser.error("say where the images are: --image-root")
    return args


def main() -> None:
    """List, segment, write."""
    args = parse_arguments()
    setup_logging()
    segmenter = open_segmenter(args) if args.panoptic else None
    names = list_images(args, segmenter)
    inputs = segmenter_inputs(args) + ([] if args.images is None else [args.images])
    without_page = argparse.Namespace(**{**vars(args), "preview": None})  # that of `Build` is for records
    build = begin_build(without_page, inputs=inputs, listed=hash_of_names(names))
    if build is not None:
        part = list(args.shard.take(first(enumerate(names), args.limit)))
        segmenter = segmenter or open_segmenter(args)
        with closing(open_journal(args, build, listed=hash_of_names(names))) as journal:
            segment_images(part, args.image_root, segmenter, journal)
            write_boxes(args, part, segmenter.categories, journal, build)
    if args.preview is not None:
        write_boxes_page(args.preview, args.out, args.image_root)


def list_images(args: argparse.Namespace, segmenter: Segmenter | None) -> list[str]:
    """Paths of all images, relative to the image root."""
    if args.images is not None:
        return read_list(args.images)
    if isinstance(segmenter, PanopticFiles):
        return segmenter.image_names
    return list_files(args.image_root, IMAGE_EXTENSIONS)


def write_boxes(
    args: argparse.Namespace,
    part: list[Placed],
    categories: Sequence[Category],
    journal: Journal,
    build: Build,
) -> None:
    """Write the boxes of the images of `part`."""
    images, segments, odd = Ledger("images"), Ledger("segments"), Counter[str]()
    count_segments((found.answer for found in found_images(part, journal, images)), segments, odd)
    for ledger in (images, segments):
        ledger.require_dropped_at_most(args.max_dropped_fraction)

    counts: dict[str, Any] = {"odd": dict(odd)}

    def write(path: Path) -> None:
        counts["images"], counts["annotations"] = write_coco_file(
            path,
            categories,
            lambda: found_images(part, journal),
            with_stuff=args.stuff,
            min_area_px=args.min_area,
        )

    build.write_file(write, ledgers=[images, segments], counts=counts)
    logger.info("%s: %s; %s", args.out, counts, segments.summary())


if __name__ == "__main__":
    main()
