"""LocPred, RevLoc and NegPred from COCO or RefCOCO (Localize-Instruct-200K, paper section 3.3 and 3.4).

    python data_builders/localize_instruct.py --instances annotations/instances_train2017.json \\
        --image-root train2017 --out localize.jsonl
    python data_builders/localize_instruct.py --instances annotations/instances_train2017.json \\
        --descriptions prefcoco.jsonl --out localize_described.jsonl
    python data_builders/localize_instruct.py --refcoco "refcoco+/refs(unc).p" --refs-split train \\
        --instances refcoco+/instances.json --out localize_refcoco.jsonl

Every eligible object is asked for (LocPred) and asked about (RevLoc), and absent ones are asked for
(NegPred): by class, by the description that data_builders/prefcoco.py wrote, or by what people call them
(RefCOCO, every sentence a question). Absent ones go by what objects of their class are called in other
images. Records hold phrases and boxes in source pixels; wording and coordinates are written when they are
loaded, so one file serves every codec, frame and location type.

The manifest says how far the class, and the number of words, tell absent from present (prompt_only_accuracy).
Hard negatives leave that as it is: they change in which images a class is asked for as absent, not how often.
"""

import argparse
from collections import Counter
from pathlib import Path

from locvlm.annotations.coco import read_instances
from locvlm.annotations.descriptions import add_descriptions
from locvlm.annotations.refcoco import read_refcoco
from locvlm.building.build import begin_build
from locvlm.building.image_files import with_files
from locvlm.building.options import add_build_options, first
from locvlm.io import Ledger
from locvlm.log import setup_logging
from locvlm.objectives.select import AskBy, SelectionConfig, build_records, make_negatives
from locvlm.records import ImageAnnotation


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--instances", type=Path, help="COCO instances JSON; for refs, the instances.json beside them"
    )
    parser.add_argument("--image-root", type=Path, help="drop, and count, images that are not in this folder")
    parser.add_argument("--descriptions", type=Path, help="ask by these descriptions instead of classes")
    parser.add_argument(
        "--undescribed", choices=("drop", "label"), default="drop", help="objects without description"
    )
    parser.add_argument("--refcoco", type=Path, help="ask by these referring expressions, in any form")
    parser.add_argument("--refs-split", help="of --refcoco: train")
    parser.add_argument(
        "--one-phrase", action="store_true", help="of an object with several: one of them, drawn"
    )
    parser.add_argument("--negatives", choices=("proportional", "uniform"), default="proportional")
    parser.add_argument("--negatives-per-image", type=int, default=6)
    parser.add_argument(
        "--hard-negatives",
        type=float,
        default=0.0,
        metavar="F",
        help="this fraction of them among the usual company of what is in the image",
    )
    parser.add_argument("--min-area", type=float, default=0.0, help="of the box, in source pixels")
    parser.add_argument(
        "--allow-repeated", action="store_true", help="also classes with several instances in the image"
    )
    add_build_options(parser, dropped="of annotations, expressions, descriptions, and image files")
    args = parser.parse_args()
    if args.instances is None and args.refcoco is None:
        parser.error("say what to read: --instances, --refcoco or both")
    if args.descriptions is not None and (args.instances is None or args.refcoco is not None):
        parser.error("--descriptions are of the objects of --instances, without --refcoco")
    if args.instances is None and args.negatives_per_image > 0:
        parser.error(
            "expressions alone do not say what else is in an image, and so not what is absent: give "
            "--instances, or --negatives-per-image 0"
        )
    return args


def main() -> None:
    """Read, select, write."""
    args = parse_arguments()
    setup_logging()
    ask_by: AskBy = "expression" if args.refcoco else "description" if args.descriptions else "label"
    config = SelectionConfig(
        ask_by=ask_by,
        undescribed=args.undescribed,
        one_phrase=args.one_phrase,
        num_negatives=args.negatives_per_image,
        negatives=args.negatives,
        hard_fraction=args.hard_negatives,
        min_area_px=args.min_area,
        allow_repeated=args.allow_repeated,
        seed=args.seed,
    )
    inputs = [path for path in (args.instances, args.refcoco, args.descriptions) if path is not None]
    build = begin_build(args, inputs=inputs, image_root=args.image_root)
    if build is None:
        return
    names = ("annotations", "expressions", "descriptions", "image files")
    read, repairs = {name: Ledger(name) for name in names}, Counter[str]()
    images = read_images(args, read, repairs)
    for ledger in read.values():
        ledger.require_dropped_at_most(args.max_dropped_fraction)

    negatives = make_negatives(images, config)  # of all images, whatever the shard
    part = args.shard.take(images)
    selection, objects = Ledger("images"), Ledger("objects")
    counts = build.write_records(
        build_records(part, negatives, config, selection, objects),
        ledgers=[selection, objects],
        input_ledgers=[ledger for ledger in read.values() if ledger.num_kept or ledger.num_dropped],
        facts={"repairs": dict(repairs)},
        total=len(part),
    )
    counts.warn_if_prompts_tell()


def read_images(
    args: argparse.Namespace, read: dict[str, Ledger], repairs: Counter[str]
) -> list[ImageAnnotation]:
    """The images, with the phrases that their objects go by."""
    if args.refcoco is None:
        found = read_instances(args.instances, read["annotations"], repairs=repairs)
    else:
        found = read_refcoco(
            args.refcoco,
            instances=args.instances,
            split=args.refs_split,
            ledger=read["expressions"],
            instances_ledger=read["annotations"],
            repairs=repairs,
        )
    images = first(found, args.limit)
    if args.image_root is not None:
        images = list(with_files(images, args.image_root, read["image files"]))
    if args.descriptions is not None:
        images = add_descriptions(images, args.descriptions, read["descriptions"])
    return images


if __name__ == "__main__":
    main()
