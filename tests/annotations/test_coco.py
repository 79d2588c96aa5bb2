import gc
import json
import random
from collections import Counter

import pytest

from locvlm.annotations.coco import CLIPPED, read_captions, read_coco, read_instances
from locvlm.annotations.coco_structs import decode_captions, decode_instances
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
        ([10, 20, float("nan"), 4], "bbox is not four finite numbers"),
        ([float("-inf"), 20, float("inf"), 4], "bbox is not four finite numbers"),
    ],
)
def test_an_unusable_box_is_dropped_and_counted(instances, bbox, reason):
    ledger = Ledger()
    images = list(read_instances(instances(annotation(bbox), annotation([1, 1, 2, 2], id=2)), ledger))
    assert len(images[0].objects) == 1
    assert dict(ledger.dropped) == {reason: 1}
    assert ledger.num_kept == 1
    assert images[0].unplaced == (images[0].objects[0].category,)  # of the same class, as both are


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
            r"images\[0\]: 'width' must be a whole number of pixels above 0, got inf",
        ),
    ],
)
def test_a_file_that_contradicts_itself_stops(tmp_path, sections, message):
    path = write(tmp_path / "instances.json", **sections)
    with pytest.raises(ValueError, match=message) as error:
        list(read_instances(path, Ledger()))
    assert "instances.json" in str(error.value)


# ---- the fast reader and its plain twin


def outcome(*, fast, **paths):
    """All that reading says: images, counts and repairs, or the error."""
    ledger, repairs = Ledger(), Counter()
    try:
        images = list(read_coco(**paths, ledger=ledger, repairs=repairs, fast=fast))
    except ValueError as error:
        return str(error)
    return repr(images), ledger.to_dict(), repairs  # repr tells 1 from 1.0


POLYGONS = {"segmentation": [[10.5, 20, 30, 20, 30, 40.25]], "area": 12.5}
RLE = {"segmentation": {"counts": "a:]NaN,b", "size": [480, 640]}, "iscrowd": 1}
UNUSABLE = [[1, 2, -3, 4], [1, 2, 0, 4], [900, 1, 2, 2], [1, 2, 3], [1, None, 3, 4], "x", None, [1, [], 2, 3]]
ODD = [*UNUSABLE, [600.5, 400, 90, 90], [-0.5, -0.0, 10, 10], [True, 0, 2, 2], [0, 0, 640, 480.0]]
READABLE = {
    "polygons, masks and crowds": [
        annotation([10, 20, 30.5, 40], **POLYGONS),
        annotation([1, 1, 2, 2], id=2, **RLE),
    ],
    "a crowd by another word": [annotation([1, 1, 2, 2]) | {"iscrowd": True}],
    "no iscrowd": [{"id": 1, "image_id": 25, "category_id": 90, "bbox": [1, 1, 2, 2]}],
    "boxes of every kind": [annotation(bbox, id=number) for number, bbox in enumerate(ODD)],
    "nothing": [],
}
ELSEWHERE = {
    "float sizes": {"images": [{**IMAGES[0], "width": 640.0, "height": 480.0}, IMAGES[1]]},
    "names in other scripts": {
        "categories": [{"id": 1, "name": "Füße 足 \U0001f9b6"}],
        "images": [IMAGES[0]],
    },
    "more sections and fields": {"info": {"a": [1]}, "images": [{**IMAGES[0], "coco_url": "http://x"}]},
}


@pytest.mark.parametrize("name", [*READABLE, *ELSEWHERE])
def test_both_readers_agree_object_by_object(tmp_path, name):
    sections = {"annotations": READABLE.get(name, [annotation([1, 2, 3, 4])]), **ELSEWHERE.get(name, {})}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": IMAGES, "categories": CATEGORIES, **sections}, ensure_ascii=False))
    assert decode_instances(path) is not None  # so that it is the fast one that reads
    images, *_ = fast = outcome(instances=path, fast=True)
    assert fast == outcome(instances=path, fast=False)
    assert "ImageAnnotation" in images


def test_both_readers_agree_on_many_made_up_instances(instances):
    rng = random.Random(0)
    numbers = [0, 1, 5.5, 99.75, 100, 480, 640, 640.25, -3, -0.5]
    entries = [
        annotation(
            [rng.choice(numbers) for _ in range(4)],
            id=number,
            image_id=rng.choice((9, 25)),
            category_id=rng.choice((1, 90)),
            **rng.choice((POLYGONS, RLE, {})),
        )
        for number in rng.sample(range(10**6), 2000)
    ]
    path = instances(*entries)
    assert decode_instances(path) is not None
    _, counts, repairs = fast = outcome(instances=path, fast=True)
    assert fast == outcome(instances=path, fast=False)
    assert min(counts["kept"], counts["dropped"], repairs[CLIPPED]) > 100


