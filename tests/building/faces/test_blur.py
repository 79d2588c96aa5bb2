"""What is inside a face is gone, what is outside is as it was, whatever the mode."""

import numpy as np
import pytest
from PIL import Image

from locvlm.building.faces.blur import blur_faces
from locvlm.geometry import Box

SIZE = (160, 120)
FACE = Box(60, 40, 90, 80)  # 30 x 40: grown by 4, blurred with a sigma of 4


def in_mode(image, mode):
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257 + 3)
    converted = image.convert(mode)
    if "A" in converted.getbands():
        converted.putalpha(Image.linear_gradient("L").resize(SIZE))
    return converted


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "I;16"])
def test_faces_lose_their_contrast_and_nothing_else_changes(picture, contrast_in, mode):
    image = in_mode(picture(SIZE), mode)
    blurred = blur_faces(image, [FACE])
    assert (blurred.mode, blurred.size) == (image.mode, SIZE)
    gray, before = (
        np.asarray(im.convert("RGBA").convert("L") if "A" in mode else im) for im in (blurred, image)
    )
    inner = (68, 50, 82, 70)
    assert contrast_in(gray, inner) < 0.05 * contrast_in(before, inner)
    after, original = np.asarray(blurred).astype(int), np.asarray(image).astype(int)
    far = np.ones((SIZE[1], SIZE[0]), bool)
    far[20:100, 40:110] = False  # further away than the grown box and 4 sigma
    visible = original[..., -1] > 40 if "A" in mode else far
    difference = np.abs(after - original)[far & visible]
    assert difference.max() <= (6 if "A" in mode else 0)  # colours under an alpha of 8 bits round


def test_the_blur_is_what_the_definition_says(picture):
    """An impulse far from the mask's edge is a Gaussian of a tenth of the longer side."""
    image = Image.new("L", (400, 400), 0)
    image.putpixel((200, 200), 255)
    image = image.point(lambda v: 255 - v)
    pixels = np.asarray(blur_faces(image, [Box(50, 0, 350, 400)], shape="box")).astype(float)
    assert pixels[200, 200] > 254  # a single dark pixel is spread over a sigma of 40
    edge = Image.new("L", (400, 400), 0)
    edge.paste(200, (200, 0, 400, 400))
    profile = np.asarray(blur_faces(edge, [Box(0, 0, 400, 400)], shape="box"))[200].astype(float)
    assert profile[200] == pytest.approx(100, abs=3)
    assert profile[240] - profile[160] == pytest.approx(200 * 0.6827, abs=4)  # one sigma to either side


def test_an_ellipse_leaves_the_corners_of_the_box_and_a_box_does_not(picture, contrast_in):
    image = picture(SIZE)
    big = Box(30, 20, 130, 100)
    corner = (23, 14, 30, 20)
    whole = contrast_in(image, corner)
    assert contrast_in(blur_faces(image, [big]), corner) > 0.9 * whole
    assert contrast_in(blur_faces(image, [big], shape="box"), corner) < 0.6 * whole


def test_all_faces_are_blurred_with_the_sigma_of_the_largest(picture, contrast_in):
    image = picture((300, 120))
    faces = [Box(10, 10, 110, 110), Box(240, 50, 250, 60)]
    small_alone = blur_faces(image, faces[1:])
    both = blur_faces(image, faces)
    beside = (228, 50, 236, 60)  # within reach of the larger sigma's soft edge only
    assert contrast_in(small_alone, beside) == contrast_in(image, beside)
    assert contrast_in(both, beside) < contrast_in(image, beside)
    assert contrast_in(both, (20, 40, 100, 80)) < 1


def test_faces_at_the_border_and_none_at_all(picture, contrast_in):
    image = picture(SIZE)
    assert blur_faces(image, []) is image
    blurred = blur_faces(image, [Box(0, 0, 40, 40), Box(120, 100, 160, 120)])
    assert contrast_in(blurred, (8, 8, 30, 30)) < 1
    assert contrast_in(blurred, (132, 106, 150, 116)) < 1


def test_what_is_transparent_does_not_bleed_into_what_is_not():
    image = Image.new("RGBA", (100, 100), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (50, 0, 100, 100))
    pixels = np.asarray(blur_faces(image, [Box(10, 10, 90, 90)]))
    assert pixels[50, 60, 3] > 100
    assert pixels[50, 60, 0] == 0  # no red, although red, unseen, lies beside
