import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from locvlm.world import write
from locvlm.world.shapes import CLASSES
from locvlm.world.write import SPLIT_STREAMS, Split, stream_seed, write_split


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file() and ".parts" not in p.parts)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    assert write_split(Split(name="val", count=12, seed=1), out, workers=1)
    return out


def test_the_files_are_coco(world, capsys):
    coco = COCO(str(world / "annotations" / "instances_val.json"))
    assert len(coco.imgs) == 12
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for annotation in coco.anns.values():
        rle = coco.annToRLE(annotation)
        assert int(coco_mask.area(rle)) == annotation["area"]
        assert [round(v) for v in coco_mask.toBbox(rle)] == annotation["bbox"]
    for image in coco.imgs.values():
        with Image.open(world / "images" / "val" / image["file_name"]) as stored:
            assert stored.size == (image["width"], image["height"])
    captions = json.loads((world / "annotations" / "captions_val.json").read_text())
    assert len(captions["annotations"]) == 5 * 12
    assert {c["image_id"] for c in captions["annotations"]} == set(coco.imgs)


def test_several_workers_write_the_same_world(world, tmp_path):
    write_split(Split(name="val", count=12, seed=1), tmp_path, workers=2)
    assert digest(tmp_path) == digest(world)


def test_a_complete_split_is_left_alone_and_another_seed_replaces_it(tmp_path):
    first = Split(name="train", count=3, seed=1)
    assert write_split(first, tmp_path, workers=1)
    before = digest(tmp_path)
    assert not write_split(first, tmp_path, workers=1)
    assert write_split(Split(name="train", count=2, seed=2), tmp_path, workers=1)
    assert len(list((tmp_path / "images" / "train").iterdir())) == 2
    assert digest(tmp_path)["images/train/000000.jpg"] != before["images/train/000000.jpg"]


def test_an_interrupted_split_goes_on_and_ends_the_same(world, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "CHUNK", 4)
    made = []

    def fails_in_the_second_chunk(seed, index):
        made.append(index)
        if len(made) == 7:
            raise KeyboardInterrupt
        return make_scene(seed, index)

    make_scene = write.make_scene
    monkeypatch.setattr(write, "make_scene", fails_in_the_second_chunk)
    split = Split(name="val", count=12, seed=1)
    with pytest.raises(KeyboardInterrupt):
        write_split(split, tmp_path, workers=1)
    assert not (tmp_path / "annotations" / "instances_val.json").exists()
    write_split(split, tmp_path, workers=1)
    assert made[7:] == list(range(4, 12))  # the first chunk stood
    assert digest(tmp_path) == digest(world)


def test_splits_share_no_scene():
    seeds = [stream_seed(seed, split) for seed in range(20) for split in SPLIT_STREAMS]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("split", [Split(name="test", count=1, seed=0), Split(name="val", count=0, seed=0)])
def test_unknown_and_empty_splits_are_refused(split, tmp_path):
    with pytest.raises(ValueError, match="expected 1 or more"):
        write_split(split, tmp_path)


def test_masks_in_the_files_are_the_scene_s(world):
    scene = write.make_scene(stream_seed(1, "val"), 4)
    coco = json.loads((world / "annotations" / "instances_val.json").read_text())
    rows = [a for a in coco["annotations"] if a["image_id"] == 5]
    for row, seen in zip(rows, scene.objects, strict=True):
        assert np.array_equal(coco_mask.decode(row["segmentation"]).astype(bool), seen.mask)
