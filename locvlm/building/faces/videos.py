"""A video file -> the same video with its faces blurred.

Frames are read upright (`locvlm.data.video`) and written upright, at their own times, in their own size, so
boxes of annotation files fit as before. Video is encoded as H.264 of high quality, in WebM as VP9, in AVI
as MPEG-4; the first audio stream is copied as it is, subtitles and data are left out. A video without a
face is not touched.

Needs the extras `faces` and `video`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from locvlm.building.faces.blur import Shape, blur_faces
from locvlm.building.faces.detect import Face, FaceDetector
from locvlm.building.faces.spread import spread_faces
from locvlm.data.video import VideoInfo, probe_video, read_frames
from locvlm.geometry import Box, Size

_HOLD_S = 0.2  # a face is blurred in the frames of this time before and after it, too


class _Form(NamedTuple):
    """How a kind of file is written: FFmpeg's names."""

    container: str
    encoder: str
    options: dict[str, str]


_H264 = {"crf": "18", "preset": "medium"}
_FORMS = {
    ".mp4": _Form("mp4", "libx264", _H264),
    ".m4v": _Form("mp4", "libx264", _H264),
    ".mov": _Form("mov", "libx264", _H264),
    ".mkv": _Form("matroska", "libx264", _H264),
    ".webm": _Form("webm", "libvpx-vp9", {"crf": "24", "b:v": "0", "deadline": "good", "cpu-used": "4"}),
    ".avi": _Form("avi", "mpeg4", {"q": "2", "qmin": "2", "qmax": "4"}),
}
VIDEO_SUFFIXES = tuple(_FORMS)


class UnwritableVideo(ValueError):
    """A video with faces that FFmpeg does not write in its form."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFaces:
    """The faces of a video, frame by frame, in source pixels, and which boxes to blur in each frame."""

    info: VideoInfo
    faces: tuple[tuple[Face, ...], ...]
    boxes_px: tuple[tuple[Box, ...], ...]

    @property
    def size(self) -> Size:
        """(width, height) of the upright frames."""
        return self.info.size


def find_video_faces(path: Path, detector: FaceDetector, *, every: int = 1, threads: int = 0) -> VideoFaces:
    """The faces of a video, looked for in every `every`-th frame and the last one.

    A face counts for the frames around it, too: for 0.2 s, and at least to the next frame that is looked at.

    Raises:
        UnreadableVideo: see `probe_video` and `read_frames`.
    """
    if every < 1:
        raise ValueError(f"faces are looked for in every n-th frame, n of at least 1; got {every}")
    info = probe_video(path)
    looked_at = sorted({*range(0, info.num_frames, every), info.num_frames - 1})
    faces: list[tuple[Face, ...]] = [()] * info.num_frames
    for frame in read_frames(path, looked_at, info=info, threads=threads):
        faces[frame.index] = tuple(detector.find(frame.image))
    reach = max(every, round(_HOLD_S * info.num_frames / info.duration_s))
    boxes = spread_faces(faces, reach=reach if info.num_frames > 1 else 0)
    return VideoFaces(info=info, faces=tuple(faces), boxes_px=tuple(map(tuple, boxes)))


def write_blurred_video(found: VideoFaces, file: IO[bytes], *, shape: Shape, threads: int = 0) -> None:
    """Write the video with its faces blurred to an open file.

    Raises:
        UnreadableVideo: see `read_frames`.
        UnwritableVideo: the encoder or the container refuses it, or its sound.
        OSError: if there is no room for it.
    """
    import av

    try:
        _write(found, file, shape, threads)
    except av.FFmpegError as error:
        raise UnwritableVideo(f"{found.info.path}: cannot be written anew ({error})") from error


def _write(found: VideoFaces, file: IO[bytes], shape: Shape, threads: int) -> None:
    import av

    info = found.info
    form = _FORMS[info.path.suffix.lower()]
    with av.open(str(info.path)) as source, av.open(file, "w", format=form.container) as target:
        video = _add_video(target, form, source.streams.video[0], info, threads)
        audio = _AudioCopy(source, target)
        for pts, image in _blurred_frames(found, shape, threads):
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame.pts, frame.time_base = pts, video.codec_context.time_base
            audio.copy_until(float(pts * frame.time_base))
            target.mux(video.encode(frame))
        audio.copy_until(float("inf"))
        target.mux(video.encode(None))


def _blurred_frames(found: VideoFaces, shape: Shape, threads: int) -> Iterator[tuple[int, Image.Image]]:
    """(time stamp, upright frame)."""
    info = found.info
    times: Sequence[int] = info.shown_pts or range(info.num_frames)
    for frame in read_frames(info.path, range(info.num_frames), info=info, threads=threads):
        yield times[frame.index], blur_faces(frame.image, found.boxes_px[frame.index], shape=shape)


def _add_video(target: Any, form: _Form, source: Any, info: VideoInfo, threads: int) -> Any:
    rate = source.average_rate or source.guessed_rate or Fraction(25)
    stream = target.add_stream(form.encoder, rate=rate, options=form.options)
    stream.width, stream.height = info.size
    is_even = info.size[0] % 2 == info.size[1] % 2 == 0
    stream.pix_fmt = "yuv420p" if is_even else "yuv444p"  # halved colour needs even sides
    stream.codec_context.time_base = source.time_base if info.shown_pts else 1 / Fraction(rate)
    stream.codec_context.thread_count = threads
    stream.codec_context.sample_aspect_ratio = info.pixel_aspect
    return stream


class _AudioCopy:
    """The packets of the first audio stream, copied bit by bit as the video goes on."""

    def __init__(self, source: Any, target: Any) -> None:
        self._target = target
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        if source.streams.audio:
            self._stream = target.add_stream_from_template(source.streams.audio[0])
            self._packets = (p for p in source.demux(source.streams.audio[0]) if p.dts is not None)
            self._next = next(self._packets, None)

    def copy_until(self, time_s: float) -> None:
        """Copy what is to be heard up to this time."""
        while self._next is not None and float(self._next.dts * self._next.time_base) <= time_s:
            self._next.stream = self._stream
            self._target.mux(self._next)
            self._next = next(self._packets, None)
