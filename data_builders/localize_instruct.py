"""LocPred, RevLoc and NegPred from COCO instances, by class label (Localize-Instruct-200K, section 3.3).

    python data_builders/localize_instruct.py --instances annotations/instances_train2017.json \\
        --image-root train2017 --out localize_train.jsonl

Every eligible object is asked for (LocPred) and asked about (RevLoc), and absent classes are asked for
(NegPred). Records hold classes and boxes in source pixels; wording and coordinates are written when they
are loaded, so one file serves every codec, frame and location type. A manifest is written beside the
output.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from locvlm.annotations.coco import read_instances
from locvlm.io import Ledger, resolve_inside, write_records
from locvlm.log import setup_logging
from locvlm.objectives.manifest import RecordCounts, write_manifest
from locvlm.objectives.select import SelectionConfig, build_records, make_sampler
from locvlm.records import ImageAnnotation

logger = logging.getLogger(__name__)
PROMPT_ONLY_LIMIT = 0.55
ENOUGH_NEGATIVES = 1000  # below, the measured figure is mostly chance


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=Path, required=True, help="COCO instances JSON")
    parser.add_argument(
        "--image-root", type=Path, help="drop, and count, images whose file is not in this folder"
    )
    parser.add_argument("--out", type=Path, required=True, help="records to write, JSON Lines")
    parser.add_argument("--negatives", choices=("proportional", "uniform"), default="proportional")
    parser.add_argument("--negatives-per-image", type=int, default=6)
    parser.add_argument("--min-area", type=float, default=0.0, help="of the box, in source pixels")
    parser.add_argument(
        "--allow-repeated", action="store_true", help="also classes with several instances in the image"
    )
    parser.add_argument("--limit", type=int, help="read only the first images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--max-dropped-fraction", type=float, default=0.01, help="of annotations, and of image files"
    )
    return parser.parse_args()


def main() -> None:
    """Read, select, write."""
    args = parse_arguments()
    setup_logging()
    config = SelectionConfig(
        num_negatives=args.negatives_per_image,
        negatives=args.negatives,
        min_area_px=args.min_area,
        allow_repeated=args.allow_repeated,
        seed=args.seed,
    )
    annotations, files, selection = Ledger("annotations"), Ledger("image files"), Ledger("images")
    repairs: Counter[str] = Counter()

    images = list(islice(read_instances(args.instances, annotations, repairs=repairs), args.limit))
    if args.image_root is not None:
        images = list(with_files(images, args.image_root, files))
    for ledger in (annotations, files):
        ledger.require_dropped_at_most(args.max_dropped_fraction)

    sampler = make_sampler(images, config)
    counts = RecordCounts()
    records = build_records(images, sampler, config, selection)
    write_records(args.out, counts.counted(records, source=args.instances))

    manifest = write_manifest(
        args.out,
        arguments=vars(args),
        inputs=[args.instances],
        ledgers=[annotations, files, selection],
        counts={**counts.to_dict(), "repairs": dict(repairs)},
    )
    logger.info("%s: %s; see %s", args.out, counts.to_dict(), manifest)
    is_measurable = counts.queries["negpred"] >= ENOUGH_NEGATIVES
    if is_measurable and counts.prompt_only_accuracy > PROMPT_ONLY_LIMIT:
        logger.warning(
            "the class alone tells absent from present in %.0f%% of questions; fewer negatives per image, "
            "or --negatives proportional, bring this closer to 50%%",
            100 * counts.prompt_only_accuracy,
        )


def with_files(images: list[ImageAnnotation], root: Path, ledger: Ledger) -> Iterator[ImageAnnotation]:
    """The images whose file is there."""
    for image in images:
        if resolve_inside(root, image.image).is_file():
            ledger.keep()
            yield image
        else:
            ledger.drop(image.image_id, "no image file", image.image)


if __name__ == "__main__":
    main()
