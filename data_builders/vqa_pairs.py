"""Questions with short answers for stage 2: the training sets of GQA and VQAv2, as LLaVA-1.5 mixes them in.

    python data_builders/vqa_pairs.py gqa --questions train_balanced_questions.json --out gqa_train.jsonl
    python data_builders/vqa_pairs.py vqav2 --questions v2_OpenEnded_mscoco_train2014_questions.json \\
        --annotations v2_mscoco_train2014_annotations.json --out vqav2_train.jsonl

These are the files of train/configs/locvlm_l_stage2_vqa.yaml. One record holds all questions of an image, so
that they share its tokens. Questions end in "\\nAnswer the question using a single word or phrase."; answers
are verbatim, of VQAv2's ten the most frequent. Several files of a data set may be given; for VQAv2's train
and val together, --image-names 2014-folders names images below one root. --leave-out keeps images of
evaluations out of training and takes whatever names them: COCO files, records, POPE's files, lists. GQA has
names of its own for COCO's images; with --visual-genome image_data.json these are recognised too.
"""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import NamedTuple, get_args

from locvlm.annotations.image_names import image_key, read_image_keys, read_visual_genome
from locvlm.annotations.vqa import SHORT_ANSWER, ImageNames, VqaQuestion, read_gqa, read_vqav2
from locvlm.building.build import begin_build
from locvlm.building.options import add_build_options
from locvlm.io import Ledger
from locvlm.log import setup_logging
from locvlm.records import Query, Record

logger = logging.getLogger(__name__)


class Pair(NamedTuple):
    """What is kept of a question while all files are read."""

    draw: float  # in [0, 1), by seed and id; where there are too many, the lowest stay
    question_id: str
    question: str
    answer: str


def parse_arguments() -> argparse.Namespace:
    """The command line: a data set, and its options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data_sets = parser.add_subparsers(dest="data_set", required=True, metavar="gqa|vqav2")
    gqa, vqav2 = (data_sets.add_parser(name, allow_abbrev=False) for name in ("gqa", "vqav2"))
    for data_set in (gqa, vqav2):
        data_set.add_argument("--questions", type=Path, nargs="+", required=True, help="as published, JSON")
        if data_set is gqa:
            data_set.add_argument("--visual-genome", type=Path, help="image_data.json, for --leave-out")
        else:
            data_set.add_argument("--annotations", type=Path, nargs="+", required=True, help="in that order")
            data_set.add_argument("--image-names", choices=get_args(ImageNames), default="2014")
        data_set.add_argument("--max-per-image", type=int, help="questions; more are drawn from")
        data_set.add_argument("--leave-out", type=Path, nargs="+", default=[], help="files that name images")
        data_set.add_argument("--image-root", type=Path, help="folder of the images, for --preview")
        add_build_options(data_set, dropped="of questions")
    args = parser.parse_args()
    if args.data_set == "gqa":
        args.annotations = []
    elif len(args.questions) != len(args.annotations):
        parser.error(
            f"{len(args.questions)} --questions and {len(args.annotations)} --annotations: give pairs"
        )
    if args.max_per_image is not None and args.max_per_image < 1:
        parser.error(f"--max-per-image must be at least 1, got {args.max_per_image}")
    return args


def main() -> None:
    """Read, leave out, group by image, write."""
    args = parse_arguments()
    setup_logging()
    genome = [args.visual_genome] if args.data_set == "gqa" and args.visual_genome else []
    inputs = [*args.questions, *args.annotations, *args.leave_out, *genome]
    build = begin_build(args, inputs=inputs, image_root=args.image_root)
    if build is None:
        return
    read, selection = Ledger("questions"), Ledger("questions after selection")
    left_out = frozenset(chain.from_iterable(read_image_keys(path) for path in args.leave_out))
    in_coco = read_visual_genome(genome[0]) if genome else {}
    questions = without_images(read_questions(args, read), left_out, in_coco, selection)
    by_image = group_by_image(questions, cap=args.max_per_image, seed=args.seed, ledger=selection)
    read.require_dropped_at_most(args.max_dropped_fraction)

    images = list(by_image)[: args.limit]
    build.write_records(
        (to_record(image, by_image[image], args.data_set) for image in args.shard.take(images)),
        input_ledgers=[read, selection],
        facts={"images_to_leave_out": len(left_out)},
    )


def read_questions(args: argparse.Namespace, ledger: Ledger) -> Iterator[VqaQuestion]:
    """The questions of all files, one file after another."""
    if args.data_set == "gqa":
        for path in args.questions:
            yield from read_gqa(path, ledger)
        return
    for questions, annotations in zip(args.questions, args.annotations, strict=True):
        yield from read_vqav2(questions, annotations, ledger, names=args.image_names)


def without_images(
    questions: Iterable[VqaQuestion], left_out: frozenset[str], in_coco: dict[str, str], ledger: Ledger
) -> Iterator[VqaQuestion]:
    """The questions about other images than those; `in_coco` has the keys that images have in COCO."""
    for item in questions:
        key = image_key(item.image)
        if key in left_out or in_coco.get(key) in left_out:
            ledger.drop(item.question_id, "its image is to be left out", item.image)
        else:
            yield item


def group_by_image(
    questions: Iterable[VqaQuestion], *, cap: int | None, seed: int, ledger: Ledger
) -> dict[str, list[Pair]]:
    """Image -> its questions, at most `cap` of them, in order of appearance; drawn by their ids alone."""
    by_image: dict[str, list[Pair]] = {}
    for item in questions:
        draw = 0.0 if cap is None else Random(f"{seed}/{item.question_id}").random()
        pairs = by_image.setdefault(item.image, [])
        pairs.append(Pair(draw, item.question_id, item.question, item.answer))
        if cap is not None and len(pairs) > cap:
            pairs.remove(over := max(pairs))
            ledger.drop(over.question_id, "more than --max-per-image", item.image)
    ledger.keep(sum(map(len, by_image.values())))
    return by_image


def to_record(image: str, pairs: Sequence[Pair], data_set: str) -> Record:
    """All questions of an image."""
    queries = (Query(objective="vqa", question=p.question + SHORT_ANSWER, answer=p.answer) for p in pairs)
    ids = [pair.question_id for pair in pairs]
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"a question about {image} is there twice ({', '.join(ids)}); is a file given twice?"
        )
    source = {"data_set": data_set, "question_ids": ids}
    return Record(id=Path(image).stem, image=image, queries=tuple(queries), source=source)


if __name__ == "__main__":
    main()
