"""PRefCOCO-100K: a model describes objects that are the only one of their class (paper section 3.4, app. C).

    python data_builders/prefcoco.py --instances instances_train2017.json --image-root train2017 \\
        --captioner runs/stage1 --dtype bfloat16 --out prefcoco.jsonl
    python data_builders/prefcoco.py --instances instances_train2017.json --image-root train2017 \\
        --captioner http://node7:8000/v1 --concurrency 64 --out prefcoco.jsonl
    python data_builders/prefcoco.py --instances instances_train2017.json --out prefcoco.jsonl --count-only

The captioner is a run or checkpoint folder of ours, a Hugging Face model, or a server. What it says is kept
in OUT.answers.jsonl: a killed build goes on from there, and other filters (with --overwrite) take seconds.
With --cycle-check a description stays only if a model finds the object by it. --count-only says how many
images and pairs there are to ask about, beside the paper's. data_builders/localize_instruct.py --descriptions
makes training data of the output.
"""

import argparse
import logging
from collections import Counter
from itertools import islice
from pathlib import Path

from locvlm.annotations.coco import read_instances
from locvlm.building.build import begin_build
from locvlm.building.captioning import prefcoco
from locvlm.building.captioning.describe import Describing
from locvlm.building.captioning.options import (
    add_captioner_options,
    deciding,
    open_captioner,
    open_cycle,
)
from locvlm.building.captioning.sift import SiftRules
from locvlm.building.image_files import with_files
from locvlm.building.options import add_build_options
from locvlm.data.archive import require_readable_root
from locvlm.io import Ledger
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--instances", type=Path, required=True, help="COCO instances JSON")
    parser.add_argument("--image-root", type=Path, help="folder or zip of the images")
    parser.add_argument("--count-only", action="store_true", help="say how much there is to ask, and stop")
    parser.add_argument("--min-area", type=float, default=0.0, help="of the box, in source pixels")
    parser.add_argument("--prompt", default=prefcoco.PROMPT, help="with {category}; the paper's if not given")
    add_captioner_options(parser)
    sifting = parser.add_argument_group("what is kept")
    sifting.add_argument("--whole-answer", action="store_true", help="all sentences, not only the first")
    sifting.add_argument("--max-words", type=int, default=50)
    sifting.add_argument(
        "--cycle-check", type=float, metavar="IOU", help="keep what a model finds again with this IoU or more"
    )
    sifting.add_argument(
        "--cycle-model", metavar="FOLDER", help="the model that is asked; the captioner if not given"
    )
    add_build_options(parser, dropped="of annotations, of image files, and of images asked about")
    args = parser.parse_args()
    if not args.count_only and (args.captioner is None or args.image_root is None):
        parser.error("say who describes which images: --captioner and --image-root (or --count-only)")
    if args.cycle_model is not None and args.cycle_check is None:
        parser.error("--cycle-model is asked for --cycle-check; give an IoU, such as --cycle-check 0.5")
    return args


def main() -> None:
    """Read, describe, check, write."""
    args = parse_arguments()
    setup_logging()
    build = None
    if not args.count_only:
        build = begin_build(deciding(args), inputs=[args.instances], image_root=args.image_root)
        if build is None:
            return
    annotations, selection, files = Ledger("annotations"), Ledger("images"), Ledger("image files")
    repairs = Counter[str]()
    annotated = islice(read_instances(args.instances, annotations, repairs=repairs), args.limit)
    images = list(prefcoco.single_instances(annotated, selection, min_area_px=args.min_area))
    annotations.require_dropped_at_most(args.max_dropped_fraction)
    asked = prefcoco.count_objects(images)
    logger.info("to ask about: %s", prefcoco.beside_the_paper(asked))
    if build is None:
        return

    part = list(args.shard.take(images))
    if args.image_root.is_dir():
        part = list(with_files(part, args.image_root, files))
        files.require_dropped_at_most(args.max_dropped_fraction)
    else:
        require_readable_root(args.image_root)  # a zip: what it lacks shows when it is asked about
    describing = Describing(
        build=build,
        image_root=args.image_root,
        prompt=args.prompt,
        rules=SiftRules(whole=args.whole_answer, max_words=args.max_words),
        min_area_px=args.min_area,
        max_dropped_fraction=args.max_dropped_fraction,
    )
    captioner = open_captioner(args)
    cycle = open_cycle(args, captioner)  # before hours of describing, if it cannot be
    described = describing.describe(part, captioner)
    counts = {"sifted": prefcoco.count_described(described)}
    if cycle is not None:
        described = describing.check(described, captioner, cycle)
        counts["found again"] = prefcoco.count_described(described)
    describing.finish(described)
    build.write_records(
        prefcoco.build_records(described, captioner.name),
        ledgers=[files, *describing.ledgers],
        input_ledgers=[annotations, selection],
        counts=counts,
        facts={"asked": asked, "paper": prefcoco.PAPER, "repairs": dict(repairs)},
        total=sum(bool(item.described) for item in described),
    )


if __name__ == "__main__":
    main()
