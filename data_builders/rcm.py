"""Region Cell Matching from RefCOCOg: is the object of this phrase in this cell of the image? A probe and an
evaluation set ("Lost in Space", app. A).

    python data_builders/rcm.py --refs "refcocog/refs(umd).p" --instances refcocog/instances.json \\
        --split val --out rcm_val.jsonl
    python data_builders/rcm.py --refs finetune_refcocog_train.json --split train --out rcm_train.jsonl

Every cell of the 3 x 3 is said as often as any other, and as often rightly as wrongly; every phrase is there
once with "yes" and once with "no" (with `--negatives other`, negatives have phrases of their own, as far as
there are enough). A record's `source` holds what a probe reads: statement, cell, label. The paper has 46k, 3k
and 5.5k items in train, val and test; the manifest tells how many there are here.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from locvlm.annotations.refcoco import read_refcoco, read_splits
from locvlm.building.build import begin_build
from locvlm.building.options import add_build_options, first
from locvlm.io import Ledger
from locvlm.log import setup_logging
from locvlm.objectives.rcm import CELLS, Selection, build_rcm_records, expressions_of, select
from locvlm.records import Record

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--refs", type=Path, required=True, help="refs(*).p, or RefCOCOg in one of its JSON forms"
    )
    parser.add_argument("--instances", type=Path, help="the instances.json beside refs(*).p, which needs it")
    parser.add_argument(
        "--split",
        required=True,
        help="train, val or test; the name of the only one where the file tells none",
    )
    parser.add_argument("--negatives", choices=("same", "other"), default="same", help="phrases, see above")
    parser.add_argument("--image-root", type=Path, help="folder of the images, for --preview")
    add_build_options(parser, dropped="of the objects that are referred to")
    return parser.parse_args()


def main() -> None:
    """Read, draw over the whole split, write this shard's part."""
    args = parse_arguments()
    setup_logging()
    inputs = [path for path in (args.refs, args.instances) if path is not None]
    build = begin_build(args, inputs=inputs, image_root=args.image_root)
    if build is None:
        return

    referents, annotations, repairs = Ledger("objects referred to"), Ledger("annotations"), Counter[str]()
    images = read_refcoco(
        args.refs,
        instances=args.instances,
        split=split_to_read(args.refs, args.split),
        ledger=referents,
        instances_ledger=annotations,
        repairs=repairs,
    )
    expressions = list(expressions_of(first(images, args.limit)))
    referents.require_dropped_at_most(args.max_dropped_fraction)

    selection = select(expressions, seed=args.seed, negatives=args.negatives)
    records = args.shard.take(build_rcm_records(expressions, selection, split=args.split))
    build.write_records(
        records,
        input_ledgers=[referents] if args.instances is None else [referents, annotations],
        counts=counts_of(records),
        facts={**facts_of(selection), "repairs": dict(repairs)},
        total=len(records),
    )


def split_to_read(refs: Path, split: str) -> str | None:
    """The split to ask the file for; None where it tells none and is taken as a whole."""
    if read_splits(refs):
        return split
    logger.info("%s tells no splits: all of it is taken for %s", refs, split)
    return None


def counts_of(records: Iterable[Record]) -> dict[str, Any]:
    """Answers, and cells as said."""
    answers, cells = Counter[str](), Counter[str]()
    for record in records:
        answers[record.queries[0].answer] += 1
        cells[record.source["cell"]] += 1
    return {"answers": dict(sorted(answers.items())), "cells": {name: cells[name] for name in CELLS}}


def facts_of(selection: Selection) -> dict[str, Any]:
    """How many expressions there were, and what became of N_i / 8."""
    whole, rest = divmod(selection.per_cell, len(CELLS) - 1)
    return {
        "items": len(selection.positives) + len(selection.negatives),
        "positives_per_cell": selection.per_cell,
        "negatives_per_cell_and_other_cell": whole,
        "other_cells_of_each_with_one_more": rest,
        "expressions": dict(zip(CELLS, selection.available, strict=True)),
    }


if __name__ == "__main__":
    main()
