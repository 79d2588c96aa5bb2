"""Video files -> upright RGB frames, one at a time.

Frame k is the k-th that is shown: parts that an edit list cuts away are not counted, and times are the
container's own. Which frames there are is read from the file's packets, without decoding; frames are then
decoded from the last key frame before each, where the container has an index, or from the start.

PyAV decodes everything. decord, which the field mostly uses, gives the same pixels where it finds the frame
and is no faster (100 frames of a minute: 0.77 s of CPU time, PyAV 0.73 s). But it opens no AV1 and no GIF,
does not mirror, and gives other frames than it is asked for, without a word, in HEVC, AVI with B-frames, WMV,
MPEG streams and trimmed clips. The tests compare the two.

Source pixels of a video, in which its boxes live, are those of the upright frame as stored: turned as the
file says, not stretched where its pixels are not square (`VideoInfo.pixel_aspect` says how wide they are).

Nothing is open between calls, and an iterator holds one frame besides the decoder's own few. An open video
does not survive a fork, so make and exhaust an iterator in one process and one thread; any number may run
side by side.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from locvlm.data.archive import open_video
from locvlm.data.image import apply_step
from locvlm.geometry import Size, Turn

VIDEO_EXTENSIONS = (
    *("mp4", "mkv", "webm", "avi", "mov", "m4v", "gif", "flv", "mpg", "mpeg", "wmv", "3gp", "ts", "ogv"),
)
# containers that go exactly to the key frame that is asked for; AVI, for one, knows no presentation times
_WITH_INDEX = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


class UnreadableVideo(ValueError):
    """A video file that is missing, broken, cut off, or holds no picture."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VideoInfo:
    """What a video file says about itself.

    num_frames     that are shown, from 0
    size           (width, height) of the upright frame in stored pixels: the source pixels of its boxes
    turn           stored raster -> upright frame; `read_frames` does it
    pixel_aspect   width of an upright pixel : its height, 1 for square ones
    starts_s       when each frame is shown, in seconds after the first, rising
    duration_s     until the last frame ends
    """

    path: Path
    num_frames: int
    size: Size
    turn: Turn
    pixel_aspect: Fraction
    starts_s: tuple[float, ...]
    duration_s: float
    shown_pts: tuple[int, ...]  # presentation time stamps, in the container's unit; () if it has none
    key_frames: tuple[int, ...]  # numbers of frames that decoding can start from; () without an index

    @property
    def is_constant_rate(self) -> bool:
        """Whether every frame is shown within half a frame of where an even rate would show it."""
        step = self.duration_s / self.num_frames
        return all(abs(start - k * step) <= step / 2 for k, start in enumerate(self.starts_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFrame:
    """One frame, upright, RGB."""

    index: int
    start_s: float
    image: Image.Image


def probe_video(path: str | Path) -> VideoInfo:
    """Size, turn and times of a video; reads its packets and decodes its first frame.

    Raises:
        UnreadableVideo: no such file, no video in it, no readable first frame, or a file that was cut off.
    """
    try:
        with av.open(open_video(path), "r") as container:
            if not container.streams.video:
                raise UnreadableVideo(f"{path}: holds no video stream; expected a video file")
            stream = container.streams.video[0]
            packets = [_Packet.of(p) for p in container.demux(stream) if p.size or p.dts is not None]
            _require_whole(path, packets, stream.frames)
            container.seek(0)
            first = next(container.decode(stream), None)
            if first is None:
                raise UnreadableVideo(f"{path}: no frame of it can be decoded; fetch it again or drop it")
            return _info(Path(path), container, [p for p in packets if not p.is_empty], first)
    except FileNotFoundError:
        is_bare = Path(path).suffix.lstrip(".").lower() not in VIDEO_EXTENSIONS
        hint = f", and no {Path(path).name}.mp4, .mkv, .webm ... beside it" if is_bare else ""
        raise UnreadableVideo(
            f"{path}: no such video{hint}; check the video root and the file name"
        ) from None
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(
            f"{path}: cannot be read as a video ({error.strerror or error}); fetch it again or drop it"
        ) from error


def uniform_indices(info: VideoInfo, num_frames: int) -> list[int]:
    """The frames shown at the middles of `num_frames` equal parts of the video, rising.

    8 frames of 16 -> 1, 3, 5, ... 15. Where frames do not come at an even rate, their times decide, and one
    that is shown for long may come several times. A video that has no more frames gives all of them, once.
    """
    if num_frames <= 0:
        raise ValueError(f"at least one frame is needed, got num_frames {num_frames}")
    if info.num_frames <= num_frames:
        return list(range(info.num_frames))
    return clip_indices(info, num_frames)


def clip_indices(info: VideoInfo, num_frames: int) -> list[int]:
    """As `uniform_indices`, but always `num_frames` of them: a video that has fewer frames repeats some.

    5 frames asked for 8 times -> 0, 0, 1, 2, 2, 3, 4, 4.
    """
    if num_frames <= 0:
        raise ValueError(f"at least one frame is needed, got num_frames {num_frames}")
    if info.is_constant_rate:
        return [(2 * k + 1) * info.num_frames // (2 * num_frames) for k in range(num_frames)]
    middles = [(2 * k + 1) * info.duration_s / (2 * num_frames) for k in range(num_frames)]
    return [bisect_right(info.starts_s, middle) - 1 for middle in middles]


def read_frames(
    path: str | Path, indices: Sequence[int], *, info: VideoInfo | None = None, threads: int = 0
) -> Iterator[VideoFrame]:
    """The frames of these numbers, in their order.

    Args:
        indices: rising, repeats allowed; `uniform_indices` makes them.
        info: of this video, if it was probed before.
        threads: of the decoder, 0 for as many as it likes; 1 within workers of a data loader. Frames do not
            depend on it.

    Raises:
        UnreadableVideo: at the frame that cannot be decoded, naming it and the last one that could be.
        ValueError: numbers that fall, or that the video does not have.
    """
    info = info or probe_video(path)
    wanted = list(indices)
    if any(a > b for a, b in pairwise(wanted)) or (
        wanted and not 0 <= wanted[0] <= wanted[-1] < info.num_frames
    ):
        raise ValueError(
            f"{path}: frame numbers must rise and lie within 0..{info.num_frames - 1}, got {_shown(wanted)}"
        )
    return _frames(info, wanted, threads)


def middle_frame(path: str | Path) -> Image.Image:
    """The frame in the middle of a video, upright, RGB: the picture that stands for it."""
    info = probe_video(path)
    (frame,) = read_frames(path, uniform_indices(info, 1), info=info)
    return frame.image


# ---- what the container says


class _Packet(NamedTuple):
    """What is kept of a packet, whose bytes would fill the memory."""

    pts: int | None
    duration: int
    is_key: bool
    is_discard: bool
    is_corrupt: bool
    is_empty: bool

    @classmethod
    def of(cls, p: Any) -> "_Packet":
        """Of a packet of PyAV."""
        return cls(p.pts, p.duration or 0, p.is_keyframe, p.is_discard, p.is_corrupt, p.size == 0)


def _require_whole(path: str | Path, packets: Sequence[_Packet], num_declared: int) -> None:
    """Raise if the file ends before what its header promises: frames would be picked from its start alone."""
    is_torn = any(packet.is_corrupt for packet in packets)
    if is_torn or not packets or len(packets) < num_declared:
        of = f" of {num_declared}" if num_declared else ""
        raise UnreadableVideo(
            f"{path}: the file is cut off, it holds {len(packets) - is_torn}{of} frames; "
            f"fetch it again or drop it"
        )


def _info(path: Path, container: Any, packets: Sequence[_Packet], first: Any) -> VideoInfo:
    stream = container.streams.video[0]
    shown = sorted((p for p in packets if not p.is_discard), key=lambda p: (p.pts is None, p.pts or 0))
    pts = [p.pts for p in shown if p.pts is not None]
    has_times = len(pts) == len(shown) and all(a < b for a, b in pairwise(pts))
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    unit = float(stream.time_base) if has_times else float(1 / rate)
    ticks = [p - pts[0] for p in pts] if has_times else list(range(len(shown)))
    last = shown[-1].duration if has_times else 1
    last = last or (ticks[-1] - ticks[-2] if len(ticks) > 1 else 1)
    turn = Turn(_exif_of(path, first))
    can_jump = has_times and container.format.name in _WITH_INDEX
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return VideoInfo(
        path=path,
        num_frames=len(shown),
        size=turn.frame((first.width, first.height)).canvas_size,
        turn=turn,
        pixel_aspect=1 / aspect if turn.exif > 4 else Fraction(aspect),
        starts_s=tuple(tick * unit for tick in ticks),
        duration_s=(ticks[-1] + last) * unit,
        shown_pts=tuple(pts) if has_times else (),
        key_frames=tuple(k for k, p in enumerate(shown) if p.is_key) if can_jump else (),
    )


def _exif_of(path: Path, frame: Any) -> int:
    """The EXIF orientation that a frame's display matrix amounts to, 1 if it has none."""
    matrix = next((bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return 1
    a, b, _, c, d, *_ = np.frombuffer(matrix, dtype="<i4").tolist()  # x' = a x + c y, y' = b x + d y
    largest = max(abs(v) for v in (a, b, c, d)) or 1
    for exif in range(1, 9):
        m = Turn(exif).frame((1, 1)).matrix
        turn = (m[0], m[1], m[3], m[4])
        if all(abs(v / largest - w) < 0.01 for v, w in zip((a, c, b, d), turn, strict=True)):
            return exif
    raise UnreadableVideo(
        f"{path}: its frames are to be turned by an angle that is no quarter turn; "
        f"re-encode it upright or drop it"
    )


# ---- decoding


def _frames(info: VideoInfo, wanted: list[int], threads: int) -> Iterator[VideoFrame]:
    with av.open(open_video(info.path), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", threads
        frames = _numbered(info, container.decode(stream))
        number, frame = -1, None
        for index in wanted:
            try:
                if (key := _key_to_jump_to(info, number, index)) is not None:
                    container.seek(info.shown_pts[key], stream=stream)
                    frames = _numbered(info, container.decode(stream))
                    number, frame = next(frames)
                while number < index:
                    number, frame = next(frames)
            except (av.FFmpegError, StopIteration) as error:
                reason = getattr(error, "strerror", "") or "the stream ends"
                raise UnreadableVideo(
                    f"{info.path}: frame {index} of {info.num_frames} cannot be decoded ({reason}); the last "
                    f"before it that can be is {'none' if number < 0 else number}: fetch it again or drop it"
                ) from error
            yield _upright(info, index, frame)


def _upright(info: VideoInfo, index: int, frame: Any) -> VideoFrame:
    image = apply_step(Image.fromarray(frame.to_ndarray(format="rgb24")), info.turn)
    if image.size != info.size:
        raise UnreadableVideo(
            f"{info.path}: frame {index} is of (width, height) {image.size}, the first is of {info.size}; "
            f"boxes would not fit: re-encode it to one size or drop it"
        )
    return VideoFrame(index=index, start_s=info.starts_s[index], image=image)


def _numbered(info: VideoInfo, frames: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    """(number, frame), by its time stamp where the container has them, else by counting from the start."""
    for count, frame in enumerate(frames):
        has_time = bool(info.shown_pts) and frame.pts is not None
        yield (bisect_right(info.shown_pts, frame.pts) - 1 if has_time else count), frame


def _key_to_jump_to(info: VideoInfo, number: int, index: int) -> int | None:
    """The number of the key frame to go on from, if that is nearer to `index` than frame `number` is."""
    place = bisect_right(info.key_frames, index) - 1
    is_ahead = place >= 0 and info.key_frames[place] > number + 1
    return info.key_frames[place] if is_ahead else None


def _shown(numbers: Sequence[int]) -> str:
    return str(list(numbers)) if len(numbers) <= 10 else f"{list(numbers[:9])} and {len(numbers) - 9} more"
