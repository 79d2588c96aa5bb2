"""Stage-1 records (image and captions) from COCO captions, or from LLaVA JSON such as CC3M-595K and
LCS-558K.

    python data_builders/stage1_pairs.py --captions annotations/captions_train2017.json --out stage1.jsonl

An image with several captions becomes one record with as many branches. A manifest is written beside the
output.
"""

import argparse
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from locvlm.annotations.image_text import read_image_text
from locvlm.io import Ledger, write_records
from locvlm.log import setup_logging
from locvlm.objectives.caption import build_caption_record
from locvlm.objectives.manifest import RecordCounts, write_manifest
from locvlm.records import ImageAnnotation, Record

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, required=True, help="COCO captions JSON, or LLaVA JSON")
    parser.add_argument("--out", type=Path, required=True, help="records to write, JSON Lines")
    parser.add_argument("--limit", type=int, help="read only the first images")
    parser.add_argument("--max-dropped-fraction", type=float, default=0.01, help="of captions")
    return parser.parse_args()


def main() -> None:
    """Read, write."""
    args = parse_arguments()
    setup_logging()
    captions, selection, counts = Ledger("captions"), Ledger("images"), RecordCounts()

    def records() -> Iterator[Record]:
        images = islice(read_image_text(args.captions, captions), args.limit)
        yield from build_records(images, selection)
        captions.require_dropped_at_most(args.max_dropped_fraction)  # before the file is complete

    write_records(args.out, counts.counted(records(), source=args.captions))

    manifest = write_manifest(
        args.out,
        arguments=vars(args),
        inputs=[args.captions],
        ledgers=[captions, selection],
        counts=counts.to_dict(),
    )
    logger.info("%s: %s; see %s", args.out, counts.to_dict(), manifest)


def build_records(images: Iterable[ImageAnnotation], ledger: Ledger) -> Iterator[Record]:
    """A record for every image that has a caption."""
    for image in images:
        record = build_caption_record(image)
        if record is None:
            ledger.drop(image.image_id, "no caption")
        else:
            ledger.keep()
            yield record


if __name__ == "__main__":
    main()
