"""COCO-Spatial: which side of one object is another (paper section 4.2, app. E)? An evaluation set.

    python data_builders/coco_spatial.py --instances annotations/instances_train2017.json --out spatial/

writes spatial/coco_spatial_{direct,icl}_{horizontal,vertical}.jsonl, each with a manifest. Both orders of
every pair are asked, so the answers are balanced; gold is the side of the object that is asked for.
`--gold exemplar` and `--release-filter` give the paper's and the released code's other readings.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from locvlm.annotations.coco import read_instances
from locvlm.io import Ledger, write_records
from locvlm.log import setup_logging
from locvlm.objectives.manifest import RecordCounts, write_manifest
from locvlm.objectives.spatial import Axis, Form, SpatialConfig, build_spatial_records
from locvlm.records import ImageAnnotation, Record

logger = logging.getLogger(__name__)
AXES: dict[str, tuple[Axis, ...]] = {
    "horizontal": ("horizontal",),
    "vertical": ("vertical",),
    "both": ("horizontal", "vertical"),
}
FORMS: dict[str, tuple[Form, ...]] = {"direct": ("direct",), "icl": ("icl",), "both": ("direct", "icl")}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=Path, required=True, help="COCO instances JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--axis", choices=tuple(AXES), default="both")
    parser.add_argument("--form", choices=tuple(FORMS), default="both")
    parser.add_argument(
        "--gold", choices=("asked", "exemplar"), default="asked", help="whose side is right, see above"
    )
    parser.add_argument(
        "--release-filter", action="store_true", help="the released code's pairs; direct only"
    )
    parser.add_argument("--limit", type=int, help="read only the first images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-dropped-fraction", type=float, default=0.01, help="of annotations")
    return parser.parse_args()


def main() -> None:
    """Read once, write a file per form and axis."""
    args = parse_arguments()
    setup_logging()
    config = SpatialConfig(gold=args.gold, release_filter=args.release_filter, seed=args.seed)
    annotations, repairs = Ledger("annotations"), Counter[str]()
    images = list(islice(read_instances(args.instances, annotations, repairs=repairs), args.limit))
    annotations.require_dropped_at_most(args.max_dropped_fraction)
    for form in FORMS[args.form]:
        for axis in AXES[args.axis]:
            out = args.out / f"coco_spatial_{form}_{axis}.jsonl"
            counts, selection = write_questions(
                out, images, source=args.instances, axis=axis, form=form, config=config
            )
            write_manifest(
                out,
                arguments={**vars(args), "form": form, "axis": axis},
                inputs=[args.instances],
                ledgers=[annotations, selection],
                counts={**counts.to_dict(), "repairs": dict(repairs)},
            )
            logger.info("%s: %s", out, counts.to_dict())


def write_questions(
    out: Path, images: list[ImageAnnotation], *, source: Path, axis: Axis, form: Form, config: SpatialConfig
) -> tuple[RecordCounts, Ledger]:
    """Write the questions of one form about one axis; an error if no image qualifies."""
    counts, selection = RecordCounts(), Ledger("images")

    def questions() -> Iterator[Record]:
        for image in images:
            records = list(build_spatial_records(image, axis=axis, form=form, config=config))
            if records:
                selection.keep()
            else:
                selection.drop(image.image_id, "no objects on opposite sides")
            yield from records

    write_records(out, counts.counted(questions(), source=source))
    return counts, selection


if __name__ == "__main__":
    main()
