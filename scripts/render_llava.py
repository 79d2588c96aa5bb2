"""Our records as LLaVA JSON, for training in other frameworks: wording drawn, coordinates written.

    python scripts/render_llava.py --records localize.jsonl --out localize.json --codec ivb --canvas 336

The other framework must bring images onto its canvas the way `--frame` says (LLaVA-1.5 pads), or every
box is off.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locvlm.annotations.instruct import sample_to_llava
from locvlm.coords.codec import CODECS
from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import CutPolicy
from locvlm.io import Ledger, read_records, write_json
from locvlm.log import setup_logging
from locvlm.objectives.render import render_record

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=Path, required=True, help="JSON Lines of records")
    parser.add_argument("--out", type=Path, required=True, help="LLaVA JSON to write")
    parser.add_argument("--codec", choices=tuple(CODECS), default="ivb")
    parser.add_argument("--frame", choices=("stretch", "pad", "crop"), default="stretch")
    parser.add_argument("--location", choices=("bbox", "point"), default="bbox")
    parser.add_argument("--canvas", type=int, default=336, help="side of the model's square input, in pixels")
    parser.add_argument("--patch", type=int, default=14, help="side of a patch, in pixels")
    parser.add_argument(
        "--on-cut", choices=("clip", "drop", "negative"), default="clip", help="objects that a crop cuts"
    )
    parser.add_argument(
        "--layout",
        choices=("multi_turn", "separate"),
        default="multi_turn",
        help="all questions about an image in one conversation, or one each",
    )
    parser.add_argument("--epoch", type=int, default=0, help="another epoch draws other wordings")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Read, render, write."""
    args = parse_arguments()
    setup_logging()
    contract = CoordinateContract(
        codec=args.codec, frame=args.frame, location=args.location, canvas=args.canvas, patch=args.patch
    )
    questions = Ledger("questions")
    entries = list(render_entries(args, contract, questions))
    if not entries:
        raise ValueError(f"{args.records}: nothing to write ({questions.summary()})")
    write_json(args.out, entries)
    logger.info("%s: %d conversations; %s", args.out, len(entries), questions.summary())


def render_entries(
    args: argparse.Namespace, contract: CoordinateContract, ledger: Ledger
) -> Iterator[dict[str, Any]]:
    """The entries of all records; questions about objects that the frame cuts away are counted."""
    policy = CutPolicy(on_cut=args.on_cut)
    for record in read_records(args.records):
        if record.video is not None:
            raise ValueError(f"{args.records}: {record.id!r} is about a video; images alone are rendered")
        sample = render_record(record, contract, seed=args.seed, epoch=args.epoch, cut_policy=policy)
        ledger.keep(len(sample.branches))
        for _ in range(len(record.queries) - len(sample.branches)):
            ledger.drop(record.id, "the frame cuts the object away")
        yield from sample_to_llava(sample, layout=args.layout)


if __name__ == "__main__":
    main()
