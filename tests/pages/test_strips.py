import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from locvlm.geometry import Box
from locvlm.pages.strips import film_strip


@pytest.fixture
def folder(tmp_path, write_clip):
    """a<b.mp4: 32 frames of 96 x 64, ever lighter."""
    write_clip(tmp_path / "a<b.mp4", [np.full((64, 96, 3), 8 * k, np.uint8) for k in range(32)])
    return tmp_path


def test_frames_are_uniformly_spaced_and_carry_the_boxes_in_source_pixels(folder):
    html = film_strip(folder, "a<b.mp4", 8, [("true", Box(10, 20, 30, 50))])
    shown = re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="frame (\d+) of a&lt;b.mp4"', html)
    assert [int(number) for _, number in shown] == list(range(2, 32, 4))
    for picture, number in shown:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert image.size == (96, 64)
            assert np.asarray(image).mean() == pytest.approx(8 * int(number), abs=5)
    assert html.count('<rect class="true" x="10.00" y="20.00" width="20.00" height="30.00"/>') == 8
    assert html.count('viewBox="0 0 96 64"') == 8


def test_without_boxes_there_is_nothing_over_the_frames(folder):
    assert "<svg" not in film_strip(folder, "a<b.mp4", 4, [])


def test_a_video_that_cannot_be_read_leaves_the_reason(folder):
    (folder / "<torn>.mp4").write_bytes(b"no video")
    html = film_strip(folder, "<torn>.mp4", 8, [])
    assert "&lt;torn&gt;.mp4: cannot be read as a video" in html
    assert "<img" not in html
