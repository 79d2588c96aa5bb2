"""The world on disk, as COCO writes itself: images, instances and captions.

    DIR/images/{train,val}/*.jpg, DIR/annotations/{instances,captions}_{train,val}.json

Train and val draw scenes from disjoint random streams. A folder that is complete for the same arguments is
left alone; an interrupted one goes on where it stopped.
"""

import json
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from locvlm.world.captions import scene_captions
from locvlm.world.scenes import Scene, make_scene
from locvlm.world.shapes import CLASSES

WORLD_VERSION = 1  # raise it when the same seed would draw other scenes
JPEG_QUALITY = 90
CHUNK = 250  # scenes per resumable part
SPLIT_STREAMS = {"train": 0, "val": 1, "pretrain": 2}  # one random stream each, so that no scene is in two


def stream_seed(seed: int, split: str) -> int:
    """The seed of a split's scenes: splits of all seeds are disjoint."""
    return seed * len(SPLIT_STREAMS) + SPLIT_STREAMS[split]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """What is written for one split."""

    name: str
    count: int
    seed: int
    version: int = WORLD_VERSION


def _save_atomically(path: Path, data: bytes) -> None:
    partial_path = path.with_name(path.name + ".partial")
    partial_path.write_bytes(data)
    partial_path.replace(path)


def _save_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _save_atomically(path, json.dumps(value).encode())


def annotations_of(scene: Scene) -> list[dict[str, Any]]:
    """COCO annotations without ids: compressed RLE, area and `bbox` (x, y, width, height in scene pixels)."""
    rows = []
    for seen in scene.objects:
        rle = coco_mask.encode(np.asfortranarray(seen.mask.astype(np.uint8)))
        x1, y1, x2, y2 = seen.box_px
        rows.append(
            {
                "category_id": CLASSES.index(seen.category) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(seen.mask.sum()),
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "iscrowd": 0,
            }
        )
    return rows


def _write_chunk(start: int, split: Split, out: str) -> int:
    """Scenes `start` to `start + CHUNK` and their annotations; returns how many scenes were made."""
    part = Path(out) / "annotations" / ".parts" / f"{split.name}_{start:06d}.json"
    stop = min(start + CHUNK, split.count)
    if part.exists() and len(json.loads(part.read_bytes())) == stop - start:
        return stop - start
    rows = []
    for index in range(start, stop):
        scene = make_scene(stream_seed(split.seed, split.name), index)
        file_name = f"{index:06d}.jpg"
        target = Path(out) / "images" / split.name / file_name
        scene.image.save(target, quality=JPEG_QUALITY)
        rows.append(
            {
                "id": index + 1,
                "file_name": file_name,
                "width": scene.image.width,
                "height": scene.image.height,
                "objects": annotations_of(scene),
                "captions": scene_captions(scene, stream_seed(split.seed, split.name), index),
            }
        )
    _save_json(part, rows)
    return stop - start


def _merge(split: Split, out: Path) -> None:
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    parts = [
        out / "annotations" / ".parts" / f"{split.name}_{s:06d}.json" for s in range(0, split.count, CHUNK)
    ]
    for part in parts:
        for row in json.loads(part.read_bytes()):
            images.append({key: row[key] for key in ("id", "file_name", "width", "height")})
            for found in row["objects"]:
                instances.append({"id": len(instances) + 1, "image_id": row["id"], **found})
            for text in row["captions"]:
                captions.append({"id": len(captions) + 1, "image_id": row["id"], "caption": text})
    info = {"description": "LocVLM embedded world", **asdict(split)}
    categories = [{"id": k, "name": name, "supercategory": "thing"} for k, name in enumerate(CLASSES, 1)]
    _save_json(
        out / "annotations" / f"instances_{split.name}.json",
        {"info": info, "licenses": [], "images": images, "annotations": instances, "categories": categories},
    )
    _save_json(
        out / "annotations" / f"captions_{split.name}.json",
        {"info": info, "licenses": [], "images": images, "annotations": captions},
    )
    for part in parts:
        part.unlink()


def _is_complete(split: Split, out: Path) -> bool:
    stamp = out / "annotations" / f"{split.name}.stamp.json"
    return stamp.exists() and json.loads(stamp.read_bytes()) == asdict(split)


def _clear_other(split: Split, out: Path) -> None:
    """Forget parts of a run with other arguments, so that two worlds never mix."""
    parts = out / "annotations" / ".parts"
    parts.mkdir(parents=True, exist_ok=True)
    started = parts / f"{split.name}.started.json"
    if not started.exists() or json.loads(started.read_bytes()) != asdict(split):
        (out / "annotations" / f"{split.name}.stamp.json").unlink(missing_ok=True)
        for stale in [*parts.glob(f"{split.name}_*.json"), *(out / "images" / split.name).glob("*.jpg")]:
            stale.unlink()
        _save_json(started, asdict(split))


def _chunks_done(split: Split, out: Path, workers: int) -> Iterator[int]:
    job = partial(_write_chunk, split=split, out=str(out))
    starts = range(0, split.count, CHUNK)
    if workers <= 1:
        yield from map(job, starts)
        return
    # spawn: a forked worker would inherit locks of torch's threads where a caller has imported it
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(job, starts)


def write_split(split: Split, out: Path, *, workers: int | None = None) -> bool:
    """Make one split under `out`; returns False where it stood already.

    Raises:
        ValueError: if the split is unknown or empty.
    """
    if split.name not in SPLIT_STREAMS or split.count < 1:
        raise ValueError(
            f"cannot make {split.count} scenes of split {split.name!r}; expected 1 or more of one of "
            f"{', '.join(SPLIT_STREAMS)}"
        )
    if _is_complete(split, out):
        return False
    (out / "images" / split.name).mkdir(parents=True, exist_ok=True)
    _clear_other(split, out)
    with tqdm(total=split.count, desc=f"{split.name} scenes", unit="scene") as bar:
        for made in _chunks_done(split, out, workers or os.cpu_count() or 1):
            bar.update(made)
    _merge(split, out)
    _save_json(out / "annotations" / f"{split.name}.stamp.json", asdict(split))
    return True
