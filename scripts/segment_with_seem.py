"""Segments of a folder of images by SEEM, as COCO panoptic files (paper section 3.4).

    python scripts/segment_with_seem.py --images frames --out seem --seem-repo seem_checkout \\
        --config configs/seem/focall_unicl_lang_demo.yaml --weights seem_focall_v1.pt

It imports nothing of LocVLM and runs where SEEM does (branch v1.0 of UX-Decoder's repository, which pins an
old torch and detectron2). PNGs go to the folder seem/, their list to seem.json, which pseudo_boxes and
localize_activitynet of data_builders read with --panoptic. A killed run goes on where it was; --shard 3/16
does a part, into seem.3-of-16.json.

Images are segmented with a short side of 512, as in SEEM's demo, and PNGs are of that size; the list says how
large the upright images are, so that boxes find their way back.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def main() -> None:
    """Segment what is not done yet, then write the list."""
    args = parse_arguments()
    index, count = args.shard
    part = "" if count == 1 else f".{index}-of-{count}"
    names = sorted(
        path.relative_to(args.images).as_posix()
        for path in args.images.rglob("*")
        if path.suffix.lower() in EXTENSIONS
    )
    mine = range(len(names) * index // count, len(names) * (index + 1) // count)
    args.out.mkdir(parents=True, exist_ok=True)
    journal = args.out / f"done{part}.jsonl"
    done = read_journal(journal)
    model, categories = load_seem(args)
    with open(journal, "a", encoding="utf-8") as file:
        for place in mine:
            if names[place] not in done:
                done[names[place]] = row = segment_one(args, model, names[place])
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(f"{place - mine.start + 1} of {len(mine)}: {names[place]}", file=sys.stderr)
    rows = [(place, done[names[place]]) for place in mine]
    for _, row in rows:
        if "failed" in row:
            print(f"left out, cannot be read: {row['name']}: {row['failed']}", file=sys.stderr)
    write_list(args.out.with_name(f"{args.out.name}{part}.json"), rows, categories)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of images, searched with its folders"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the PNGs; the list is beside it")
    parser.add_argument("--seem-repo", type=Path, required=True, help="a checkout of SEEM, branch v1.0")
    parser.add_argument("--config", required=True, help="of the model, relative to the checkout or a path")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--short-side", type=int, default=512)
    parser.add_argument(
        "--shard", type=lambda text: tuple(map(int, text.split("/"))), default=(0, 1), metavar="I/N"
    )
    return parser.parse_args()


def load_seem(args: argparse.Namespace) -> tuple:
    """SEEM, as its demo builds it, and the categories of its answers."""
    import torch

    weights, repo = args.weights.resolve(), args.seem_repo.resolve()
    config = Path(args.config) if Path(args.config).is_file() else repo / args.config
    sys.path.insert(0, str(repo))
    from detectron2.data import MetadataCatalog
    from modeling import build_model
    from modeling.BaseModel import BaseModel
    from utils.arguments import load_opt_from_config_files
    from utils.constants import COCO_PANOPTIC_CLASSES
    from utils.distributed import init_distributed

    options = init_distributed(load_opt_from_config_files([str(config)]))
    model = BaseModel(options, build_model(options)).from_pretrained(str(weights)).eval().to(args.device)
    metadata = MetadataCatalog.get("coco_2017_train_panoptic")
    model.model.metadata = metadata
    for task in ("spatial", "visual", "grounding", "audio"):
        model.model.task_switch[task] = False
    with torch.no_grad():
        encoder = model.model.sem_seg_head.predictor.lang_encoder
        encoder.get_text_embeddings([*COCO_PANOPTIC_CLASSES, "background"], is_eval=True)
    things = set(metadata.thing_dataset_id_to_contiguous_id.values())
    categories = [
        {"id": k, "name": name, "isthing": int(k in things)} for k, name in enumerate(metadata.stuff_classes)
    ]
    return model, categories


def segment_one(args: argparse.Namespace, model, name: str) -> dict:
    """Write an image's PNG; returns what the list says about it."""
    import torch

    try:
        with Image.open(args.images / name) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return {"name": name, "failed": str(error)}
    width, height = (args.short_side * side // min(image.size) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))  # (height, width, 3)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(args.device)
    with torch.no_grad(), torch.autocast(args.device.split(":")[0], enabled=args.device != "cpu"):
        answer = model.model.evaluate([{"image": tensor, "height": height, "width": width}])
    id_map, segments = answer[-1]["panoptic_seg"]
    ids = id_map.cpu().numpy().astype(np.int64)
    png = f"{name}.png"
    write_png(args.out / png, ids)
    infos = [describe(ids == s["id"], s) for s in segments if (ids == s["id"]).any()]
    return {"name": name, "size": image.size, "png": png, "segments": infos}


def describe(mask: np.ndarray, segment: dict) -> dict:
    """A segment as panoptic files list it, in pixels of the PNG."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
    ids = {"id": int(segment["id"]), "category_id": int(segment["category_id"])}
    return {**ids, "iscrowd": 0, "area": int(mask.sum()), "bbox": box}


def write_png(path: Path, ids: np.ndarray) -> None:
    """Ids as colours, R + 256 G + 65536 B, in a file that appears complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colors).save(f"{path}.partial", "PNG")
    os.replace(f"{path}.partial", path)


def read_journal(path: Path) -> dict:
    """Images that are done, by name; a line that a kill tore is cut off."""
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.is_file() else ""
    path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
    return {row["name"]: row for row in map(json.loads, whole.splitlines())}


def write_list(path: Path, rows: list, categories: list) -> None:
    """The JSON of a panoptic data set."""
    good = [(place, row) for place, row in rows if "failed" not in row]
    images = [
        {"id": place, "file_name": row["name"], "width": row["size"][0], "height": row["size"][1]}
        for place, row in good
    ]
    annotations = [
        {"image_id": place, "file_name": row["png"], "segments_info": row["segments"]} for place, row in good
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
