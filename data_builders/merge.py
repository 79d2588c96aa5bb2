"""Put the shards of one build together.

    python data_builders/merge.py --out localize.jsonl localize-*.jsonl

The file and its manifest are those of a build that was not sharded. Every shard has to be there, built by
the same arguments from the same inputs.
"""

import argparse
import logging
from pathlib import Path

from locvlm.building.merge import merge_shards
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("parts", type=Path, nargs="+", help="the files of all shards, in any order")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, of the kind of its parts")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    return parser.parse_args()


def main() -> None:
    """Check, merge."""
    args = parse_arguments()
    setup_logging()
    counts = merge_shards(args.out, args.parts, overwrite=args.overwrite)
    logger.info("%s: %s from %d shards", args.out, counts, len(args.parts))


if __name__ == "__main__":
    main()
