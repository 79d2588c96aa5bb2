"""What a built file holds, and whether anything in it should keep one from training on it.

    python data_builders/audit.py localize.jsonl --image-root train2017 --page audit.html
    python data_builders/audit.py localize.jsonl --evaluation coco_pope_random.json "refcoco/refs(unc).p" \\
        --tokenizer checkpoints/vicuna-7b --out audit.json
    python data_builders/audit.py llava_v1_5_mix665k.json --max-repeated-questions 0.05

Record files, LLaVA JSON as far as it tells (its boxes are text), and tar shards of either. Counts by
objective, class and size; images and questions that are there twice; images that evaluations ask about,
whichever name of COCO's they have; how well a classifier tells absent from present by the prompt alone.

The status is 0 if every limit holds that could be measured, 1 if one is broken, and 2 if the file cannot be
audited.
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from locvlm.annotations.image_names import read_visual_genome
from locvlm.building.auditing.entries import read_audited
from locvlm.building.auditing.images import (
    find_copies,
    find_leaks,
    read_evaluations,
    require_image_root,
)
from locvlm.building.auditing.report import Audit
from locvlm.building.auditing.tally import Tally
from locvlm.building.auditing.verdicts import LIMITED, Limits, verdicts_of
from locvlm.coords.codec import CODECS
from locvlm.coords.contract import CoordinateContract
from locvlm.data.prompt import FORMATS
from locvlm.geometry import FrameMode
from locvlm.io import Ledger, atomic_writer, write_json
from locvlm.log import setup_logging
from locvlm.progress import progress


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", type=Path, help="JSON Lines of records, LLaVA JSON, or x/*.tar, quoted")
    parser.add_argument("--out", type=Path, help="all figures, JSON")
    parser.add_argument("--page", type=Path, help="the same as a page with plots and 24 samples, HTML")
    parser.add_argument("--image-root", type=Path, help="folder or zip: images that are missing or equal")
    parser.add_argument(
        "--evaluation",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="POPE, VQAv2, GQA, RefCOCO (any form; without its split train), COCO files, or names of images",
    )
    parser.add_argument("--visual-genome", type=Path, help="image_data.json: which GQA images are COCO's")
    add_token_options(parser.add_argument_group("tokens per sample"))
    add_limits(parser.add_argument_group("limits, as fractions"))
    return parser.parse_args()


def add_token_options(group: "argparse._ArgumentGroup") -> None:
    """How samples are written for the language model."""
    group.add_argument("--tokenizer", type=Path, help="folder of the language model's tokenizer")
    group.add_argument("--conversation", choices=tuple(FORMATS), default="vicuna_v1")
    group.add_argument("--codec", choices=tuple(CODECS), default="ivb")
    group.add_argument("--frame", choices=get_args(FrameMode), default="stretch")
    group.add_argument("--canvas", type=int, default=224, help="side of the model input, pixels")
    group.add_argument("--patch", type=int, default=14, help="side of a patch, pixels")
    group.add_argument("--frames", type=int, default=8, help="of a video")


def add_limits(group: "argparse._ArgumentGroup") -> None:
    """One option for each limit."""
    limits = Limits()
    for name, what in LIMITED.items():
        limit = getattr(limits, name)
        text = f"{what} (default: {'any' if limit is None else limit})"
        group.add_argument(
            f"--max-{name.replace('_', '-')}", type=float, default=limit, metavar="F", help=text
        )


def measure(args: argparse.Namespace, contract: CoordinateContract) -> Audit:
    """Everything about the file; what can be wrong about other files is found before it is read."""
    limits = Limits(**{name: getattr(args, f"max_{name}") for name in Limits.__slots__})
    genome = read_visual_genome(args.visual_genome) if args.visual_genome else None
    evaluations = read_evaluations(args.evaluation or ())
    if args.image_root:
        require_image_root(args.image_root)
    if args.tokenizer:
        from locvlm.building.auditing.tokens import measure_tokens  # loads transformers
        from locvlm.data.tokenize import load_tokenizer

        tokenizer = load_tokenizer(args.tokenizer)

    tally, read = Tally(), Ledger("entries")
    for entry in progress(read_audited(args.file, read), what=args.file.name):
        tally.add(entry)
    leaks = find_leaks(tally.image_times, evaluations, genome) if evaluations else None
    copies = find_copies(args.image_root, progress(tally.paths, what="files")) if args.image_root else None
    lengths = None
    if args.tokenizer:
        lengths = measure_tokens(
            progress(read_audited(args.file, Ledger("again")), what="tokens", total=tally.num_entries),
            tokenizer,
            contract=contract,
            conversation=args.conversation,
            num_frames=args.frames,
        )
    verdicts, guess = verdicts_of(tally, read, limits, leaks=leaks, copies=copies)
    return Audit(
        file=args.file, tally=tally, read=read, verdicts=verdicts, guess=guess, leaks=leaks, lengths=lengths
    )


def main() -> None:
    """Measure, say, write; the status says whether limits hold."""
    args = parse_arguments()
    setup_logging()
    try:
        contract = CoordinateContract(
            codec=args.codec, frame=args.frame, canvas=args.canvas, patch=args.patch
        )
        audit = measure(args, contract)
        print(audit.as_text())
        if args.out:
            write_json(args.out, audit.to_dict())
        if args.page:
            from locvlm.building.auditing.page import audit_page

            with atomic_writer(args.page) as out:
                out.write(audit_page(audit, args.image_root, contract))
    except (ValueError, OSError) as error:
        print(f"audit: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(int(audit.num_broken > 0))


if __name__ == "__main__":
    main()
