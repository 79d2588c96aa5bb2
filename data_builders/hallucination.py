"""Is there such an object? Hal-COCO, Hal-ADE and Hal-Act (paper section 4), and sets made like POPE's.

    python data_builders/hallucination.py coco --instances instances_val2017.json --out hal_coco.jsonl
    python data_builders/hallucination.py ade --root ADEChallengeData2016 --out hal_ade.jsonl
    python data_builders/hallucination.py act --records localize_activitynet.jsonl --out hal_act.jsonl
    python data_builders/hallucination.py pope --setting popular --instances instances_val2014.json \\
        --out pope_popular.jsonl

An image or video is asked about as many present as absent classes, so that half of all answers are "yes".
Hal-ADE leaves out ADE's classes that share a name with one of COCO's, and lists them beside the output, in
OUT.excluded_classes.json. Hal-Act asks about what records of `localize_activitynet` ask about: absent classes
are those that were looked for in the video and not found.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from locvlm.annotations.ade import find_label_maps, named_like, read_classes
from locvlm.annotations.coco import read_instances
from locvlm.annotations.coco_classes import COCO_CLASSES
from locvlm.building.build import begin_build
from locvlm.building.options import add_build_options, first
from locvlm.io import Ledger, read_records, write_json
from locvlm.log import setup_logging
from locvlm.objectives.hallucination import (
    PopeStatistics,
    ask_pope,
    ask_presence,
    choose_scenes,
    make_absence_sampler,
)
from locvlm.objectives.presence import Scene, ade_scenes, coco_scenes, record_scene, with_enough_classes
from locvlm.objectives.select import class_gap
from locvlm.records import Record

logger = logging.getLogger(__name__)
READ = {"coco": "annotations", "pope": "annotations", "ade": "label maps", "act": "records"}


def parse_arguments() -> argparse.Namespace:
    """The command line: a kind, and its options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="coco|ade|act|pope")
    of = {name: kinds.add_parser(name, allow_abbrev=False) for name in READ}
    for name in ("coco", "pope"):
        of[name].add_argument(
            "--instances", dest="source", type=Path, required=True, help="COCO's, or like it"
        )
    of["ade"].add_argument("--root", type=Path, required=True, help="the folder ADEChallengeData2016")
    of["ade"].add_argument("--split", default="validation", help="a folder of annotations/")
    of["ade"].add_argument("--classes", dest="source", type=Path, help="default: ROOT/objectInfo150.txt")
    of["ade"].add_argument("--exclude", nargs="*", default=[], help="further classes, by any of their names")
    of["act"].add_argument("--records", dest="source", type=Path, required=True, help="with absent classes")
    of["pope"].add_argument("--setting", choices=("random", "popular", "adversarial"), required=True)
    of["pope"].add_argument("--images", type=int, default=500, help="drawn from those with enough classes")
    for name, kind in of.items():
        pairs = 3 if name == "pope" else 2
        kind.add_argument("--pairs", type=int, default=pairs, help="present, and absent, classes of an image")
        if name != "pope":
            kind.add_argument("--negatives", choices=("uniform", "proportional"), default="uniform")
        if name != "act":
            help_text = "of an image that a class must cover to be asked about as present"
            kind.add_argument("--min-area-fraction", type=float, default=0.0, help=help_text)
        if name != "ade":
            kind.add_argument("--image-root", type=Path, help="folder of the images, for --preview")
        add_build_options(kind, dropped=f"of {READ[name]}")
    args = parser.parse_args()
    if args.kind == "ade":
        args.source = args.source or args.root / "objectInfo150.txt"
    return args


def main() -> None:
    """Read what is where, choose, ask, write."""
    args = parse_arguments()
    setup_logging()
    image_root = args.root if args.kind == "ade" else args.image_root
    build = begin_build(args, inputs=[args.source], image_root=image_root)
    if build is None:
        return
    read, selection, facts = Ledger(READ[args.kind]), Ledger("images"), dict[str, Any]()
    scenes = first(read_scenes(args, read, facts), args.limit)
    read.require_dropped_at_most(args.max_dropped_fraction)
    scenes = list(with_enough_classes(scenes, args.pairs, selection))
    facts["images_with_enough_classes"] = len(scenes)
    answers = {name: Counter[str]() for name in ("answers", "asked_present", "asked_absent")}
    build.write_records(
        counted(ask(scenes, args), answers), input_ledgers=[read, selection], counts=answers, facts=facts
    )
    gap = class_gap(answers["asked_present"], answers["asked_absent"])
    logger.info("%s; the class alone tells yes from no in %.0f%%", dict(answers["answers"]), 100 * gap)


def read_scenes(args: argparse.Namespace, ledger: Ledger, facts: dict[str, Any]) -> Iterable[Scene]:
    """What is in each image or video."""
    if args.kind == "act":
        return (record_scene(record) for record in read_records(args.source))
    if args.kind != "ade":
        images = first(read_instances(args.source, ledger), args.limit)
        return coco_scenes(images, min_area_fraction=args.min_area_fraction)
    classes = read_classes(args.source)
    if unknown := set(args.exclude).difference(name for item in classes for name in item.names):
        raise ValueError(f"--exclude {min(unknown)!r}: {args.source} has no class of this name")
    excluded = named_like(classes, frozenset(COCO_CLASSES) | frozenset(args.exclude))
    rows = [{"index": c.index, "names": c.names, "shared_name": name} for c, name in excluded.items()]
    write_json(args.out.with_name(f"{args.out.name}.excluded_classes.json"), rows)
    facts["excluded_classes"] = [item.name for item in excluded]
    return ade_scenes(
        find_label_maps(args.root, args.split),
        args.root,
        classes,
        ledger,
        excluded=frozenset(excluded),
        min_area_fraction=args.min_area_fraction,
    )


def ask(scenes: list[Scene], args: argparse.Namespace) -> Iterator[Record]:
    """The records of this shard; what is drawn from is found out over all scenes."""
    if args.kind == "pope":
        scenes = choose_scenes(scenes, args.images, seed=args.seed)
        statistics = PopeStatistics.of(scenes)
        for scene in args.shard.take(scenes):
            yield ask_pope(scene, statistics, setting=args.setting, num_pairs=args.pairs, seed=args.seed)
    elif scenes:
        sampler = make_absence_sampler(scenes, num_pairs=args.pairs, draw=args.negatives, seed=args.seed)
        for scene in args.shard.take(scenes):
            yield ask_presence(scene, sampler, num_pairs=args.pairs, kind=f"hal_{args.kind}", seed=args.seed)


def counted(records: Iterable[Record], counts: dict[str, Counter[str]]) -> Iterator[Record]:
    """The records, their answers and classes counted as they pass."""
    for record in records:
        for query in record.queries:
            counts["answers"][query.answer] += 1
            counts["asked_present" if query.answer == "yes" else "asked_absent"][query.category] += 1
        yield record


if __name__ == "__main__":
    main()
