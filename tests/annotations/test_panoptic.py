import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from locvlm.annotations.panoptic import (
    UnreadableMap,
    class_labels,
    measure_segments,
    read_id_map,
    read_panoptic,
)
from locvlm.geometry import Box


def write_map(path, ids):
    """A panoptic PNG of an array of ids."""
    ids = np.asarray(ids)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colors).save(path)


@pytest.fixture
def panoptic():
    """A file of two images; category ids have gaps, as COCO's have."""
    return {
        "images": [
            {"id": 9, "file_name": "a.jpg", "width": 6, "height": 4},
            {"id": 3, "file_name": "b.jpg", "width": 2, "height": 2},
        ],
        "annotations": [
            {
                "image_id": 9,
                "file_name": "a.png",
                "segments_info": [
                    {"id": 70000, "category_id": 1, "iscrowd": 0, "area": 4, "bbox": [1, 0, 2, 2]},
                    {"id": 5, "category_id": 184, "iscrowd": 1, "area": 6, "bbox": [0, 3, 6, 1]},
                ],
            }
        ],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 184, "name": "tree-merged", "isthing": 0},
        ],
    }


@pytest.fixture
def read(tmp_path):
    def read_value(value):
        path = tmp_path / "panoptic.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return read_panoptic(path)

    return read_value


