import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from locvlm.building.segmenting.panoptic_files import (
    NO_ANNOTATION,
    NOT_LISTED,
    UNREADABLE_PNG,
    PanopticFiles,
)
from locvlm.building.segmenting.segment import (
    AREA_DIFFERS,
    BOX_DIFFERS,
    UNLISTED,
    WITHOUT_PIXELS,
    Category,
    Picture,
    Segmented,
)
from locvlm.geometry import Box

_SPEC = importlib.util.spec_from_file_location("segmenting", Path(__file__).with_name("conftest.py"))
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
write_panoptic = _MODULE.write_panoptic

CATEGORIES = [{"id": 1, "name": "dog", "isthing": 1}, {"id": 90, "name": "sky-other-merged", "isthing": 0}]
IDS = [[300, 300, 0, 0], [300, 300, 0, 70000], [0, 0, 0, 70000]]
SEGMENTS = [(300, 1), (70000, 90)]


def never():
    raise AssertionError("a panoptic file needs no pixels of the image")


def ask(segmenter, *names):
    return list(segmenter.segment(Picture(name, never) for name in names))


@pytest.fixture
def write(tmp_path):
    def write_images(images, name="panoptic.json", categories=CATEGORIES):
        return write_panoptic(tmp_path / name, (tmp_path / name).with_suffix(""), images, categories)

    return write_images


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_boxes_are_those_of_the_pixels(write):
    segmenter = PanopticFiles([write({"a.jpg": ((4, 3), IDS, SEGMENTS)})])
    assert segmenter.categories == (Category("dog", True), Category("sky", False))
    assert segmenter.image_names == ["a.jpg"]
    (answer,) = ask(segmenter, "a.jpg")
    assert answer.size == (4, 3)
    assert [(s.category, s.is_thing, s.box_px, s.area_px) for s in answer.segments] == [
        ("dog", True, Box(0, 0, 2, 2), 4),
        ("sky", False, Box(3, 1, 4, 3), 2),
    ]
    assert answer.odd == {}
    assert Segmented.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_boxes_of_a_resized_png_are_brought_back_to_the_image(write):
    """An image of 640 x 480 that was segmented at 4 x 3: each pixel is 160 of the image's."""
    (answer,) = ask(PanopticFiles([write({"a.jpg": ((640, 480), IDS, SEGMENTS)})]), "a.jpg")
    assert answer.size == (640, 480)
    dog, sky = answer.segments
    assert (*dog.box_px, dog.area_px) == pytest.approx((0, 0, 320, 320, 4 * 160 * 160), abs=1e-9)
    assert (*sky.box_px, sky.area_px) == pytest.approx((480, 160, 640, 480, 2 * 160 * 160), abs=1e-9)


def test_each_side_of_a_png_has_its_own_scale(write):
    """SEEM rounds the long side down: 1000 x 377 at a short side of 512 becomes 1358 x 512."""
    ids = np.zeros((512, 1358), dtype=np.int64)
    ids[100:200, 679:1358] = 7
    (answer,) = ask(PanopticFiles([write({"a.jpg": ((1000, 377), ids, [(7, 1)])})]), "a.jpg")
    (dog,) = answer.segments
    assert dog.box_px == pytest.approx((500, 100 * 377 / 512, 1000, 200 * 377 / 512), abs=1e-9)
    assert dog.area_px == pytest.approx(500 * 100 * 377 / 512)


def test_crowds_stay_crowds(write):
    path = write({"a.jpg": ((4, 3), IDS, SEGMENTS)})
    edit(path, lambda d: d["annotations"][0]["segments_info"][0].update(iscrowd=1))
    (answer,) = ask(PanopticFiles([path]), "a.jpg")
    assert [s.is_crowd for s in answer.segments] == [True, False]


