import io
import random

import numpy as np
import pytest
from PIL import Image

from locvlm.data.image import (
    EXIF_ORIENTATION,
    SizeMismatch,
    UnreadableImage,
    load_image,
    load_stored,
    prepare_image,
    read_pixels,
)
from locvlm.geometry import Box, Flip, build_frame, frame_of, plan_steps
from locvlm.spec import VisionSpec

# mean 0 and std 1: prepared pixels are plain [0, 1], and padding is black
PLAIN = VisionSpec(canvas=112, patch=14, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))


def noise(size, seed=0, mode="RGB"):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode)


def marker_on_canvas(size, marker_px, steps):
    """Centre and size of a white box drawn on black, found in the prepared pixels."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), tuple(int(v) for v in marker_px))
    weight = prepare_image(image, steps, PLAIN)[0].astype(np.float64)
    columns, rows = weight.sum(0), weight.sum(1)
    at = np.arange(PLAIN.canvas) + 0.5  # a pixel's centre
    return (columns @ at / weight.sum(), rows @ at / weight.sum()), weight.sum()


@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
def test_a_marker_is_found_where_the_frame_says(mode):
    rng = random.Random(mode)
    for _ in range(60):
        size = (rng.randint(60, 500), rng.randint(60, 500))
        exif, flip = rng.randint(1, 8), rng.random() < 0.5
        # around the middle, so that every frame shows it whole and clear of the border
        cx, cy, r = size[0] // 2, size[1] // 2, min(size)
        x1, y1 = cx - rng.randint(r // 10, r // 3), cy - rng.randint(r // 10, r // 3)
        marker = Box(x1, y1, cx + rng.randint(1, r // 3), cy + rng.randint(1, r // 3))
        steps = plan_steps(mode, size, PLAIN.canvas, exif=exif, flip=flip)
        centre, area = marker_on_canvas(size, marker, steps)
        expected = build_frame(mode, size, PLAIN.canvas, exif=exif, flip=flip).to_canvas(marker)
        # bicubic ringing is clipped at 0 and 255: some hundredths of a pixel
        assert centre == pytest.approx(expected.center, abs=0.1), (size, exif, flip)
        assert area == pytest.approx(expected.area, rel=0.1, abs=3)


def test_a_cut_marker_shows_its_visible_part():
    size, marker = (200, 100), Box(30, 20, 90, 80)  # the crop shows x in [50, 150]
    steps = plan_steps("crop", size, PLAIN.canvas)
    frame = frame_of(steps, size)
    centre, _ = marker_on_canvas(size, marker, steps)
    assert centre == pytest.approx(frame.to_canvas(frame.visible_part(marker)).center, abs=0.1)


def test_a_mirrored_image_is_the_mirror_image():
    image = noise((64, 64))
    plain = prepare_image(image, plan_steps("stretch", (64, 64), 112), PLAIN)
    mirrored = prepare_image(image, plan_steps("stretch", (64, 64), 112, flip=True), PLAIN)
    assert np.abs(mirrored - plain[:, :, ::-1]).max() <= 1.01 / 255  # Pillow's rounding may differ by a level


SIZES = [(640, 480), (333, 500), (37, 91), (224, 224), (225, 224), (1000, 101), (301, 302), (9, 8)]


def processor_for(mode, canvas):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    square, crop = {"height": canvas, "width": canvas}, {"shortest_edge": canvas}
    if mode == "stretch":
        return CLIPImageProcessorPil(size=square, do_center_crop=False)
    if mode == "crop":
        return CLIPImageProcessorPil(size=crop, crop_size=square)
    return LlavaImageProcessorPil(size=crop, crop_size=square, do_pad=True)


@pytest.mark.parametrize("canvas", [112, 224, 336])
@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
def test_pixels_are_bit_equal_to_transformers_processors(mode, canvas):
    processor, vision = processor_for(mode, canvas), VisionSpec(canvas=canvas, patch=14)
    for size in SIZES:
        image = noise(size, seed=size[0])
        ours = prepare_image(image, plan_steps(mode, size, canvas), vision)
        theirs = processor(image, return_tensors="np")["pixel_values"][0]
        assert ours.dtype == theirs.dtype == np.float32
        assert ours.shape == (3, canvas, canvas)
        assert np.array_equal(ours, theirs), size


def test_padding_becomes_nearly_zero_after_normalising():
    vision = VisionSpec(canvas=112, patch=14)
    pixels = prepare_image(noise((200, 100)), plan_steps("pad", (200, 100), 112), vision)
    assert np.abs(pixels[:, :20]).max() < 0.5 / 255 / 0.25 * 2  # the mean, cut to whole levels
    assert np.abs(pixels[:, 40:70]).max() > 1


def test_steps_for_another_canvas_are_refused():
    with pytest.raises(ValueError, match=r"plan_steps\(\.\.\., canvas=112\)"):
        prepare_image(noise((50, 50)), plan_steps("stretch", (50, 50), 224), PLAIN)


def test_an_absurdly_long_image_is_refused_before_memory_is_taken():
    with pytest.raises(UnreadableImage, match="stretch"):
        prepare_image(Image.new("RGB", (60000, 1)), plan_steps("pad", (60000, 1), 112), PLAIN)


# ---- files


def save_turned(path, stored, exif):
    tags = Image.Exif()
    tags[EXIF_ORIENTATION] = exif
    stored.save(path, quality=95, exif=tags)
    return path


@pytest.mark.parametrize("exif", range(1, 9))
def test_an_exif_turn_by_pillow_equals_ours_and_its_frame(tmp_path, exif):
    from PIL import ImageOps

    path = save_turned(tmp_path / "a.jpg", noise((48, 32)), exif)
    stored, found = load_stored(path)
    assert found == exif
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert load_image(path).size == upright.size == ((48, 32) if exif <= 4 else (32, 48))
    assert np.array_equal(np.asarray(load_image(path)), np.asarray(upright))
    # boxes of the stored raster, picture upright: the same pixels by another way
    turned = prepare_image(stored, plan_steps("crop", stored.size, 112, exif=exif), PLAIN)
    assert np.array_equal(turned, read_pixels(path, mode="crop", vision=PLAIN))


def test_boxes_live_in_the_raster_that_the_records_size_fits(tmp_path):
    path = save_turned(tmp_path / "a.jpg", noise((48, 32)), 6)
    stored, _ = load_stored(path)
    assert load_image(path, (32, 48)).size == (32, 48)  # upright
    assert load_image(path, (0, 0)).size == (32, 48)  # not stated
    assert np.array_equal(np.asarray(load_image(path, (48, 32))), np.asarray(stored))
    assert not np.array_equal(
        read_pixels(path, mode="stretch", vision=PLAIN, size=(48, 32)),
        read_pixels(path, mode="stretch", vision=PLAIN, size=(32, 48)),
    )


def test_a_size_that_fits_neither_raster_is_an_error_with_both_sizes(tmp_path):
    path = save_turned(tmp_path / "a.jpg", noise((48, 32)), 6)
    with pytest.raises(SizeMismatch, match=r"got .*\(32, 48\) \(stored as \(48, 32\).*expected \(50, 32\)"):
        load_image(path, (50, 32))


def test_a_wrong_orientation_tag_is_ignored(tmp_path):
    assert load_image(save_turned(tmp_path / "a.jpg", noise((48, 32)), 9)).size == (48, 32)


def test_missing_corrupt_and_truncated_files_say_which_and_why(tmp_path):
    with pytest.raises(UnreadableImage, match=r"gone\.jpg: no such image"):
        load_image(tmp_path / "gone.jpg")
    data = io.BytesIO()
    noise((64, 64)).save(data, "JPEG")
    png = io.BytesIO()
    noise((64, 64)).save(png, "PNG")
    broken = bytearray(png.getvalue())
    broken[60:90] = bytes(30)
    for name, content in {
        "cut.jpg": data.getvalue()[: len(data.getvalue()) // 2],
        "head.jpg": data.getvalue()[:30],
        "cut.png": png.getvalue()[: len(png.getvalue()) // 2],
        "broken.png": bytes(broken),
        "text.jpg": b"<html>404</html>",
        "empty.jpg": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImage, match=name):
            load_image(tmp_path / name)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(UnreadableImage, match="folder"):
        load_image(tmp_path / "folder.jpg")


def saved(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return load_image(tmp_path / name)


def test_every_colour_mode_becomes_rgb(tmp_path):
    gray = saved(tmp_path, Image.new("L", (4, 4), 100))
    assert (gray.mode, gray.getpixel((0, 0))) == ("RGB", (100, 100, 100))
    assert saved(tmp_path, Image.new("1", (4, 4), 1)).getpixel((0, 0)) == (255, 255, 255)
    cmyk = saved(tmp_path, Image.new("RGB", (8, 8), (200, 40, 40)).convert("CMYK"), "a.jpg", quality=95)
    assert cmyk.mode == "RGB"
    assert np.abs(np.array(cmyk.getpixel((4, 4))) - (200, 40, 40)).max() <= 6  # JPEG


def test_sixteen_bit_gray_keeps_its_range(tmp_path):
    ramp = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    image = saved(tmp_path, Image.fromarray(ramp))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


def test_transparency_turns_white_in_palettes_and_rgba(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert saved(tmp_path, palette, transparency=1).getpixel((0, 0)) == (255, 255, 255)
    assert saved(tmp_path, palette).getpixel((0, 0)) == (0, 255, 0)
    assert saved(tmp_path, Image.new("RGBA", (4, 4), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    assert saved(tmp_path, Image.new("LA", (4, 4), (0, 255))).getpixel((0, 0)) == (0, 0, 0)


def test_float_images_have_no_agreed_white(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImage, match="32 bits"):
        load_image(tmp_path / "a.tiff")


def test_a_flip_alone_is_its_own_frame():
    assert frame_of((Flip(),), (10, 4)).to_canvas(Box(0, 0, 3, 4)) == Box(7, 0, 10, 4)
