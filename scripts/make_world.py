"""Write the embedded world: scenes as COCO-format files, tiny pretrained backbones beside them, clips.

    python scripts/make_world.py --out runs/demo/world --train 8000 --val 500 --seed 0
    python scripts/make_world.py --out runs/demo/clips --only clips --train-clips 1500 --val-clips 150

What stands for the same arguments is left alone; an interrupted world goes on where it stopped.
"""

import argparse
import logging
from pathlib import Path

from locvlm.log import setup_logging
from locvlm.world.write import Split, write_split
from locvlm.world.write_clips import write_clips

logger = logging.getLogger(__name__)
PARTS = ("scenes", "backbones", "clips")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--train", type=int, default=8000, help="training scenes")
    parser.add_argument("--val", type=int, default=500, help="held-out scenes")
    parser.add_argument("--train-clips", type=int, default=0, help="training clips, MP4; none if not given")
    parser.add_argument("--val-clips", type=int, default=0, help="held-out clips")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the scenes, clips and what is said about them"
    )
    parser.add_argument("--workers", type=int, help="processes; all cores if not given")
    parser.add_argument("--only", choices=PARTS, help="leave out the others")
    args = parser.parse_args()
    if args.only == "clips" and args.train_clips + args.val_clips == 0:
        parser.error("--only clips: say how many, by --train-clips and --val-clips")
    return args


def main() -> None:
    """Scenes, backbones, clips."""
    args = parse_arguments()
    setup_logging(0)
    wanted = PARTS if args.only is None else (args.only,)
    if "scenes" in wanted:
        for name, count in (("train", args.train), ("val", args.val)):
            is_new = write_split(
                Split(name=name, count=count, seed=args.seed), args.out, workers=args.workers
            )
            tell(name, count, "scenes", is_new)
    if "backbones" in wanted:
        from locvlm.world.backbones import write_backbones

        write_backbones(args.out)
        logger.info("%s: tokenizer, clip, llm", args.out)
    if "clips" in wanted:
        for name, count in (("train", args.train_clips), ("val", args.val_clips)):
            if count:
                split = Split(name=name, count=count, seed=args.seed)
                tell(name, count, "clips", write_clips(split, args.out, workers=args.workers))


def tell(split: str, count: int, what: str, is_new: bool) -> None:
    """Say what is there now."""
    logger.info("%s: %d %s%s", split, count, what, "" if is_new else " stood already")


if __name__ == "__main__":
    main()