def test_what_json_and_png_do_not_agree_on_is_counted_and_the_pixels_win(write):
    path = write({"a.jpg": ((4, 3), IDS, [*SEGMENTS, (5, 1)])})

    def change(data):
        first, second, _ = data["annotations"][0]["segments_info"]
        first.update(area=4, bbox=[0, 0, 2, 2])
        second.update(area=3, bbox=[3, 1, 1, 3])

    edit(path, change)
    (answer,) = ask(PanopticFiles([path]), "a.jpg")
    assert answer.odd == {WITHOUT_PIXELS: 1, AREA_DIFFERS: 1, BOX_DIFFERS: 1}
    assert [s.box_px for s in answer.segments] == [Box(0, 0, 2, 2), Box(3, 1, 4, 3)]


def test_an_id_that_is_not_listed_is_counted(write):
    (answer,) = ask(PanopticFiles([write({"a.jpg": ((4, 3), IDS, SEGMENTS[:1])})]), "a.jpg")
    assert answer.odd == {UNLISTED: 1}
    assert [s.category for s in answer.segments] == ["dog"]


def test_images_without_an_answer_fail_and_others_go_on(write):
    path = write({name: ((4, 3), IDS, SEGMENTS) for name in ("a.jpg", "b.jpg", "c.jpg")})
    edit(path, lambda d: d["annotations"].pop(1))
    (path.with_suffix("") / "c.jpg.png").unlink()
    answers = ask(PanopticFiles([path]), "b.jpg", "c.jpg", "x.jpg", "a.jpg")
    assert [answer.failed for answer in answers] == [NO_ANNOTATION, UNREADABLE_PNG, NOT_LISTED, ""]
    assert "c.jpg.png: no such PNG" in answers[1].detail
    assert len(answers[3].segments) == 2


def test_files_of_several_shards_are_one(write, tmp_path):
    paths = [write({f"{k}.jpg": ((4, 3), IDS, SEGMENTS)}, name=f"{k}.json") for k in range(3)]
    segmenter = PanopticFiles(paths)
    assert segmenter.image_names == ["0.jpg", "1.jpg", "2.jpg"]
    assert all(len(answer.segments) == 2 for answer in ask(segmenter, *segmenter.image_names))
    with pytest.raises(ValueError, match=r"the image '1\.jpg' is there twice"):
        PanopticFiles([*paths, paths[1]])
    other = write({"9.jpg": ((4, 3), IDS, [(300, 1)])}, name="9.json", categories=CATEGORIES[:1])
    with pytest.raises(ValueError, match="has other categories than"):
        PanopticFiles([paths[0], other])


def test_pngs_may_lie_elsewhere_and_never_outside(write, tmp_path):
    path = write({"a.jpg": ((4, 3), IDS, SEGMENTS)})
    path.with_suffix("").rename(tmp_path / "pngs")
    assert ask(PanopticFiles([path], tmp_path / "pngs"), "a.jpg")[0].failed == ""
    edit(path, lambda d: d["annotations"][0].update(file_name="../secret.png"))
    with pytest.raises(ValueError, match="must stay inside its root"):
        ask(PanopticFiles([path], tmp_path / "pngs"), "a.jpg")


def test_workers_give_what_one_process_gives(write):
    rng = np.random.default_rng(0)
    maps = rng.integers(1, 4, (12, 6, 8)).repeat(5, 1).repeat(5, 2)
    images = {f"{k}.jpg": ((80, 60), maps[k], [(1, 1), (2, 90), (3, 1)]) for k in range(12)}
    path = write(images)
    one, two = (ask(PanopticFiles([path], workers=n), *images) for n in (0, 2))
    assert one == two
    assert sum(len(answer.segments) for answer in one) == 36


def test_the_real_sample(shared_data):
    folder = shared_data / "panoptic" / "sample_data"
    segmenter = PanopticFiles([folder / "panoptic_examples.json"], folder / "panoptic_examples")
    answers = ask(segmenter, *segmenter.image_names)
    assert [answer.size for answer in answers] == [(640, 427), (640, 360)]
    assert sum(len(answer.segments) for answer in answers) == 50
    assert not any(answer.odd for answer in answers)
    detection = json.loads((folder / "panoptic_coco_detection_format.json").read_text())
    expected = sorted((*a["bbox"], a["area"]) for a in detection["annotations"])
    boxes = [(s.box_px, s.area_px) for answer in answers for s in answer.segments]
    assert sorted((b.x1, b.y1, b.width, b.height, area) for b, area in boxes) == expected
