"""The world on disk, as COCO writes itself: images, instances and captions.

    DIR/images/{train,val}/*.jpg, DIR/annotations/{instances,captions}_{train,val}.json

Train and val draw scenes from disjoint random streams. A folder that is complete for the same arguments is
left alone; an interrupted one goes on where it stopped.
"""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from locvlm.world.captions import scene_captions
from locvlm.world.parts import Parts, save_json
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


def _parts(split: Split, out: Path) -> Parts:
    folder = out / "annotations"
    return Parts(folder=folder, name=split.name, count=split.count, chunk=CHUNK, made_by=asdict(split))


def _write_part(start: int, parts: Parts, split: Split, out: Path) -> int:
    """Scenes from `start` on and their annotations; returns how many scenes were made."""
    if parts.has(start):
        return len(parts.items(start))
    rows = []
    for index in parts.items(start):
        scene = make_scene(stream_seed(split.seed, split.name), index)
        file_name = f"{index:06d}.jpg"
        target = out / "images" / split.name / file_name
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
    save_json(parts.path(start), rows)
    return len(rows)


def coco_categories() -> list[dict[str, Any]]:
    """The classes as COCO lists them."""
    return [{"id": k, "name": name, "supercategory": "thing"} for k, name in enumerate(CLASSES, 1)]


def _merge(parts: Parts, split: Split, out: Path) -> None:
    images: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for row in parts.rows():
        images.append({key: row[key] for key in ("id", "file_name", "width", "height")})
        for found in row["objects"]:
            instances.append({"id": len(instances) + 1, "image_id": row["id"], **found})
        for text in row["captions"]:
            captions.append({"id": len(captions) + 1, "image_id": row["id"], "caption": text})
    info = {"description": "LocVLM embedded world", **asdict(split)}
    about = {"info": info, "licenses": [], "images": images}
    save_json(
        out / "annotations" / f"instances_{split.name}.json",
        {**about, "annotations": instances, "categories": coco_categories()},
    )
    save_json(out / "annotations" / f"captions_{split.name}.json", {**about, "annotations": captions})


def require_split(split: Split, what: str) -> None:
    """Raise ValueError if the split is unknown or empty."""
    if split.name not in SPLIT_STREAMS or split.count < 1:
        raise ValueError(
            f"cannot make {split.count} {what} of split {split.name!r}; expected 1 or more of one of "
            f"{', '.join(SPLIT_STREAMS)}"
        )


def write_split(split: Split, out: Path, *, workers: int | None = None) -> bool:
    """Make one split under `out`; returns False where it stood already.

    Raises:
        ValueError: if the split is unknown or empty.
    """
    require_split(split, "scenes")
    parts, folder = _parts(split, out), out / "images" / split.name
    folder.mkdir(parents=True, exist_ok=True)
    return parts.write(
        partial(_write_part, parts=parts, split=split, out=out),
        partial(_merge, parts, split, out),
        made=folder.glob("*.jpg"),
        workers=workers,
        what="scene",
    )
