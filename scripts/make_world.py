"""Write the embedded world: scenes as COCO-format files, and the tiny pretrained backbones beside them.

    python scripts/make_world.py --out runs/demo/world --train 8000 --val 500 --seed 0

What stands for the same arguments is left alone; an interrupted world goes on where it stopped.
"""

import argparse
import logging
from pathlib import Path

from locvlm.log import setup_logging
from locvlm.world.write import Split, write_split

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--train", type=int, default=8000, help="training scenes")
    parser.add_argument("--val", type=int, default=500, help="held-out scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and captions")
    parser.add_argument("--workers", type=int, help="processes; all cores if not given")
    parser.add_argument("--only", choices=("scenes", "backbones"), help="leave out the other half")
    return parser.parse_args()


def main() -> None:
    """Scenes, then backbones."""
    args = parse_arguments()
    setup_logging(0)
    splits = (("train", args.train), ("val", args.val)) if args.only != "backbones" else ()
    for name, count in splits:
        split = Split(name=name, count=count, seed=args.seed)
        is_new = write_split(split, args.out, workers=args.workers)
        logger.info("%s: %d scenes%s", name, count, "" if is_new else " stood already")
    if args.only != "scenes":
        from locvlm.world.backbones import write_backbones

        write_backbones(args.out)
        logger.info("%s: tokenizer, clip, llm", args.out)


if __name__ == "__main__":
    main()
