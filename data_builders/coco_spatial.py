"""COCO-Spatial: which side of one object is another (paper section 4.2, app. E)? An evaluation set.

    python data_builders/coco_spatial.py --instances annotations/instances_train2017.json --out spatial/

writes spatial/coco_spatial_{direct,icl}_{horizontal,vertical}.jsonl, each with a manifest. Both orders of
every pair are asked, so the answers are balanced; gold is the side of the object that is asked for.
`--gold exemplar` and `--release-filter` give the paper's and the released code's other readings.

The paper asks about images of COCO train, which a model may have been trained on. Questions about images that
it has not seen: `--instances annotations/instances_val2017.json --split val2017 --out spatial_val/`.

The four outputs are built one by one: those that are there already are kept, so a build that was killed goes
on where it was. Parts of a SLURM array (`--shard`) go to folders of their own, and are merged file by file.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from locvlm.annotations.coco import read_instances
from locvlm.building.build import Build, begin_build
from locvlm.building.options import add_build_options, first
from locvlm.io import Ledger
from locvlm.log import setup_logging
from locvlm.objectives.spatial import Axis, Form, SpatialConfig, build_spatial_records
from locvlm.records import ImageAnnotation, Record

AXES: dict[str, tuple[Axis, ...]] = {
    "horizontal": ("horizontal",),
    "vertical": ("vertical",),
    "both": ("horizontal", "vertical"),
}
FORMS: dict[str, tuple[Form, ...]] = {"direct": ("direct",), "icl": ("icl",), "both": ("direct", "icl")}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--instances", type=Path, required=True, help="COCO instances JSON")
    parser.add_argument("--split", default="", help="of these images, noted in every record: val2017")
    parser.add_argument("--image-root", type=Path, help="folder of the images, for --preview")
    parser.add_argument("--axis", choices=tuple(AXES), default="both")
    parser.add_argument("--form", choices=tuple(FORMS), default="both")
    parser.add_argument(
        "--gold", choices=("asked", "exemplar"), default="asked", help="whose side is right, see above"
    )
    parser.add_argument(
        "--release-filter", action="store_true", help="the released code's pairs; direct only"
    )
    add_build_options(parser, out="folder to write to", dropped="of annotations")
    args = parser.parse_args()
    if args.release_filter and args.form != "direct":
        parser.error("--release-filter asks about pairs and has no third object; use it with --form direct")
    return args


def main() -> None:
    """Read once, write a file per form and axis."""
    args = parse_arguments()
    setup_logging()
    config = SpatialConfig(
        gold=args.gold, release_filter=args.release_filter, split=args.split, seed=args.seed
    )
    outputs = [(form, axis) for form, axis in product(FORMS[args.form], AXES[args.axis])]
    builds = {output: begin_output(args, *output) for output in outputs}
    if not any(builds.values()):
        return
    annotations, repairs = Ledger("annotations"), Counter[str]()
    images = first(read_instances(args.instances, annotations, repairs=repairs), args.limit)
    annotations.require_dropped_at_most(args.max_dropped_fraction)
    part = args.shard.take(images)
    for (form, axis), build in builds.items():
        if build is not None:
            selection = Ledger("images")
            build.write_records(
                questions(part, axis, form, config, selection),
                ledgers=[selection],
                input_ledgers=[annotations],
                facts={"repairs": dict(repairs)},
            )


def begin_output(args: argparse.Namespace, form: Form, axis: Axis) -> Build | None:
    """The build of one output; None if it is there. Its preview is named after it."""
    name = f"coco_spatial_{form}_{axis}"
    own = argparse.Namespace(**{**vars(args), "form": form, "axis": axis})
    if args.preview is not None:
        own.preview = args.preview.with_name(f"{args.preview.stem}_{form}_{axis}{args.preview.suffix}")
    return begin_build(
        own, inputs=[args.instances], out=args.out / f"{name}.jsonl", image_root=args.image_root
    )


def questions(
    images: Sequence[ImageAnnotation], axis: Axis, form: Form, config: SpatialConfig, selection: Ledger
) -> Iterator[Record]:
    """The questions of one form about one axis; images are counted."""
    for image in images:
        records = list(build_spatial_records(image, axis=axis, form=form, config=config))
        if records:
            selection.keep()
        else:
            selection.drop(image.image_id, "no objects on opposite sides")
        yield from records


if __name__ == "__main__":
    main()
