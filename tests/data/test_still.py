"""The frame that stands for a video, found and loaded like an image."""

import numpy as np
import pytest

from locvlm.data.image import SizeMismatch, UnreadableImage
from locvlm.data.still import load_middle_frame


@pytest.fixture
def clip(tmp_path, write_clip):
    """Five frames of 96 x 64, gray 10, 50, 90, 130, 170."""
    pictures = [np.full((64, 96, 3), 40 * k + 10, dtype=np.uint8) for k in range(5)]
    return write_clip(tmp_path / "v_a.b.mkv", pictures)


def test_it_is_the_middle_one(clip):
    image = load_middle_frame(clip, (96, 64))
    assert (image.size, image.mode) == ((96, 64), "RGB")
    assert np.asarray(image).mean() == pytest.approx(90, abs=3)  # coding costs a little


def test_another_kind_of_file_of_the_same_name_will_do(clip):
    assert load_middle_frame(clip.with_suffix(".mp4")) == load_middle_frame(clip)


@pytest.mark.parametrize("name", ["v_a.mp4", "v_a.b", "missing.mp4"])
def test_another_name_will_not(clip, name):
    with pytest.raises(UnreadableImage, match="no such video"):
        load_middle_frame(clip.with_name(name))


@pytest.mark.parametrize("size", [0, 8, 600])
def test_a_broken_file_is_an_unreadable_image(clip, size):
    clip.write_bytes(clip.read_bytes()[:size])
    with pytest.raises(UnreadableImage, match=r"v_a\.b\.mkv"):
        load_middle_frame(clip)


def test_another_size_than_the_records_is_refused(clip):
    with pytest.raises(SizeMismatch, match=r"got a video of .*\(96, 64\), expected \(64, 96\)"):
        load_middle_frame(clip, (64, 96))