FAULTS = [
    '{"images": [], "annotations": [], "categories": [], "info": NaN}',
    '{"images": [], "annotations": []}',
    '{"images": {}, "annotations": [], "categories": []}',
    '{"images": [], "annotations": [], "categories": []} x',
    '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "\\ud83d"}]}',
    "[]",
    "",
    '{"images": [], "annot',
    '{"images": [], "annotations": [], "categories": [{"id": 1.0, "name": "a"}]}',
    '{"images": [], "annotations": [], "categories": [{"id": true, "name": "a"}]}',
    '{"images": [], "annotations": [], "categories": [{"id": 1, "name": null}]}',
    *(
        '{"annotations": [], "categories": [], "images": [{"id": 1, "file_name": "a", "height": 1, "width": '
        + width
        + "}]}"
        for width in ("1.5", "true", "1e999", "NaN")
    ),
]
FAULTY_ANNOTATIONS = [
    [annotation([1, 1, 2, float("nan")]), annotation([1, 1, 2, 2], id=2)],
    [annotation([1, 1, 2, 2]), annotation([1, 1, float("inf"), 2], id=2)],
    [annotation([1, 1, 2, 2], area=float("nan"))],
    [annotation([1, 1, 2, 2], image_id=7)],
    [annotation([1, 1, 2, 2], image_id="9")],
    [annotation([1, 1, 2, 2], category_id=2)],
    [annotation([1, 1, 2, 2]), annotation([1, 1, 2, 2])],
    [{"id": 1, "image_id": 9, "caption": "A dog."}],
    [{"image_id": 9, "category_id": 1, "bbox": [1, 1, 2, 2]}],
    ["a"],
]


def test_what_the_fast_reader_refuses_is_as_the_plain_one_says(tmp_path):
    files = [
        *FAULTS,
        *(
            json.dumps({"images": IMAGES, "categories": CATEGORIES, "annotations": a})
            for a in FAULTY_ANNOTATIONS
        ),
    ]
    path = tmp_path / "instances.json"
    results = []
    for content in files:
        path.write_text(content)
        assert decode_instances(path) is None, content
        results.append(outcome(instances=path, fast=True))
        assert results[-1] == outcome(instances=path, fast=False), content
    assert (
        sum(isinstance(result, str) for result in results)
        == len(files) - 5  # NaN where it stops nothing, and half an emoji
    )  # NaN in five places stops nothing
    path.write_bytes(b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "\xff"}]}')
    assert "not valid JSON" in outcome(instances=path, fast=True)
    assert outcome(instances=path, fast=True) == outcome(instances=path, fast=False)


def test_both_readers_agree_about_captions(instances, captions):
    path = captions(
        {"id": 1, "image_id": 25, "caption": " Zwei  Füße.\n"}, {"id": 2, "image_id": 9, "caption": " "}
    )
    assert decode_captions(path) is not None
    for paths in ({"captions": path}, {"captions": path, "instances": instances(annotation([1, 1, 5, 5]))}):
        images, counts, _ = fast = outcome(**paths, fast=True)
        assert fast == outcome(**paths, fast=False)
        assert "Zwei Füße." in images
        assert counts["reasons"]["empty caption"]["examples"] == ["2"]
    for paths in ({"captions": instances(annotation([1, 1, 5, 5]))}, {"instances": path}):
        assert outcome(**paths, fast=True) == outcome(**paths, fast=False)
        assert isinstance(outcome(**paths, fast=True), str)


def test_reading_leaves_the_garbage_collector_as_it_was(instances):
    path = instances(annotation([1, 1, 5, 5], image_id=8))
    with pytest.raises(ValueError, match="image_id 8 is not"):
        list(read_instances(path, Ledger()))
    assert gc.isenabled()


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
    assert decode_instances(folder / "instances_train2017.json") is not None
    for split in ("train2017", "val2017"):
        paths = {kind: folder / f"{kind}_{split}.json" for kind in ("instances", "captions")}
        assert outcome(**paths, fast=True) == outcome(**paths, fast=False)
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
