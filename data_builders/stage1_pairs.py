"""Stage-1 records (image and captions) from COCO captions, or from LLaVA JSON such as CC3M-595K and
LCS-558K; with --tars also packed with their images into tar shards, webdataset's layout.

    python data_builders/stage1_pairs.py --captions annotations/captions_train2017.json --out stage1.jsonl
    python data_builders/stage1_pairs.py --captions blip_laion_cc_sbu_558k.json --image-root images.zip \\
        --out stage1.jsonl --tars stage1_tars --shuffle-seed 0 --workers 8

An image with several captions becomes one record with as many branches. The records name images as the
captions file does, so they fit the folder or zip as well as the tars, which hold the same records in the same
order; train on either. Images are put into tars as they are, byte for byte. A manifest is written beside the
output. A killed build goes on at the tar it was at.
"""

import argparse
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from locvlm.annotations.image_text import read_image_text
from locvlm.building.build import Build, begin_build
from locvlm.building.manifest import read_manifest
from locvlm.building.options import add_build_options, first
from locvlm.building.shard_writer import TarPlan, plan_tars, require_tars, tar_names, write_tars
from locvlm.data.archive import require_readable_root
from locvlm.io import Ledger
from locvlm.log import setup_logging
from locvlm.objectives.caption import build_caption_record
from locvlm.records import ImageAnnotation, Record


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--captions", type=Path, required=True, help="COCO captions JSON, or LLaVA JSON")
    parser.add_argument("--image-root", type=Path, help="folder or zip of the images, for --tars, --preview")
    parser.add_argument(
        "--shuffle-seed", type=int, metavar="S", help="mix the images; without it they stay in their order"
    )
    tars = parser.add_argument_group("tar shards")
    tars.add_argument("--tars", type=Path, metavar="FOLDER", help="also pack records and images into tars")
    tars.add_argument("--samples-per-tar", type=int, default=5000, metavar="N")
    tars.add_argument("--check-images", action="store_true", help="decode each; drop, and count, broken ones")
    add_build_options(parser, seed=False, workers=True, dropped="of captions, and of images for --tars")
    args = parser.parse_args()
    if args.tars is not None and args.image_root is None:
        parser.error("--tars packs images: say where they are, --image-root FOLDER or ZIP")
    return args


def main() -> None:
    """Read, order, write."""
    args = parse_arguments()
    setup_logging()
    build = begin_build(args, inputs=[args.captions], image_root=args.image_root)
    if build is None:
        if args.tars is not None:
            require_tars(args.tars, args.shard.take(tar_names(read_manifest(args.out).facts["tars"])))
        return
    captions, images = Ledger("captions"), Ledger("images")
    found = first(read_image_text(args.captions, captions), args.limit)
    captions.require_dropped_at_most(args.max_dropped_fraction)
    records = list(build_records(found, images))
    if args.shuffle_seed is not None:
        records.sort(key=lambda record: place_in_mix(record.id, args.shuffle_seed))

    if args.tars is None:
        records = args.shard.take(records)
        build.write_records(records, total=len(records), input_ledgers=[captions, images])
    else:
        plans = plan_tars(records, samples_per_tar=args.samples_per_tar)
        pack(build, plans, args, input_ledgers=[captions, images])


def pack(
    build: Build, plans: list[TarPlan], args: argparse.Namespace, *, input_ledgers: list[Ledger]
) -> None:
    """Write this shard's part of the tars, and the records that are in them."""
    require_readable_root(args.image_root)
    files = Ledger("image files")
    mine = args.shard.take(plans)
    journal = build.open_journal()

    def records() -> Iterator[Record]:
        for written in write_tars(
            mine,
            args.tars,
            image_root=args.image_root,
            journal=journal,
            ledger=files,
            check_images=args.check_images,
            workers=args.workers,
        ):
            yield from written
        files.require_dropped_at_most(args.max_dropped_fraction)  # before the output is complete

    build.write_records(
        records(),
        total=sum(len(plan.samples) for plan in mine),
        ledgers=[files],
        input_ledgers=input_ledgers,
        facts={"tars": len(plans)},
    )
    journal.discard()


def build_records(images: Iterable[ImageAnnotation], ledger: Ledger) -> Iterator[Record]:
    """A record for every image that has a caption."""
    for image in images:
        record = build_caption_record(image)
        if record is None:
            ledger.drop(image.image_id, "no caption")
        else:
            ledger.keep()
            yield record


def place_in_mix(record_id: str, seed: int) -> bytes:
    """What to sort by for an order that looks random and depends on seed and ids alone."""
    return hashlib.blake2b(f"{seed}/{record_id}".encode(), digest_size=16).digest()


if __name__ == "__main__":
    main()