def test_images_come_in_their_order_with_their_segments(read, panoptic):
    file = read(panoptic)
    assert [(i.image, i.width, i.height, i.png) for i in file.images] == [
        ("a.jpg", 6, 4, "a.png"),
        ("b.jpg", 2, 2, None),
    ]
    assert [(s.id, s.category_id, s.iscrowd, s.area) for s in file.images[0].segments] == [
        (70000, 1, 0, 4),
        (5, 184, 1, 6),
    ]
    assert file.images[1].segments == ()
    assert {k: (c.name, bool(c.isthing)) for k, c in file.categories.items()} == {
        1: ("person", True),
        184: ("tree-merged", False),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][0].pop("segments_info"), "expected a COCO panoptic file.*segments_info"),
        (lambda d: d["categories"][0].pop("isthing"), "categories that have isthing: .*isthing"),
        (lambda d: d.pop("images"), "missing required field `images`"),
        (lambda d: d["images"][1].update(id=9), "the image 9 is there twice"),
        (lambda d: d["categories"][1].update(id=1), "the category 1 is there twice"),
        (lambda d: d["annotations"].append(d["annotations"][0]), "annotation of image 9 is there twice"),
        (
            lambda d: d["annotations"][0].update(image_id=8),
            "image 8 has an annotation and is not",
        ),
        (lambda d: d["annotations"][0]["segments_info"][1].update(id=70000), "segment 70000 is there twice"),
        (
            lambda d: d["annotations"][0]["segments_info"][0].update(category_id=2),
            "category_id 2, which",
        ),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=0), "a segment's id is a colour"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=1 << 24), "a segment's id is a colour"),
        (lambda d: d["images"][0].update(width="6"), r"Expected `int`, got `str` - at `\$.images"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(read, panoptic, change, message):
    change(panoptic)
    with pytest.raises(ValueError, match=message) as refusal:
        read(panoptic)
    assert "panoptic.json" in str(refusal.value)


@pytest.mark.parametrize("text", ['{"images": [', "[]", "\xff"])
def test_what_is_no_panoptic_json_is_refused(read, text):
    with pytest.raises(ValueError, match="expected a COCO panoptic file"):
        read(text)


def test_an_instances_file_is_told_apart(shared_data):
    (path, *_) = sorted((shared_data / "coco" / "annotations").glob("instances*.json"))
    with pytest.raises(ValueError, match="expected a COCO panoptic file"):
        read_panoptic(path)


def test_an_id_is_red_plus_256_green_plus_65536_blue(tmp_path):
    write_map(tmp_path / "a.png", [[0, 255, 256], [65535, 65536, 70000]])
    assert read_id_map(tmp_path / "a.png").tolist() == [[0, 255, 256], [65535, 65536, 70000]]


def test_maps_that_cannot_be_read_are_told_of(tmp_path):
    with pytest.raises(UnreadableMap, match=r"a\.png: no such PNG"):
        read_id_map(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UnreadableMap, match=r"b\.png: cannot be read"):
        read_id_map(tmp_path / "b.png")
    Image.new("L", (2, 2)).save(tmp_path / "c.png")
    with pytest.raises(UnreadableMap, match=r"c\.png: .* of mode L; is it a map of classes"):
        read_id_map(tmp_path / "c.png")


def test_extents_by_hand():
    id_map = np.array([[0, 7, 7, 0], [9, 7, 0, 7], [9, 9, 0, 0]], dtype=np.uint32)
    assert measure_segments(id_map) == {7: (4, Box(1, 0, 4, 2)), 9: (3, Box(0, 1, 2, 3))}


def test_one_segment_that_wraps_around_rows_is_not_one_run():
    id_map = np.array([[0, 0, 5], [5, 0, 0]], dtype=np.uint32)
    assert measure_segments(id_map) == {5: (2, Box(0, 0, 3, 2))}
    assert measure_segments(np.zeros((3, 2), dtype=np.uint32)) == {}


@pytest.mark.parametrize("seed", range(20))
def test_extents_by_runs_are_those_of_masks(seed):
    """The plain twin: one mask per id."""
    rng = np.random.default_rng(seed)
    height, width, blocks = rng.integers(1, 40), rng.integers(1, 40), rng.integers(1, 5)
    id_map = rng.integers(0, 6, (height, width), dtype=np.uint32).repeat(blocks, 0).repeat(blocks, 1)
    id_map[id_map == 3] = (1 << 24) - 1
    expected = {}
    for segment_id in set(id_map.ravel().tolist()) - {0}:
        mask = id_map == segment_id
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        expected[segment_id] = (mask.sum(), Box(xs[0], ys[0], xs[-1] + 1, ys[-1] + 1))
    assert measure_segments(id_map) == expected


def test_all_segments_of_the_real_sample_are_exact(shared_data):
    """Against segments_info and against the detection-format JSON that COCO's own tools made of it."""
    folder = shared_data / "panoptic" / "sample_data"
    file = read_panoptic(folder / "panoptic_examples.json")
    detection = json.loads((folder / "panoptic_coco_detection_format.json").read_text())
    expected = Counter(
        (a["image_id"], a["category_id"], a["iscrowd"], a["area"], tuple(a["bbox"]))
        for a in detection["annotations"]
    )
    found = Counter()
    for image in file.images:
        extents = measure_segments(read_id_map(folder / "panoptic_examples" / image.png))
        assert set(extents) == {segment.id for segment in image.segments}
        for segment in image.segments:
            area, box = extents[segment.id]
            xywh = (box.x1, box.y1, box.width, box.height)
            assert (area, xywh) == (segment.area, segment.bbox)
            found[int(image.image[:-4]), segment.category_id, segment.iscrowd, area, xywh] += 1
    assert found.total() == 50
    assert found == expected


def test_names_of_stuff_are_said_as_one_speaks():
    names = ["person", "sky-other-merged", "door-stuff", "water-other", "tree-merged", "wall-brick"]
    assert class_labels(names) == dict(
        zip(names, ["person", "sky", "door", "water", "tree", "wall brick"], strict=True)
    )
    assert class_labels(["wall-other", "wall-merged", "rug-merged"]) == {
        "wall-other": "wall-other",
        "wall-merged": "wall-merged",
        "rug-merged": "rug",
    }


def test_the_labels_of_coco_stay_apart(shared_data):
    rows = json.loads((shared_data / "panoptic" / "panoptic_coco_categories.json").read_text())
    labels = class_labels(row["name"] for row in rows)
    assert len(set(labels.values())) == 133
    assert all(labels[row["name"]] == row["name"] for row in rows if row["isthing"])
