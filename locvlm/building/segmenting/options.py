"""The options that say which segmenter to use, for the programs that need one."""

import argparse
from pathlib import Path
from typing import Any

from locvlm.building.build import Build
from locvlm.building.journal import Journal
from locvlm.building.segmenting.panoptic_files import PanopticFiles
from locvlm.building.segmenting.segment import Segmenter


def add_segmenter_options(parser: argparse.ArgumentParser) -> None:
    """Add them; --workers, where a program has it, reads PNGs."""
    group = parser.add_argument_group("segments come from")
    group.add_argument(
        "--panoptic", type=Path, nargs="+", metavar="JSON", help="COCO panoptic files of one segmenter"
    )
    group.add_argument(
        "--panoptic-pngs",
        type=Path,
        metavar="DIR",
        help="their PNGs; if not given, the folder beside each JSON that has its name",
    )
    group.add_argument(
        "--checkpoint", help="Mask2Former, OneFormer or MaskFormer of transformers, a folder or a name"
    )
    group.add_argument("--device", default="auto", help="of the checkpoint; auto is the GPU if there is one")
    group.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    group.add_argument("--batch-size", type=int, default=8, help="images of one size that are asked together")
    group.add_argument("--threshold", type=float, default=0.8, help="least probability of a segment's class")
    group.add_argument(
        "--things",
        type=Path,
        metavar="FILE",
        help="names of the countable classes, one a line; COCO's are known",
    )


def segmenter_inputs(args: argparse.Namespace) -> list[Path]:
    """The files that decide what the segmenter says."""
    paths = [*(args.panoptic or ()), *([args.things] if args.things else [])]
    folder = Path(args.checkpoint) if args.checkpoint else None
    if folder is not None and folder.is_dir():
        paths += sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
    return paths


def open_journal(args: argparse.Namespace, build: Build, **asked: Any) -> Journal:
    """What was found so far: OUT.segments.jsonl, which is kept, so that other options take seconds.

    It is of use for the same segmenter and the same pictures alone. Remove it to segment anew.

    Args:
        asked: what else decides what is found.
    """
    made_by = {
        "segmenter": {name: str(getattr(args, name)) for name in ("checkpoint", "dtype", "threshold")},
        "inputs": list(build.made.inputs.values()),
        **asked,
    }
    path = build.out.with_name(f"{build.out.name}.segments.jsonl")
    return Journal(path, made_by=made_by, overwrite=args.overwrite)


def open_segmenter(args: argparse.Namespace) -> Segmenter:
    """The segmenter that the options name.

    Raises:
        ValueError: if its files or its checkpoint cannot be used.
    """
    if args.panoptic:
        return PanopticFiles(args.panoptic, args.panoptic_pngs, workers=getattr(args, "workers", 0))
    import torch

    from locvlm.building.segmenting.universal import UniversalSegmenter

    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    things = args.things.read_text(encoding="utf-8").splitlines() if args.things else ()
    return UniversalSegmenter(
        args.checkpoint,
        device=device,
        dtype=args.dtype,
        batch_size=args.batch_size,
        threshold=args.threshold,
        things=[name.strip() for name in things if name.strip()],
    )
