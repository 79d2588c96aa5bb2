import json

import pytest

from locvlm.annotations.coco import read_instances
from locvlm.building.segmenting.coco_file import Found, join_coco_files, write_coco_file
from locvlm.building.segmenting.segment import Category, Segment, Segmented
from locvlm.geometry import Box
from locvlm.io import Ledger

CATEGORIES = [Category("dog", True), Category("sky", False), Category("café", True)]
DOG = Segment(category="dog", is_thing=True, box_px=Box(1, 2, 11.333, 22), area_px=150)
SKY = Segment(category="sky", is_thing=False, box_px=Box(0, 0, 100, 30), area_px=2000)
CUP = Segment(category="café", is_thing=True, box_px=Box(50, 50, 52, 52), area_px=3)


def found(places, segments=(DOG, SKY, CUP)):
    answer = Segmented(size=(100, 80), segments=segments)
    return lambda: [Found(place, f"ü/{place}.jpg", answer) for place in places]


def test_localize_instruct_reads_it_as_it_reads_coco(tmp_path):
    path = tmp_path / "a.json"
    assert write_coco_file(path, CATEGORIES, found([0, 4])) == (2, 4)
    ledger = Ledger("annotations")
    images = list(read_instances(path, ledger))
    assert ledger.num_dropped == 0
    assert [(i.image_id, i.image, i.width, i.height) for i in images] == [
        ("1", "ü/0.jpg", 100, 80),
        ("5", "ü/4.jpg", 100, 80),
    ]
    for image in images:
        assert [(o.category, o.is_crowd) for o in image.objects] == [("dog", False), ("café", False)]
        assert image.objects[0].box_px == pytest.approx((1, 2, 11.33, 22))
    assert images[1].objects[1].annotation_id == "5001"


def test_stuff_is_left_out_unless_it_is_asked_for(tmp_path):
    path = tmp_path / "a.json"
    write_coco_file(path, CATEGORIES, found([0]))
    assert [c["name"] for c in json.loads(path.read_text())["categories"]] == ["dog", "café"]
    write_coco_file(path, CATEGORIES, found([0]), with_stuff=True)
    (image,) = read_instances(path, Ledger("annotations"))
    assert [o.category for o in image.objects] == ["dog", "sky", "café"]


def test_what_is_small_is_present_and_not_asked_about(tmp_path):
    path = tmp_path / "a.json"
    write_coco_file(path, CATEGORIES, found([0]), min_area_px=10)
    (image,) = read_instances(path, Ledger("annotations"))
    assert [(o.category, o.is_crowd) for o in image.objects] == [("dog", False), ("café", True)]


def test_an_image_in_which_nothing_was_found_is_an_image(tmp_path):
    path = tmp_path / "a.json"
    assert write_coco_file(path, CATEGORIES, found([0], segments=())) == (1, 0)
    (image,) = read_instances(path, Ledger("annotations"))
    assert image.objects == ()


def test_shards_joined_are_the_file_of_all(tmp_path):
    places = [[0, 1, 2], [], [3], [4, 5]]
    parts = []
    for k, part in enumerate(places):
        parts.append(tmp_path / f"{k}.json")
        write_coco_file(parts[-1], CATEGORIES, found(part))
    write_coco_file(tmp_path / "all.json", CATEGORIES, found(range(6)))
    assert join_coco_files(tmp_path / "joined.json", parts) == (6, 12)
    assert (tmp_path / "joined.json").read_bytes() == (tmp_path / "all.json").read_bytes()


def test_only_files_of_one_build_are_joined(tmp_path):
    one, other, foreign = (tmp_path / f"{name}.json" for name in ("one", "other", "foreign"))
    write_coco_file(one, CATEGORIES, found([0]))
    write_coco_file(other, CATEGORIES[:2], found([1]))
    foreign.write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"other\.json has other categories than"):
        join_coco_files(tmp_path / "joined.json", [one, other])
    with pytest.raises(ValueError, match=r"foreign\.json was not written by pseudo_boxes"):
        join_coco_files(tmp_path / "joined.json", [one, foreign])
    assert not (tmp_path / "joined.json").exists()


def test_more_segments_than_ids_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="1000 segments, more than there are ids"):
        write_coco_file(tmp_path / "a.json", CATEGORIES, found([0], segments=(DOG,) * 1000))
    assert not (tmp_path / "a.json").exists()
