import json
from collections import Counter

import pytest

from locvlm.annotations.coco import CLIPPED, read_captions, read_coco, read_instances
from locvlm.geometry import Box
from locvlm.io import Ledger

IMAGES = [
    {"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 640, "height": 480},
    {"id": 25, "file_name": "000000000025.jpg", "width": 100, "height": 50},
]
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]


def annotation(bbox, *, id=1, image_id=9, category_id=1, **more):
    return {"id": id, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0, **more}


def write(path, *, annotations, images=IMAGES, categories=CATEGORIES):
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def instances(tmp_path):
    def write_instances(*annotations, **sections):
        return write(tmp_path / "instances.json", annotations=list(annotations), **sections)

    return write_instances


@pytest.fixture
def captions(tmp_path):
    def write_captions(*annotations, images=IMAGES):
        path = tmp_path / "captions.json"
        path.write_text(json.dumps({"images": images, "annotations": list(annotations)}))
        return path

    return write_captions


def test_boxes_become_corners_in_source_pixels_under_their_image(instances):
    path = instances(
        annotation([10, 20, 30, 40]), annotation([1, 2, 3, 4], id=2, image_id=25, category_id=90, iscrowd=1)
    )
    ledger = Ledger()
    first, second = read_instances(path, ledger)
    assert (first.image_id, first.image) == ("9", "COCO_train2014_000000000009.jpg")
    assert (first.width, first.height) == (640, 480)
    assert first.objects[0].category == "person"
    assert first.objects[0].box_px == Box(10, 20, 40, 60)
    assert not first.objects[0].is_crowd
    assert second.objects[0].category == "toothbrush"
    assert second.objects[0].is_crowd
    assert (ledger.num_kept, ledger.num_dropped) == (2, 0)


def test_images_without_annotations_are_there(instances):
    assert [image.objects for image in read_instances(instances(), Ledger())] == [(), ()]


@pytest.mark.parametrize(
    ("bbox", "reason"),
    [
        ([10, 20, 0, 40], "box without area"),
        ([10, 20, 5, -1], "box without area"),
        ([640, 20, 5, 5], "box outside the image"),
        ([-9, -9, 9, 9], "box outside the image"),
        ([10, 20, 30], "bbox is not four finite numbers"),
        ([10, 20, None, 4], "bbox is not four finite numbers"),
        ({"x": 1}, "bbox is not four finite numbers"),
    ],
)
def test_an_unusable_box_is_dropped_and_counted(instances, bbox, reason):
    ledger = Ledger()
    images = list(read_instances(instances(annotation(bbox), annotation([1, 1, 2, 2], id=2)), ledger))
    assert len(images[0].objects) == 1
    assert dict(ledger.dropped) == {reason: 1}
    assert ledger.num_kept == 1


def test_a_box_over_the_border_is_clipped_and_counted_unless_by_rounding(instances):
    repairs = Counter()
    path = instances(annotation([600, -20, 100, 40]), annotation([0, 0, 640.4, 480], id=2))
    image = next(read_instances(path, Ledger(), repairs=repairs))
    assert [item.box_px for item in image.objects] == [Box(600, 0, 640, 20), Box(0, 0, 640, 480)]
    assert repairs == {CLIPPED: 1}


def test_captions_are_merged_by_image_id_and_blank_ones_dropped(instances, captions):
    caption_path = captions(
        {"id": 1, "image_id": 25, "caption": " Two  dogs.\n"},
        {"id": 2, "image_id": 25, "caption": "A dog."},
        {"id": 3, "image_id": 9, "caption": " \n"},
    )
    ledger = Ledger()
    merged = list(
        read_coco(instances=instances(annotation([1, 1, 5, 5])), captions=caption_path, ledger=ledger)
    )
    assert [image.captions for image in merged] == [(), ("Two dogs.", "A dog.")]
    assert len(merged[0].objects) == 1
    assert dict(ledger.dropped) == {"empty caption": 1}
    assert [image.captions for image in read_captions(caption_path, Ledger())] == [(), merged[1].captions]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"annotations": [annotation([1, 1, 2, 2], image_id=7)]}, r"annotations\[0\]: image_id 7 is not"),
        ({"annotations": [annotation([1, 1, 2, 2], category_id=2)]}, r"annotations\[0\]: category_id 2 is"),
        ({"annotations": [annotation([1, 1, 2, 2])] * 2}, r"annotations\[1\]: the id 1 is there twice"),
        ({"annotations": [{"id": 1, "image_id": 9, "caption": "a"}]}, "expected an instances file, got one"),
        ({"annotations": ["a"]}, r"annotations\[0\]: expected an object, got 'a'"),
        ({"annotations": [annotation([1, 1, 2, 2], id="1")]}, r"annotations\[0\]: 'id' must be int, got '1'"),
        ({"annotations": [], "images": IMAGES[:1] * 2}, r"images\[1\]: the id 9 is there twice"),
        ({"annotations": [], "categories": CATEGORIES[:1] * 2}, r"categories\[1\]: the id 1 is there twice"),
        (
            {"annotations": [], "images": [{"id": 9, "width": 640, "height": 480}]},
            r"images\[0\]: 'file_name' must be str, got None",
        ),
        (
            {"annotations": [], "images": [{**IMAGES[0], "width": 0}]},
            r"images\[0\]: 'width' must be a whole number of pixels above 0, got 0",
        ),
        (
            {"annotations": [], "images": [{**IMAGES[0], "width": float("inf")}]},
            "not valid JSON",
        ),
    ],
)
def test_a_file_that_contradicts_itself_stops(tmp_path, sections, message):
    path = write(tmp_path / "instances.json", **sections)
    with pytest.raises(ValueError, match=message) as error:
        list(read_instances(path, Ledger()))
    assert "instances.json" in str(error.value)


def test_files_that_disagree_about_an_image_stop(instances, captions):
    other = captions(images=[{**IMAGES[0], "width": 641}])
    with pytest.raises(ValueError, match=r"image 9 is .*641.* here and .*640.* in the other file"):
        list(read_coco(instances=instances(), captions=other, ledger=Ledger()))


def test_other_json_stops(tmp_path, captions):
    path = tmp_path / "other.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"other.json: expected a COCO file, one JSON object, got list"):
        list(read_instances(path, Ledger()))
    with pytest.raises(ValueError, match="a list of 'categories', it has images, annotations"):
        list(read_instances(captions(), Ledger()))
    with pytest.raises(ValueError, match="got neither"):
        list(read_coco(ledger=Ledger()))


def test_real_coco_files_are_read_whole(shared_data):
    folder = shared_data / "coco" / "annotations"
    ledger = Ledger()
    images = list(
        read_coco(
            instances=folder / "instances_train2017.json",
            captions=folder / "captions_train2017.json",
            ledger=ledger,
        )
    )
    assert len(images) == 39
    assert sum(len(image.objects) for image in images) == 407
    assert all(len(image.captions) >= 5 for image in images)
    assert ledger.num_dropped == 0
    assert all(
        0 <= item.box_px.x1 < item.box_px.x2 <= image.width
        and 0 <= item.box_px.y1 < item.box_px.y2 <= image.height
        for image in images
        for item in image.objects
    )
