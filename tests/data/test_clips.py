"""What the model is shown of a video: how many frames, where they go, what names find a file."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from locvlm.data.clips import VideoSizeMismatch, blank_frames, clip_pixels, read_clip
from locvlm.data.image import prepare_image
from locvlm.data.video import UnreadableVideo, clip_indices, probe_video
from locvlm.data.video_folder import VideoFolder
from locvlm.geometry import Box, build_frame, plan_steps
from locvlm.spec import VisionSpec


def gray(k, width=48, height=32):
    return np.full((height, width, 3), 30 * k + 20, dtype=np.uint8)


@pytest.fixture
def clip(tmp_path, write_clip):
    """Five frames."""
    return write_clip(tmp_path / "clip.mp4", [gray(k) for k in range(5)])


def shown(images):
    """Which of `gray(k)` each is."""
    return [round((np.asarray(image).mean() - 20) / 30) for image in images]


def test_a_clip_always_has_so_many_frames(clip):
    assert clip_indices(probe_video(clip), 8) == [0, 0, 1, 2, 2, 3, 4, 4]
    assert shown(read_clip(clip, 8)) == [0, 0, 1, 2, 2, 3, 4, 4]
    assert shown(read_clip(clip, 5)) == [0, 1, 2, 3, 4]
    assert shown(read_clip(clip, 2)) == [1, 3]


def test_times_decide_where_frames_do_not_come_evenly(tmp_path, write_clip):
    path = write_clip(tmp_path / "v.mkv", [gray(k) for k in range(4)], times_ms=[0, 100, 200, 1800])
    assert len(clip_indices(probe_video(path), 100)) == 100
    assert shown(read_clip(path, 4)) == [2, 2, 2, 2]  # shown from 0.2 s to 1.8 s of 1.9 s


@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
def test_frames_are_to_the_bit_what_an_image_of_them_would_be(clip, mode):
    vision = VisionSpec(canvas=28, patch=14, num_frames=3)
    frames = clip_pixels(clip, mode=mode, vision=vision)
    assert (len(frames), frames.size) == (3, (48, 32))
    expected = [
        prepare_image(image, plan_steps(mode, image.size, 28), vision) for image in read_clip(clip, 3)
    ]
    assert np.array_equal(frames.normalised(), np.stack(expected))


def test_every_level_is_normalised_as_the_image_pipeline_does():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Image.fromarray(np.stack([ramp, ramp[::-1], ramp.T], axis=-1))
    vision = VisionSpec(canvas=16, patch=8, num_frames=1)
    frames = blank_frames(vision)
    frames.levels[0] = np.asarray(picture).transpose(2, 0, 1)
    assert np.array_equal(frames.normalised()[0], prepare_image(picture, [], vision))


def test_a_video_of_another_size_than_its_record_says_is_refused(clip):
    vision = VisionSpec(canvas=28, patch=14, num_frames=2)
    assert len(clip_pixels(clip, mode="stretch", vision=vision, size=(48, 32))) == 2
    with pytest.raises(VideoSizeMismatch, match=r"\(48, 32\), its record says \(32, 48\)"):
        clip_pixels(clip, mode="stretch", vision=vision, size=(32, 48))


def test_a_turned_video_has_its_upright_size(shared_data):
    path = shared_data / "videos" / "rotation_video_90.mov"
    size = probe_video(path).size
    frames = clip_pixels(
        path, mode="stretch", vision=VisionSpec(canvas=28, patch=14, num_frames=2), size=size
    )
    assert frames.size == size


@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("degrees", [0, 90])
def test_a_box_of_a_turned_clip_with_oblong_pixels_lies_on_its_object(tmp_path, write_clip, mode, degrees):
    box = Box(60, 20, 84, 44)  # of the upright 144 x 96 frame
    upright = np.full((96, 144, 3), 40, dtype=np.uint8)
    upright[20:44, 60:84] = (240, 240, 240)
    path = write_clip(
        tmp_path / "turned.mp4",
        [np.ascontiguousarray(np.rot90(upright, -degrees // 90))] * 4,
        pixel_aspect=Fraction(4, 3),
        display=lambda stream: stream.set_display_rotation(degrees),
    )
    vision = VisionSpec(canvas=56, patch=14, num_frames=2)
    frames = clip_pixels(path, mode=mode, vision=vision, size=(144, 96))
    x1, y1, x2, y2 = (round(value) for value in build_frame(mode, (144, 96), 56).to_canvas(box))
    inside = np.zeros((56, 56), dtype=bool)
    inside[y1:y2, x1:x2] = True
    bright = frames.levels.mean(axis=(0, 1)) > 140  # twice the middle of object and background
    assert (bright & inside).sum() / (bright | inside).sum() > 0.75  # a pixel or so at the edges


def test_names_without_extension_find_their_file(tmp_path):
    for name in ("v_a.mp4", "v_b.x.mkv", "v_c.txt", "two.mp4", "two.webm", "sub/v_d.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = VideoFolder(tmp_path)
    found = {
        name: folder.find(name).relative_to(tmp_path).as_posix() for name in ("v_a", "v_a.mp4", "v_a.pkl")
    }
    assert set(found.values()) == {"v_a.mp4"}
    assert folder.find("v_b.x").name == "v_b.x.mkv"
    assert folder.find("sub/v_d").name == "v_d.avi"
    with pytest.raises(ValueError, match=r"'two' could be any of two\.mp4, two\.webm"):
        folder.find("two")
    with pytest.raises(ValueError, match="must stay inside its root"):
        folder.find("../v_a")
    with pytest.raises(UnreadableVideo, match=r"v_c: no such video, and no v_c\.mp4, \.mkv"):
        probe_video(folder.find("v_c"))
    with pytest.raises(ValueError, match="no folder"):
        VideoFolder(tmp_path / "v_a.mp4")
