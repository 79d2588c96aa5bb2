"""The world's clips on disk, in the forms in which data sets of videos come.

DIR/videos/SPLIT/000000.mp4                    H.264
DIR/annotations/clips_SPLIT.json               COCO instances: an image per frame, "000000.mp4/000002.jpg"
                                               (no such file is written), of a video of "videos"
DIR/annotations/panoptic_clips_SPLIT.json      COCO panoptic, of eight frames a clip, with its PNGs in the
                                               folder of that name: for localize_activitynet --panoptic
DIR/annotations/instruct_clips_SPLIT.jsonl     records: a description and short questions
DIR/annotations/instruct_clips_SPLIT.json      the same in LLaVA's form for videos, one question an entry
DIR/annotations/qa_clips_SPLIT.jsonl           records: the short questions alone
"""

import random
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from locvlm.constants import VIDEO_TOKEN
from locvlm.io import record_to_json, write_jsonl
from locvlm.records import Record
from locvlm.world.clip_words import ask_clip, ask_for_description
from locvlm.world.clips import FRAMES_PER_SECOND, NUM_FRAMES, SAMPLED, Clip, make_clip
from locvlm.world.parts import Parts, save_json
from locvlm.world.shapes import CLASSES
from locvlm.world.textures import BACKGROUNDS
from locvlm.world.write import Split, coco_categories, require_split, stream_seed

CLIPS_VERSION = 1  # raise it when the same seed would make other clips
CHUNK = 50  # clips of a resumable part
QUALITY = 14  # H.264's rate factor: near to what cannot be told from the original
_STUFF = 100  # ids of backgrounds begin here, as categories and as segments


def encode_mp4(frames: tuple[Image.Image, ...], path: Path) -> None:
    """Write the frames as H.264, whole or not at all.

    The pictures are alike in every run but for what coding loses; the bytes are not always: of hundreds of
    encodings of one clip with a single thread, a few come out differently.
    """
    partial_path = path.with_name(f".{path.name}.partial")
    with av.open(str(partial_path), "w", format="mp4") as out:
        options = {"crf": str(QUALITY), "preset": "veryfast", "threads": "1"}
        stream = out.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_image(image)))
        out.mux(stream.encode())
    partial_path.replace(path)


def frame_name(video: str, frame: int) -> str:
    """How a frame is called in files of annotations."""
    return f"{video}/{frame:06d}.jpg"


def instances_of(clip: Clip) -> list[list[dict[str, Any]]]:
    """COCO annotations without ids, for each frame: RLE, area and `bbox` (x, y, width, height in pixels)."""
    rows: list[list[dict[str, Any]]] = [[] for _ in range(NUM_FRAMES)]
    for k, actor in enumerate(clip.actors, start=1):
        masks = np.asfortranarray((clip.id_maps == k).astype(np.uint8).transpose(1, 2, 0))  # (H, W, T)
        encoded = coco_mask.encode(masks)
        areas = coco_mask.area(encoded)
        for frame, box in enumerate(actor.boxes_px):
            if box is None:
                continue
            x1, y1, x2, y2 = box
            rle = {"size": encoded[frame]["size"], "counts": encoded[frame]["counts"].decode()}
            rows[frame].append(
                {
                    "category_id": CLASSES.index(actor.category) + 1,
                    "instance_id": k,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": int(areas[frame]),
                    "segmentation": rle,
                    "iscrowd": 0,
                }
            )
    return rows


def write_id_map(clip: Clip, frame: int, path: Path) -> None:
    """A frame's panoptic PNG: objects are 1, 2, ..., the background is 100 and on."""
    ids = clip.id_maps[frame]
    colors = np.zeros((*ids.shape, 3), dtype=np.uint8)
    colors[..., 0] = np.where(ids == 0, _background_id(clip), ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colors).save(path)


def _background_id(clip: Clip) -> int:
    return _STUFF + list(BACKGROUNDS).index(clip.background)


def _panoptic_categories() -> list[dict[str, Any]]:
    things = [{**category, "isthing": 1} for category in coco_categories()]
    stuff = [
        {"id": _STUFF + k, "name": name, "supercategory": "background", "isthing": 0}
        for k, name in enumerate(BACKGROUNDS)
    ]
    return things + stuff


def records_of(clip: Clip, video: str, *, seed: str) -> tuple[Record, Record]:
    """(what is taught about it, with a description first; the short questions alone)."""
    rng = random.Random(f"clip words/{seed}/{video}")
    width, height = clip.size
    acts = {actor.category: actor.act for actor in clip.actors}
    questions = tuple(asked.query() for asked in ask_clip(clip, rng))
    record = Record(
        id=f"qa/{video}", image=None, video=video, width=width, height=height, queries=questions,
        source={"acts": acts},
    )  # fmt: skip
    described = (ask_for_description(clip, rng), *questions)
    taught = Record(
        id=f"instruct/{video}", image=None, video=video, width=width, height=height, queries=described
    )
    return taught, record


