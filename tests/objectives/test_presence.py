from dataclasses import replace

import pytest
from PIL import Image

from locvlm.annotations.ade import AdeClass
from locvlm.geometry import Box
from locvlm.io import Ledger
from locvlm.objectives.presence import ade_scenes, coco_scenes, record_scene
from locvlm.records import ImageAnnotation, ObjectAnnotation, Query, Record

ADE = tuple(
    AdeClass(k, names)
    for k, names in enumerate([("wall",), ("bed",), ("blind", "screen"), ("screen",), ("fan",)], start=1)
)


def image(image_id, **sizes):
    """An image of 100 x 100 pixels; `dog=20` puts a dog of 20 x 20 into it."""
    objects = tuple(
        ObjectAnnotation(category=name, box_px=Box(0, 0, size, size), is_crowd=name == "crow")
        for name, size in sizes.items()
    )
    return ImageAnnotation(image_id=image_id, image=f"{image_id}.jpg", width=100, height=100, objects=objects)


def test_coco_classes_of_other_images_are_absent():
    first, second = coco_scenes([image("1", dog=20, crow=30), image("2", cat=20)])
    assert (first.present, first.absent) == (("crow", "dog"), ("cat",))
    assert (second.present, second.absent) == (("cat",), ("crow", "dog"))
    assert (first.record.id, first.record.image, first.record.width) == ("1", "1.jpg", 100)


def test_a_small_object_is_neither_present_nor_absent():
    first, _ = coco_scenes([image("1", dog=20, cat=5), image("2", fox=50)], min_area_fraction=0.04)
    assert (first.present, first.absent) == (("dog",), ("fox",))


def test_a_class_without_a_usable_box_is_neither_present_nor_absent():
    first, _ = coco_scenes([replace(image("1", dog=20), unplaced=("fox", "dog")), image("2", fox=50, cat=9)])
    assert (first.present, first.absent) == (("dog",), ("cat",))


@pytest.fixture
def ade(tmp_path):
    """A split with one label map: a wall, a bed below it, a few pixels of a blind."""
    for folder in ("images", "annotations"):
        (tmp_path / folder / "validation").mkdir(parents=True)
    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "validation" / "x.jpg")
    labels = Image.new("L", (10, 10), 1)
    labels.paste(2, (0, 5, 10, 10))
    labels.paste(3, (0, 0, 2, 1))
    labels.save(tmp_path / "annotations" / "validation" / "x.png")
    return tmp_path


def test_ade_classes_are_present_by_their_pixels(ade):
    maps = [ade / "annotations" / "validation" / "x.png"]
    (scene,) = ade_scenes(maps, ade, ADE, Ledger())
    assert scene.present == ("bed", "blind", "wall")
    assert scene.absent == ("fan",)  # not "screen", as which the blind might be seen
    assert (scene.record.image, scene.record.width) == ("images/validation/x.jpg", 10)
    (scene,) = ade_scenes(maps, ade, ADE, Ledger(), min_area_fraction=0.1)
    assert (scene.present, scene.absent) == (("bed", "wall"), ("fan",))


def test_excluded_ade_classes_are_in_neither_list(ade):
    maps = [ade / "annotations" / "validation" / "x.png"]
    (scene,) = ade_scenes(maps, ade, ADE, Ledger(), excluded=frozenset({ADE[1], ADE[4]}))
    assert (scene.present, scene.absent) == (("blind", "wall"), ())


def test_label_maps_that_cannot_be_used_are_counted(ade):
    folder = ade / "annotations" / "validation"
    (folder / "y.png").write_bytes(b"no image")
    (ade / "images" / "validation" / "y.jpg").touch()
    (folder / "z.png").write_bytes((folder / "x.png").read_bytes())
    ledger = Ledger()
    assert len(list(ade_scenes(sorted(folder.glob("*.png")), ade, ADE, ledger))) == 1
    assert dict(ledger.dropped) == {"unreadable label map": 1, "no image file": 1}


def test_a_record_tells_what_it_asks_about_as_present_and_absent():
    box = Box(0, 0, 5, 5)
    queries = (
        Query(objective="locpred", phrase="the old dog", category="dog", box_px=box),
        Query(objective="revloc", phrase="cat", category="cat", box_px=box),
        Query(objective="negpred", phrase="bus"),
        Query(objective="vqa", question="Is there a fox?", answer="yes"),
    )
    record = Record(
        id="v", image=None, video="v.mp4", width=9, height=9, queries=queries, source={"split": "val"}
    )
    scene = record_scene(record)
    assert (scene.present, scene.absent) == (("cat", "dog"), ("bus",))
    assert scene.record == Record(
        id="v", image=None, video="v.mp4", width=9, height=9, source={"split": "val"}
    )


def test_a_record_that_contradicts_itself_is_refused():
    queries = (
        Query(objective="locpred", phrase="dog", box_px=Box(0, 0, 5, 5)),
        Query(objective="negpred", phrase="dog"),
    )
    with pytest.raises(ValueError, match="record 'v' has 'dog' as present and as absent"):
        record_scene(Record(id="v", image="v.jpg", width=9, height=9, queries=queries))
