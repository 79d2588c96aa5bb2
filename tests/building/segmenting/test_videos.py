import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locvlm.building.journal import Journal
from locvlm.building.segmenting.panoptic_files import NOT_LISTED, PanopticFiles
from locvlm.building.segmenting.universal import UniversalSegmenter
from locvlm.building.segmenting.videos import (
    OTHER_SIZE,
    UNREADABLE_VIDEO,
    SegmentedVideo,
    Tally,
    answer_all,
    extract_frames,
    frame_name,
    segment_video,
)
from locvlm.geometry import Box, iou

_SPEC = importlib.util.spec_from_file_location("segmenting", Path(__file__).with_name("conftest.py"))
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
scene, write_panoptic = _MODULE.scene, _MODULE.write_panoptic

CATEGORIES = [{"id": 1, "name": "dog", "isthing": 1}]
SIZE = (96, 64)


def box_at(k):
    """A rectangle that moves to the right."""
    return Box(4 + k, 12, 36 + k, 44)


@pytest.fixture
def clip(tmp_path, write_clip):
    pictures = [np.asarray(scene(*SIZE, box_at(k), seed=k)) for k in range(48)]
    return write_clip(tmp_path / "clip.mp4", pictures, crf="10")


@pytest.fixture
def panoptic(tmp_path):
    """Files for frames of a video, of 48 x 32 pixels: half of its size."""

    def write(video, frames, size=SIZE):
        ids = np.zeros((32, 48), dtype=np.int64)
        ids[10:20, 8:16] = 9
        images = {frame_name(video, frame): (size, ids, [(9, 1)]) for frame in frames}
        return PanopticFiles([write_panoptic(tmp_path / "p.json", tmp_path / "p", images, CATEGORIES)])

    return write


def test_a_model_is_shown_the_frames_upright(finder, clip):
    segmenter = UniversalSegmenter(str(finder), threshold=0.5, things=["person"])
    found = segment_video("clip.mp4", clip, segmenter, num_frames=4)
    assert (found.size, found.frames, found.failed) == (SIZE, (6, 18, 30, 42), "")
    for frame, answer in zip(found.frames, found.answers, strict=True):
        (person,) = (s for s in answer.segments if s.category == "person")
        assert iou(person.box_px, box_at(frame)) > 0.7
    assert SegmentedVideo.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_turned_clip_has_its_boxes_where_one_sees_them(tmp_path, write_clip, finder):
    upright = Box(10, 20, 46, 52)
    stored = np.rot90(np.asarray(scene(64, 96, upright)), 1)  # to be turned clockwise again
    path = write_clip(
        tmp_path / "a.mp4",
        [np.ascontiguousarray(stored)] * 3,
        crf="10",
        display=lambda stream: stream.set_display_rotation(-90),
    )
    segmenter = UniversalSegmenter(str(finder), threshold=0.5, things=["person"])
    found = segment_video("a.mp4", path, segmenter, num_frames=1)
    assert found.size == (64, 96)
    (person,) = (s for s in found.answers[0].segments if s.category == "person")
    assert iou(person.box_px, upright) > 0.7


def test_files_of_segments_are_found_by_the_names_of_the_frames(clip, panoptic):
    found = segment_video("a/clip.mp4", clip, panoptic("a/clip.mp4", [6, 18, 30, 42]), num_frames=4)
    assert found.failed == ""
    for answer in found.answers:
        assert answer.segments[0].box_px == pytest.approx((16, 20, 32, 40))


def test_one_frame_without_segments_fails_the_video(clip, panoptic):
    found = segment_video("clip.mp4", clip, panoptic("clip.mp4", [6, 18, 42]), num_frames=4)
    assert (found.failed, found.detail) == (NOT_LISTED, "clip.mp4/000030.jpg")


def test_segments_of_frames_of_another_size_fail_the_video(clip, panoptic):
    segmenter = panoptic("clip.mp4", [6, 18, 30, 42], size=(64, 96))
    found = segment_video("clip.mp4", clip, segmenter, num_frames=4)
    assert found.failed == OTHER_SIZE
    assert "clip.mp4/000006.jpg is of (width, height) (64, 96), the video of (96, 64)" in found.detail


def test_a_video_that_cannot_be_read_fails_and_says_why(shared_data, finder, tmp_path):
    segmenter = UniversalSegmenter(str(finder), threshold=0.5, things=["person"])
    path = shared_data / "videos" / "corrupted.mp4"
    found = segment_video("corrupted.mp4", path, segmenter, num_frames=8)
    assert (found.failed, found.answers) == (UNREADABLE_VIDEO, ())
    assert "frame 28 of 50" in found.detail
    assert segment_video("x.mp4", tmp_path / "x.mp4", segmenter, num_frames=8).failed == UNREADABLE_VIDEO


def test_a_short_video_has_fewer_frames(tmp_path, write_clip, panoptic):
    path = write_clip(tmp_path / "short.mp4", [np.zeros((64, 96, 3), dtype=np.uint8)] * 3)
    found = segment_video("short.mp4", path, panoptic("short.mp4", [0, 1, 2]), num_frames=8)
    assert (found.failed, found.frames) == ("", (0, 1, 2))


def test_extracted_frames_are_those_that_are_segmented(clip, tmp_path):
    found = extract_frames("a/clip.mp4", clip, tmp_path / "out", num_frames=4)
    assert (found.size, found.frames) == (SIZE, (6, 18, 30, 42))
    names = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*g"))
    assert names == [frame_name("a/clip.mp4", frame) for frame in found.frames]
    with Image.open(tmp_path / "out" / names[1]) as image:
        difference = np.asarray(image).astype(int) - np.asarray(scene(*SIZE, box_at(18), seed=18))
    assert np.abs(difference).mean() < 12  # noise, coded twice
    stamp = (tmp_path / "out" / names[1]).stat().st_mtime_ns
    (tmp_path / "out" / names[0]).unlink()
    assert extract_frames("a/clip.mp4", clip, tmp_path / "out", num_frames=4) == found
    assert (tmp_path / "out" / names[0]).is_file()
    assert (tmp_path / "out" / names[1]).stat().st_mtime_ns == stamp


def test_nothing_is_left_of_a_video_that_ends_early(shared_data, tmp_path):
    path = shared_data / "videos" / "corrupted.mp4"
    found = extract_frames("corrupted.mp4", path, tmp_path / "out", num_frames=8)
    assert found.failed == UNREADABLE_VIDEO
    assert not list((tmp_path / "out").rglob("*.jpg"))


def test_only_what_is_not_in_the_journal_is_asked_for(tmp_path):
    asked = []

    def answer(todo):
        for video in todo:
            asked.append(video)
            yield SegmentedVideo(video=video, failed="unreadable video" if video == "c" else "")

    journal = Journal(tmp_path / "j.jsonl", made_by={})
    answer_all(["a", "b"], journal, answer)
    answer_all(["a", "b", "c", "d"], journal, answer)
    assert asked == ["a", "b", "c", "d"]
    tally = Tally()
    rows = [value for _, value in journal.values()]
    assert [video.video for video in tally.readable(rows)] == ["a", "b", "d"]
    assert tally.videos.dropped == {"unreadable video": 1}
    tally.require_dropped_at_most(0.25)
    with pytest.raises(ValueError, match="dropped 1 of 4 items"):
        tally.require_dropped_at_most(0.2)
    journal.close()
