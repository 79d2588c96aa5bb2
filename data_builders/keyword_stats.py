"""How often LLaVA's data says left and right (paper app. F, Tab. 14), or other words.

    python data_builders/keyword_stats.py llava_instruct_80k.json
    python data_builders/keyword_stats.py localize.jsonl --keywords above below --out above_below.json

Reads LLaVA JSON, or records, whose questions are written out as an epoch reads them; tar shards of either,
too. Whole words, in conversations, in question-answer pairs and in single messages apart; the paper's
figures stand beside ours. It does not say whether "right" counts inside "brightly": --inside-words does.
"""

import argparse
from pathlib import Path

from locvlm import __version__
from locvlm.building.auditing.entries import files_of, read_audited
from locvlm.building.auditing.keywords import (
    KEYWORDS,
    PAPER,
    PAPER_SHARES,
    PAPER_UNITS,
    TEMPLATES,
    as_table,
    count_keywords,
    phrases_of,
)
from locvlm.coords.contract import CoordinateContract
from locvlm.io import Ledger, sha256_of, write_json
from locvlm.log import setup_logging
from locvlm.progress import progress

CONTRACT = CoordinateContract(canvas=224, patch=14)  # LocVLM-B's; coordinates hold none of the words


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("file", type=Path, help="LLaVA JSON, JSON Lines of records, or x/*.tar")
    parser.add_argument("--keywords", nargs="+", default=list(KEYWORDS), metavar="WORD")
    parser.add_argument(
        "--templates",
        nargs="+",
        default=list(TEMPLATES),
        metavar="T",
        help='as "to the {}"; default: Tab. 14',
    )
    parser.add_argument("--inside-words", action="store_true", help='"right" counts in "brightly", too')
    parser.add_argument("--out", type=Path, help="JSON to write: the counts, and what they are of")
    parser.add_argument(
        "--max-dropped-fraction",
        type=float,
        default=0.01,
        metavar="F",
        help="of the conversations; stop above",
    )
    return parser.parse_args()


def main() -> None:
    """Read, count, print, write."""
    args = parse_arguments()
    setup_logging()
    phrases = phrases_of(args.keywords, args.templates)
    ledger = Ledger("conversations")
    entries = progress(read_audited(args.file, ledger), what=args.file.name)
    counts = count_keywords(
        (entry.as_sample(CONTRACT) for entry in entries), phrases, inside_words=args.inside_words
    )
    ledger.require_dropped_at_most(args.max_dropped_fraction)
    print(as_table(counts))
    if args.out is None:
        return
    write_json(
        args.out,
        {
            "file": args.file.name,
            "sha256": {path.name: sha256_of(path) for path in files_of(args.file)},
            "version": __version__,
            "arguments": {
                "keywords": args.keywords,
                "templates": args.templates,
                "inside_words": args.inside_words,
            },
            "read": ledger.to_dict(),
            **counts.to_dict(),
            "paper": {"units": PAPER_UNITS, "conversations": PAPER, "section 4.2": PAPER_SHARES},
        },
    )


if __name__ == "__main__":
    main()
