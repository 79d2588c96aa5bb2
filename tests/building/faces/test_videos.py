"""Videos keep their times, size and sound, and lose their faces in every frame."""

from fractions import Fraction

import numpy as np
import pytest

from locvlm.building.faces.detect import Face
from locvlm.building.faces.videos import find_video_faces, write_blurred_video
from locvlm.data.video import UnreadableVideo, probe_video, read_frames
from locvlm.geometry import Box
from locvlm.io import atomic_writer

av = pytest.importorskip("av")

SIZE = (160, 120)
NUM_FRAMES = 24  # at 12 a second


def face_of(k):
    return Box(10 + 3 * k, 30, 50 + 3 * k, 80)


def write_video(path, frames, *, container, codec, sound=None, pts=None, pix_fmt="yuv420p"):
    """A video at 12 frames a second, or with time stamps of its own in 1/1000 s, with a tone."""
    unit = Fraction(1, 12) if pts is None else Fraction(1, 1000)
    with av.open(str(path), "w", format=container) as target:
        video = target.add_stream(codec, rate=12)
        video.width, video.height = frames[0].size
        video.pix_fmt, video.codec_context.time_base = pix_fmt, unit
        audio = target.add_stream(sound, rate=48000) if sound else None
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame.pts, frame.time_base = (k if pts is None else pts[k]), unit
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
        if audio is not None:
            tone = (np.sin(np.arange(96000) / 48000 * 2 * np.pi * 440) * 8000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            target.mux(audio.encode(frame))
            target.mux(audio.encode(None))
    return path


@pytest.fixture
def frames(picture):
    return [picture(SIZE, face=face_of(k)) for k in range(NUM_FRAMES)]


def blur(path, out, detector, **options):
    found = find_video_faces(path, detector, threads=1, **options)
    with atomic_writer(out, binary=True) as file:
        write_blurred_video(found, file, shape="ellipse", threads=1)
    return found


def images_of(path):
    info = probe_video(path)
    return [frame.image for frame in read_frames(path, range(info.num_frames), info=info, threads=1)]


def sound_of(path):
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def inner(k):
    return (18 + 3 * k, 42, 42 + 3 * k, 68)


@pytest.mark.parametrize(
    ("name", "container", "codec", "sound", "written_as"),
    [
        ("a.mp4", "mp4", "libx264", "aac", "h264"),
        ("a.mov", "mov", "mpeg4", "aac", "h264"),
        ("a.mkv", "matroska", "libx264", "libopus", "h264"),
        ("a.webm", "webm", "libvpx-vp9", "libopus", "vp9"),
        ("a.avi", "avi", "mpeg4", None, "mpeg4"),
        ("silent.mp4", "mp4", "libx264", None, "h264"),
    ],
)
def test_every_kind_keeps_times_size_and_sound(
    tmp_path, frames, contrast_in, red_patch, name, container, codec, sound, written_as
):
    path = write_video(tmp_path / name, frames, container=container, codec=codec, sound=sound)
    out = tmp_path / f"out-{name}"
    found = blur(path, out, red_patch)
    before, after = probe_video(path), probe_video(out)
    assert (after.num_frames, after.size) == (NUM_FRAMES, SIZE)
    assert after.starts_s == pytest.approx(before.starts_s, abs=1e-3)  # Matroska counts milliseconds
    assert found.size == SIZE
    assert all(len(faces) == 1 for faces in found.faces)
    pairs = list(zip(images_of(path), images_of(out), strict=True))
    assert len(pairs) == NUM_FRAMES
    for k, (sharp, blurred) in enumerate(pairs):
        assert contrast_in(blurred.convert("L"), inner(k)) < 0.3 * contrast_in(
            sharp.convert("L"), inner(k)
        ), k
        right = (135, 10, 158, 110) if k < 10 else (0, 90, 8, 118)  # out of the face's reach
        assert contrast_in(blurred.convert("L"), right) > 0.7 * contrast_in(sharp.convert("L"), right), k
    with av.open(str(out)) as written:
        assert written.streams.video[0].codec_context.name.startswith(written_as)
        assert len(written.streams.audio) == (sound is not None)
    if sound is not None:
        assert sound_of(out) == sound_of(path)


def test_frames_at_uneven_times_keep_them(tmp_path, frames, red_patch):
    pts = [k * 80 + (40 if k > 10 else 0) + k**2 for k in range(NUM_FRAMES)]
    path = write_video(tmp_path / "a.mkv", frames, container="matroska", codec="libx264", pts=pts)
    blur(path, tmp_path / "out.mkv", red_patch)
    assert probe_video(tmp_path / "out.mkv").starts_s == pytest.approx(probe_video(path).starts_s, abs=1e-6)


def test_odd_sides_stay(tmp_path, picture, red_patch):
    frames = [picture((161, 121), face=face_of(k)) for k in range(4)]
    path = write_video(tmp_path / "a.mp4", frames, container="mp4", codec="libx264", pix_fmt="yuv444p")
    blur(path, tmp_path / "out.mp4", red_patch)
    assert probe_video(tmp_path / "out.mp4").size == (161, 121)


class Blinking:
    """Finds the red patch, but not in some frames."""

    def __init__(self, finder, misses):
        self.finder, self.misses, self.count = finder, misses, -1

    def find(self, image):
        self.count += 1
        return [] if self.count in self.misses else self.finder.find(image)


def test_a_face_that_is_missed_for_a_moment_stays_blurred(tmp_path, picture, contrast_in, red_patch):
    frames = [picture(SIZE, face=face_of(5)) for _ in range(NUM_FRAMES)]
    path = write_video(tmp_path / "a.mp4", frames, container="mp4", codec="libx264")
    found = blur(path, tmp_path / "out.mp4", Blinking(red_patch, {7, 8}))
    assert [k for k, faces in enumerate(found.faces) if not faces] == [7, 8]
    sharp = contrast_in(images_of(path)[7].convert("L"), inner(5))
    for image in images_of(tmp_path / "out.mp4"):
        assert contrast_in(image.convert("L"), inner(5)) < 0.3 * sharp


def test_faces_are_looked_for_in_every_nth_frame_and_cover_those_between(tmp_path, frames, red_patch):
    path = write_video(tmp_path / "a.mp4", frames, container="mp4", codec="libx264")
    found = find_video_faces(path, red_patch, every=5, threads=1)
    assert [k for k, faces in enumerate(found.faces) if faces] == [0, 5, 10, 15, 20, 23]
    for k in range(NUM_FRAMES):
        near = [box for j in (0, 5, 10, 15, 20, 23) if abs(j - k) <= 5 for box in _boxes(found.faces[j])]
        assert list(found.boxes_px[k]) == near
    with pytest.raises(ValueError, match="n of at least 1; got 0"):
        find_video_faces(path, red_patch, every=0)


def _boxes(faces: tuple[Face, ...]):
    return [face.box_px for face in faces]


def test_a_turned_video_is_looked_at_and_written_upright(tmp_path, shared_data, fixed_faces):
    path = shared_data / "videos" / "rotation_video_90.mov"
    before = probe_video(path)
    assert before.turn.exif != 1
    blur(path, tmp_path / "out.mov", fixed_faces(Box(20, 30, 90, 100)))
    after = probe_video(tmp_path / "out.mov")
    assert (after.turn.exif, after.size, after.num_frames) == (1, before.size, before.num_frames)
    for one, other in zip(images_of(path), images_of(tmp_path / "out.mov"), strict=True):
        lower = (0, 200, before.size[0], before.size[1])
        difference = np.abs(np.asarray(one.crop(lower), int) - np.asarray(other.crop(lower), int))
        assert difference.mean() < 4


def test_a_video_that_is_cut_off_is_refused_and_nothing_is_written(tmp_path, frames, red_patch):
    path = write_video(tmp_path / "a.mkv", frames, container="matroska", codec="libx264")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    out = tmp_path / "out" / "a.mkv"
    with pytest.raises(UnreadableVideo):
        blur(path, out, red_patch)
    assert not out.exists()


def test_a_full_disk_is_no_fault_of_the_video(tmp_path, frames, red_patch):
    path = write_video(tmp_path / "a.mp4", frames, container="mp4", codec="libx264")
    found = find_video_faces(path, red_patch, threads=1)
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OSError, match="No space left") as caught,
    ):
        write_blurred_video(found, full, shape="ellipse", threads=1)
    assert not isinstance(caught.value, av.FFmpegError)