def llava_of(record: Record) -> list[dict[str, Any]]:
    """An entry for each question: in one dialogue, the description would give later answers away."""
    return [
        {
            "id": f"{record.id}-{number}",
            "video": record.video,
            "conversations": [
                {"from": "human", "value": f"{VIDEO_TOKEN}\n{query.question}"},
                {"from": "gpt", "value": query.answer},
            ],
        }
        for number, query in enumerate(record.queries)
    ]


def _write_part(start: int, parts: Parts, split: Split, out: Path) -> int:
    """Clips from `start` on and all that is said about them; returns how many were made."""
    if parts.has(start):
        return len(parts.items(start))
    seed = stream_seed(split.seed, split.name)
    pngs = out / "annotations" / f"panoptic_clips_{split.name}"
    rows = []
    for index in parts.items(start):
        clip, video = make_clip(seed, index), f"{index:06d}.mp4"
        encode_mp4(clip.frames, out / "videos" / split.name / video)
        for frame in SAMPLED:
            write_id_map(clip, frame, pngs / _png_name(video, frame))
        taught, asked = records_of(clip, video, seed=str(seed))
        rows.append(
            {
                "video": video,
                "size": clip.size,
                "background": _background_id(clip),
                "instances": instances_of(clip),
                "taught": record_to_json(taught),
                "asked": record_to_json(asked),
                "llava": llava_of(taught),
            }
        )
    save_json(parts.path(start), rows)
    return len(rows)


def _png_name(video: str, frame: int) -> str:
    return str(Path(frame_name(video, frame)).with_suffix(".png"))


def _parts(split: Split, out: Path) -> Parts:
    return Parts(
        folder=out / "annotations",
        name=f"clips_{split.name}",
        count=split.count,
        chunk=CHUNK,
        made_by={**asdict(split), "clips_version": CLIPS_VERSION},
    )


def _merge(parts: Parts, split: Split, out: Path) -> None:
    notes = out / "annotations"
    info = {"description": "LocVLM embedded world, clips", **parts.made_by}
    rows = list(parts.rows())
    save_json(notes / f"clips_{split.name}.json", {"info": info, "licenses": [], **_coco(rows)})
    save_json(notes / f"panoptic_clips_{split.name}.json", {"info": info, "licenses": [], **_panoptic(rows)})
    write_jsonl(notes / f"instruct_clips_{split.name}.jsonl", (row["taught"] for row in rows))
    write_jsonl(notes / f"qa_clips_{split.name}.jsonl", (row["asked"] for row in rows))
    save_json(notes / f"instruct_clips_{split.name}.json", [entry for row in rows for entry in row["llava"]])


def _coco(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every frame is an image of a video."""
    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video_id, row in enumerate(rows, start=1):
        width, height = row["size"]
        size = {"width": width, "height": height}
        videos.append({"id": video_id, "name": row["video"], **size})
        for frame, found in enumerate(row["instances"]):
            image_id = len(images) + 1
            name = frame_name(row["video"], frame)
            images.append(
                {"id": image_id, "file_name": name, **size, "video_id": video_id, "frame_id": frame}
            )
            annotations += [
                {"id": len(annotations) + k, "image_id": image_id, **instance}
                for k, instance in enumerate(found, start=1)
            ]
    return {"videos": videos, "images": images, "annotations": annotations, "categories": coco_categories()}


def _panoptic(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The frames that a segmenter is asked about."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row in rows:
        width, height = row["size"]
        for frame in SAMPLED:
            image_id, name = len(images) + 1, frame_name(row["video"], frame)
            found = row["instances"][frame]
            things = [
                {
                    "id": instance["instance_id"],
                    **{key: instance[key] for key in ("category_id", "area", "bbox", "iscrowd")},
                }
                for instance in found
            ]
            stuff = {
                "id": row["background"],
                "category_id": row["background"],
                "area": width * height - sum(thing["area"] for thing in things),
                "iscrowd": 0,
            }
            images.append({"id": image_id, "file_name": name, "width": width, "height": height})
            annotations.append(
                {
                    "image_id": image_id,
                    "file_name": _png_name(row["video"], frame),
                    "segments_info": [*things, stuff],
                }
            )
    return {"images": images, "annotations": annotations, "categories": _panoptic_categories()}


def write_clips(split: Split, out: Path, *, workers: int | None = None) -> bool:
    """Make one split of clips under `out`; returns False where it stood already.

    Raises:
        ValueError: if the split is unknown or empty.
    """
    require_split(split, "clips")
    parts, folder = _parts(split, out), out / "videos" / split.name
    folder.mkdir(parents=True, exist_ok=True)
    pngs = out / "annotations" / f"panoptic_clips_{split.name}"
    return parts.write(
        partial(_write_part, parts=parts, split=split, out=out),
        partial(_merge, parts, split, out),
        made=chain(folder.glob("*.mp4"), pngs.glob("*/*.png")),
        workers=workers,
        what="clip",
    )
