import re

import pytest
from PIL import Image

from locvlm.geometry import Box, FrameMode
from locvlm.io import Ledger
from locvlm.pages.frames import render_frames_page
from locvlm.records import ImageAnnotation, ObjectAnnotation

MODES: tuple[FrameMode, ...] = ("stretch", "pad", "crop")


@pytest.fixture
def photograph(tmp_path):
    """A photograph of 200 x 100 pixels with a box in its middle and one at its left edge."""
    Image.new("RGB", (200, 100), "blue").save(tmp_path / "a.png")
    objects = (
        ObjectAnnotation(category="mug", box_px=Box(80, 20, 120, 60)),
        ObjectAnnotation(category="b<u>s", box_px=Box(0, 0, 60, 100)),
    )
    return ImageAnnotation(image_id="1", image="a.png", width=200, height=100, objects=objects)


def boxes_of(html: str) -> list[tuple[float, ...]]:
    """(x, y, width, height) of the coloured rectangles, in order."""
    pattern = r'<rect x="([\d.-]+)" y="([\d.-]+)" width="([\d.-]+)" height="([\d.-]+)" stroke'
    return [tuple(map(float, match)) for match in re.findall(pattern, html)]


def test_every_column_shows_the_boxes_in_its_own_frame(photograph, tmp_path):
    html = render_frames_page([photograph], tmp_path, canvas=100, modes=MODES, ledger=Ledger())
    assert boxes_of(html)[::2] == [
        (80, 20, 40, 40),  # as it is
        (40, 20, 20, 40),  # stretched: half as wide
        (40, 35, 20, 20),  # padded: half the size, 25 down
        (30, 20, 40, 40),  # cropped: 50 to the left
    ]
    assert html.count('stroke-dasharray="5 5"') == 1  # the box at the edge, in the crop
    assert html.count("data:image/jpeg") == 4
    assert "b&lt;u&gt;s" in html


def test_an_unreadable_photograph_is_counted_and_named(photograph, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    ledger = Ledger()
    html = render_frames_page([photograph], tmp_path, canvas=100, modes=MODES, ledger=ledger)
    assert ledger.num_dropped == 1
    assert "a.png" in html
