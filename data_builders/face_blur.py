"""A copy of a folder, or of tar shards, in which faces are blurred (paper App. C: before any training).

    python data_builders/face_blur.py --source train2017 --out train2017_blurred --workers 8
    python data_builders/face_blur.py --source videos --out videos_blurred --every 3 --workers 8
    python data_builders/face_blur.py --tars "stage1/{00000..00119}.tar" --out stage1_blurred --workers 8

Files keep their names and formats; images without a face are copied byte for byte, and boxes of annotation
files still fit. What is by its name neither image nor video is left out.

What was found stands beside the output, in train2017_blurred.faces.jsonl: a record for each file, its faces
as boxes in source pixels, their scores, and hashes of what was read and written. A killed run goes on where
it was; run on its own output it changes nothing. Needs the extra `faces`, and `video` for videos.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from locvlm.building.build import begin_build
from locvlm.building.faces.blur import Shape
from locvlm.building.faces.detect import CenterFace
from locvlm.building.faces.files import Blurring, blur_file, clear_torn
from locvlm.building.faces.items import blur_items
from locvlm.building.faces.ledger import counted, ledger_path
from locvlm.building.faces.places import fingerprint, list_images_and_videos, require_new_place
from locvlm.building.faces.tars import blur_tar
from locvlm.building.listing import read_list
from locvlm.building.options import add_build_options, first
from locvlm.data.shards import expand_shards
from locvlm.io import Ledger
from locvlm.log import setup_logging
from locvlm.records import Record

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--source", type=Path, metavar="FOLDER", help="of images and videos")
    source.add_argument("--tars", metavar="PATTERN", help="tar shards, all of one folder")
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="only these of --source: a path a line, or LLaVA JSON"
    )
    parser.add_argument("--threshold", type=float, default=0.2, help="of a face's score, 0 to 1; lower: more")
    parser.add_argument("--max-side", type=int, default=1280, metavar="PX", help="look at no more than this")
    parser.add_argument("--shape", choices=get_args(Shape), default="ellipse", help="of what is blurred")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="look at every N-th frame of videos"
    )
    parser.add_argument("--link", action="store_true", help="hard-link files without a face, not copy them")
    add_build_options(
        parser, out="folder to write", seed=False, workers=True, dropped="of files, or of images in tars"
    )
    args = parser.parse_args()
    if args.list is not None and args.source is None:
        parser.error("--list names files of --source FOLDER")
    return args


def main() -> None:
    """List, find, blur."""
    args = parse_arguments()
    setup_logging()
    folder, names = tars_of(args.tars) if args.tars else (args.source, files_of(args))
    names = first(names, args.limit)
    ledger_file = ledger_path(args.out, args.shard.index, args.shard.count)
    require_new_place(folder, args.out, overwrite=args.overwrite)
    build = begin_build(
        args,
        inputs=[args.list] if args.list else [],
        out=ledger_file,
        image_root=args.out,
        files=fingerprint(folder, names),
    )
    if build is None:
        return
    threads = 1 if args.workers else 0
    how = Blurring(
        source=folder,
        out=args.out,
        detector=CenterFace(threshold=args.threshold, max_side=args.max_side, threads=threads),
        shape=args.shape,
        every=args.every,
        link=args.link,
        threads=threads,
    )
    mine = args.shard.take(names)
    clear_torn(args.out, mine)
    journal, files, counts = build.open_journal(), Ledger("files"), Counter[str]()

    def records() -> Iterator[Record]:
        blur = blur_tar if args.tars else blur_file
        yield from counted(blur_items(blur, mine, how, journal=journal, workers=args.workers), files, counts)
        files.require_dropped_at_most(args.max_dropped_fraction)  # before the ledger is complete

    build.write_records(records(), total=None if args.tars else len(mine), ledgers=[files], counts=counts)
    journal.discard()
    logger.info("%s: %s", args.out, ", ".join(f"{count} {what}" for what, count in counts.items()))


def files_of(args: argparse.Namespace) -> list[str]:
    """The files to look at, by their paths in the source."""
    return list_images_and_videos(args.source) if args.list is None else read_list(args.list)


def tars_of(pattern: str) -> tuple[Path, list[str]]:
    """The folder of the tars that a pattern names, and their names in it."""
    tars = expand_shards(pattern)
    folders = sorted({tar.parent for tar in tars})
    if len(folders) > 1:
        raise ValueError(f"the tars of {pattern} lie in {len(folders)} folders; blur one folder at a time")
    return folders[0], [tar.name for tar in tars]


if __name__ == "__main__":
    main()
