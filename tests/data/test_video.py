"""Frames of videos: their numbers, their pixels, which way up they are, and what cannot be read."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import decord
import numpy as np
import pytest

from locvlm.data.video import (
    UnreadableVideo,
    _key_to_jump_to,
    middle_frame,
    probe_video,
    read_frames,
    uniform_indices,
)

WIDTH, HEIGHT = 96, 64
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "bottle-detection.mp4", "rotation_video_90.mov")


def picture(k: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Frame k: its gray says which one it is, far enough apart to survive coding."""
    return np.full((height, width, 3), 4 * (k % 60) + 10, dtype=np.uint8)


def number_of(image) -> int:
    """The k of `picture(k)`."""
    return round((np.asarray(image).mean() - 10) / 4)


def quadrants() -> np.ndarray:
    """Red, green over blue, gray: every turn and mirroring shows."""
    array = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    array[: HEIGHT // 2, : WIDTH // 2] = (220, 30, 30)
    array[: HEIGHT // 2, WIDTH // 2 :] = (30, 200, 30)
    array[HEIGHT // 2 :, : WIDTH // 2] = (30, 30, 220)
    array[HEIGHT // 2 :, WIDTH // 2 :] = (128, 128, 128)
    return array


@pytest.fixture
def clip(tmp_path, write_clip):
    """60 frames, each telling its number, key frames every 12."""
    return write_clip(tmp_path / "clip.mp4", [picture(k) for k in range(60)], g="12")


def numbers(path: Path, indices: list[int]) -> list[int]:
    return [number_of(frame.image) for frame in read_frames(path, indices)]


def pixels(path: Path, indices: list[int]) -> list[np.ndarray]:
    return [np.asarray(frame.image) for frame in read_frames(path, indices)]


def by_decord(path: Path, indices: list[int]) -> list[np.ndarray]:
    reader = decord.VideoReader(str(path), num_threads=1)
    return [reader[index].asnumpy() for index in indices]


def equal(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


# ---- which frames


def test_a_frame_is_the_one_that_was_asked_for(clip):
    assert numbers(clip, [0, 1, 11, 12, 35, 35, 59]) == [0, 1, 11, 12, 35, 35, 59]


def test_uniform_indices_are_the_middles_of_equal_parts(clip):
    info = probe_video(clip)
    assert uniform_indices(info, 8) == [3, 11, 18, 26, 33, 41, 48, 56]  # 60 (k + 1/2) / 8, rounded down
    assert uniform_indices(info, 1) == [30]
    assert uniform_indices(info, 60) == list(range(60))
    assert number_of(middle_frame(clip)) == 30


def test_a_short_clip_gives_all_it_has(tmp_path, write_clip):
    info = probe_video(write_clip(tmp_path / "short.mp4", [picture(k) for k in range(3)]))
    assert uniform_indices(info, 8) == [0, 1, 2]


def test_a_single_frame_is_a_video_too(tmp_path, write_clip):
    path = write_clip(tmp_path / "one.mp4", [picture(5)])
    assert uniform_indices(probe_video(path), 100) == [0]
    assert numbers(path, [0]) == [5]


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
def test_times_decide_where_frames_come_at_an_uneven_rate(tmp_path, write_clip, name):
    times = [40 * k for k in range(30)] + [1200 + 200 * k for k in range(30)]  # 1.2 s fast, 6 s slowly
    info = probe_video(write_clip(tmp_path / name, [picture(k) for k in range(60)], times_ms=times))
    assert not info.is_constant_rate
    assert info.starts_s == pytest.approx([t / 1000 for t in times], abs=1e-3)  # in ms in Matroska
    indices = uniform_indices(info, 7)
    middles = [info.duration_s * (k + 0.5) / 7 for k in range(7)]
    expected = [max(k for k, t in enumerate(times) if t / 1000 <= middle) for middle in middles]
    assert indices == expected
    assert indices[1] > 30  # by number it would be 12
    assert numbers(info.path, indices) == indices


def test_a_frame_that_is_shown_for_long_comes_several_times(tmp_path, write_clip):
    times = [0, 40, 80, 120, 160, 200, 8000, 8040]
    info = probe_video(write_clip(tmp_path / "still.mp4", [picture(k) for k in range(8)], times_ms=times))
    assert uniform_indices(info, 4) == [5, 5, 5, 5]
    assert numbers(info.path, [5, 5, 5, 5]) == [5, 5, 5, 5]


def test_times_rounded_to_milliseconds_are_no_uneven_rate(tmp_path, write_clip):
    info = probe_video(write_clip(tmp_path / "a.mkv", [picture(k) for k in range(50)], rate=30))
    assert len({round(b - a, 6) for a, b in zip(info.starts_s, info.starts_s[1:], strict=False)}) > 1
    assert info.is_constant_rate


def test_what_an_edit_list_cuts_away_is_not_counted(tmp_path, write_clip):
    """decord would count the ten frames before time 0 as well, and repeat the last one at the end."""
    path = write_clip(
        tmp_path / "cut.mp4", [picture(k) for k in range(40)], times_ms=[40 * k - 400 for k in range(40)]
    )
    info = probe_video(path)
    assert info.num_frames == 30
    assert numbers(path, [0, 15, 29]) == [10, 25, 39]


@pytest.mark.parametrize("indices", [[3, 2], [-1], [60], [0, 60]])
def test_numbers_that_fall_or_are_not_there_are_refused(clip, indices):
    with pytest.raises(ValueError, match=r"must rise and lie within 0\.\.59"):
        read_frames(clip, indices)


def test_no_frames_of_nothing(clip):
    assert list(read_frames(clip, [])) == []
    with pytest.raises(ValueError, match="at least one frame"):
        uniform_indices(probe_video(clip), 0)


# ---- which pixels


@pytest.mark.parametrize("name", CLIPS)
def test_decord_gives_the_same_on_real_clips(shared_data, name):
    path = shared_data / "videos" / name
    num_frames = probe_video(path).num_frames
    rng = np.random.default_rng(0)
    indices = sorted(rng.choice(num_frames, min(12, num_frames), replace=False).tolist())
    assert equal(pixels(path, indices), by_decord(path, indices))


NOISE = np.random.default_rng(0).integers(0, 60, (40, HEIGHT, WIDTH - 2, 3), dtype=np.uint8)
NOISY = [picture(k, WIDTH - 2) // 2 + NOISE[k] for k in range(40)]
FORMATS = [
    ("a.mp4", {"bf": "3", "g": "12"}),
    ("a.mp4", {"bf": "3", "g": "12", "x264-params": "open-gop=1"}),
    ("a.mp4", {"pixels": "yuv444p"}),
    ("a.mp4", {"pixels": "yuvj420p"}),
    ("a.mp4", {"container": {"movflags": "frag_keyframe+empty_moov"}, "g": "12"}),
    ("a.mkv", {"g": "12"}),
    ("a.webm", {"codec": "libvpx-vp9"}),
    ("a.webm", {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16"}),
]
NOT_BY_DECORD = [
    ("a.mp4", {"codec": "libx265", "g": "12", "x265-params": "log-level=none"}),
    ("a.mp4", {"codec": "libsvtav1", "preset": "12", "g": "12"}),
    ("a.avi", {"codec": "mpeg4", "bf": "2", "g": "12"}),
    ("a.avi", {"g": "12"}),
    ("a.ts", {"codec": "mpeg2video", "g": "12"}),
    ("a.mpg", {"codec": "mpeg2video", "g": "12"}),
    ("a.wmv", {"codec": "wmv2", "g": "12"}),
    ("a.flv", {"g": "12"}),
    ("a.gif", {"codec": "gif", "pixels": "rgb8"}),
]


@pytest.mark.parametrize(("name", "options"), FORMATS)
def test_decord_gives_the_same_where_it_finds_the_frame(tmp_path, write_clip, name, options):
    path = write_clip(tmp_path / name, NOISY, **options)
    for indices in ([0, 7, 13, 14, 30, 39], [31], [38]):
        assert equal(pixels(path, indices), by_decord(path, indices))


@pytest.mark.parametrize(("name", "options"), FORMATS + NOT_BY_DECORD)
def test_picked_frames_are_those_of_reading_through(tmp_path, write_clip, name, options):
    path = write_clip(tmp_path / name, NOISY, **options)
    through = pixels(path, list(range(40)))  # the decoder's own order, no jump
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert equal(through, decoded)
    for indices in ([0, 7, 13, 14, 30, 39], [31], [38]):
        assert equal(pixels(path, indices), [through[index] for index in indices])


def test_only_what_is_needed_is_decoded(clip):
    """From the key frame before each: 12 + 3 frames of 60 rather than 52."""
    info = probe_video(clip)
    assert info.key_frames == (0, 12, 24, 36, 48)
    keys = {}
    for at, to in [(-1, 11), (-1, 50), (13, 23), (13, 24), (50, 59)]:
        keys[at, to] = _key_to_jump_to(info, at, to)
    assert list(keys.values()) == [None, 48, None, 24, None]


def test_frames_do_not_depend_on_threads_or_on_what_runs_beside(clip):
    def read(threads: int) -> list[bytes]:
        return [frame.image.tobytes() for frame in read_frames(clip, list(range(0, 60, 7)), threads=threads)]

    alone = read(1)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, [0, 1, 2, 1])) == [alone] * 4


def test_a_forked_worker_reads_what_its_parent_reads(clip):
    here = numbers(clip, [3, 30])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        there = pool.map_async(partial(numbers, clip), [[3, 30]] * 4).get(timeout=60)
    assert there == [here] * 4


def test_one_frame_at_a_time_is_in_memory(tmp_path, write_clip):
    """600 frames of 1280 x 720 would take 1.6 GB."""
    frames = [np.full((720, 1280, 3), k % 200, dtype=np.uint8) for k in range(2)] * 300
    path = write_clip(tmp_path / "long.mp4", frames, preset="ultrafast")
    del frames
    code = (
        "import resource, sys\n"
        "from locvlm.data.video import read_frames\n"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert sum(1 for _ in read_frames(sys.argv[1], range(600), threads=1)) == 600\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300  # MiB


# ---- which way up


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_come_upright(tmp_path, write_clip, degrees, mirrored):
    stored = quadrants()
    path = write_clip(
        tmp_path / "turned.mp4",
        [stored] * 3,
        pixels="yuv444p",
        display=lambda stream: stream.set_display_rotation(degrees, hflip=mirrored),
    )
    upright = np.rot90(stored, degrees // 90)  # counter-clockwise, then mirrored
    upright = upright[:, ::-1] if mirrored else upright
    info = probe_video(path)
    assert info.size == (upright.shape[1], upright.shape[0])
    assert info.turn.frame((WIDTH, HEIGHT)).canvas_size == info.size
    for frame in read_frames(path, [0, 2]):
        assert np.abs(np.asarray(frame.image).astype(int) - upright).mean() < 8  # coding, mostly at the edges
    if not mirrored:
        assert equal(pixels(path, [0, 2]), by_decord(path, [0, 2]))


def test_a_clip_of_a_phone_is_turned(shared_data):
    info = probe_video(shared_data / "videos" / "rotation_video_90.mov")
    assert (info.size, info.turn.exif) == ((320, 568), 6)  # stored as 568 x 320, to be turned clockwise


def test_a_turn_by_another_angle_is_refused(tmp_path, write_clip):
    path = write_clip(
        tmp_path / "a.mp4", [quadrants()], display=lambda stream: stream.set_display_rotation(10)
    )
    with pytest.raises(UnreadableVideo, match="no quarter turn"):
        probe_video(path)


def test_pixels_that_are_not_square_are_told_of_and_left_as_they_are(tmp_path, write_clip):
    wide = write_clip(tmp_path / "wide.mp4", [quadrants()], pixel_aspect=Fraction(4, 3))
    assert probe_video(wide).pixel_aspect == Fraction(4, 3)
    assert middle_frame(wide).size == (WIDTH, HEIGHT)
    turned = write_clip(
        tmp_path / "turned.mp4",
        [quadrants()],
        pixel_aspect=Fraction(4, 3),
        display=lambda stream: stream.set_display_rotation(90),
    )
    assert probe_video(turned).pixel_aspect == Fraction(3, 4)  # now they are higher than wide
    assert middle_frame(turned).size == (HEIGHT, WIDTH)


# ---- what cannot be read


def test_a_corrupt_tail_is_an_error_that_says_how_far_it_went(shared_data):
    path = shared_data / "videos" / "corrupted.mp4"
    info = probe_video(path)
    assert info.num_frames == 50
    assert len(list(read_frames(path, [0, 10, 20], info=info))) == 3
    frames = read_frames(path, [0, 10, 27, 35], info=info)
    assert [next(frames).index for _ in range(3)] == [0, 10, 27]
    with pytest.raises(UnreadableVideo, match=r"corrupted\.mp4: frame 35 of 50 .* last before it .* is 27"):
        next(frames)


def test_a_file_that_was_cut_off_is_an_error(tmp_path, write_clip):
    noise = np.random.default_rng(0).integers(0, 255, (60, HEIGHT, WIDTH, 3), dtype=np.uint8)
    whole = write_clip(tmp_path / "whole.mp4", list(noise), container={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(UnreadableVideo, match=r"cut\.mp4: the file is cut off, it holds \d\d of 60 frames"):
        probe_video(cut)
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(UnreadableVideo, match=r"headless\.mp4: holds no video stream"):
        probe_video(headless)


def test_frames_of_two_sizes_are_an_error(tmp_path, write_clip):
    """Two streams of MPEG-2, one after another in one file, as recordings of television have them."""
    parts = [
        write_clip(tmp_path / f"{k}.mpg", [picture(k, width) for k in range(20)], codec="mpeg2video")
        for k, width in enumerate((96, 160))
    ]
    path = tmp_path / "both.mpg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(UnreadableVideo, match="the first is of"):
        list(_checked_all(path))


def _checked_all(path: Path):
    info = probe_video(path)
    yield from read_frames(path, range(info.num_frames), info=info)


def test_what_is_no_video_is_an_error(tmp_path, write_clip):
    with pytest.raises(UnreadableVideo, match="no such video"):
        probe_video(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UnreadableVideo, match="cannot be read as a video"):
        probe_video(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableVideo, match="cannot be read as a video"):
        probe_video(tmp_path / "empty.mp4")
    with av.open(str(tmp_path / "sound.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.rate = 8000
        out.mux(stream.encode(frame))
    with pytest.raises(UnreadableVideo, match="holds no video stream"):
        probe_video(tmp_path / "sound.wav")


def test_a_folder_is_no_video(tmp_path):
    with pytest.raises(UnreadableVideo, match="cannot be read as a video"):
        probe_video(tmp_path)
