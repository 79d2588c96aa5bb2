"""Segments of a few frames of each video.

A video's frames are pictures to a segmenter. They are named `<video>/<frame number>.jpg`, which is where
data_builders/extract_frames writes them, so that segments found by other tools are found again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from PIL import Image

from locvlm.building.journal import Journal
from locvlm.building.segmenting.segment import Picture, Segmented, Segmenter, count_segments
from locvlm.data.video import UnreadableVideo, probe_video, read_frames, uniform_indices
from locvlm.geometry import Size
from locvlm.io import Ledger, atomic_writer, read_jsonl
from locvlm.progress import progress

UNREADABLE_VIDEO = "unreadable video"
OTHER_SIZE = "segments are of frames of another size"


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedVideo:
    """What a segmenter says about some frames of a video; where `failed` is set, nothing."""

    video: str  # path relative to the video root
    size: Size = (0, 0)  # (width, height) of the upright frames
    frames: tuple[int, ...] = ()  # their numbers
    answers: tuple[Segmented, ...] = ()  # one for each frame
    failed: str = ""  # why there is no answer, one of a few fixed phrases
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "video": self.video,
            "size": self.size,
            "frames": self.frames,
            "answers": [answer.to_json() for answer in self.answers],
            "failed": self.failed,
            "detail": self.detail,
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "SegmentedVideo":
        """The inverse of `to_json`."""
        return cls(
            video=row["video"],
            size=tuple(row["size"]),
            frames=tuple(row["frames"]),
            answers=tuple(Segmented.from_json(answer) for answer in row["answers"]),
            failed=row["failed"],
            detail=row["detail"],
        )


def frame_name(video: str, frame: int) -> str:
    """How a frame's picture is called: "v_abc.mp4/000123.jpg"."""
    return f"{video}/{frame:06d}.jpg"


def segment_video(video: str, path: Path, segmenter: Segmenter, *, num_frames: int) -> SegmentedVideo:
    """The segments of `num_frames` uniformly spaced frames of the video at `path`, called `video`.

    One frame without an answer fails the video: what it shows would count as absent.
    """
    try:
        info = probe_video(path)
        indices = sorted(set(uniform_indices(info, num_frames)))
        images = read_frames(path, indices, info=info)

        def load() -> Image.Image:
            return next(images).image

        pictures = [Picture(frame_name(video, index), load) for index in indices]
        answers = tuple(segmenter.segment(pictures))
    except UnreadableVideo as error:
        return SegmentedVideo(video=video, failed=UNREADABLE_VIDEO, detail=str(error))
    for picture, answer in zip(pictures, answers, strict=True):
        if answer.failed:
            detail = f"{picture.name}: {answer.detail}" if answer.detail else picture.name
            return SegmentedVideo(video=video, failed=answer.failed, detail=detail)
        if answer.size != info.size:
            detail = f"{picture.name} is of (width, height) {answer.size}, the video of {info.size}"
            return SegmentedVideo(video=video, failed=OTHER_SIZE, detail=detail)
    return SegmentedVideo(video=video, size=info.size, frames=tuple(indices), answers=answers)


def extract_frames(video: str, path: Path, folder: Path, *, num_frames: int) -> SegmentedVideo:
    """Write those frames to `folder` as JPEGs; the answer holds their numbers and their size, no segments.

    A frame that is there already stays. Of a video that cannot be read to the end, none is left.
    """
    written: list[Path] = []
    try:
        info = probe_video(path)
        indices = sorted(set(uniform_indices(info, num_frames)))
        missing = [index for index in indices if not (folder / frame_name(video, index)).is_file()]
        for frame in read_frames(path, missing, info=info):
            written.append(folder / frame_name(video, frame.index))
            with atomic_writer(written[-1], binary=True) as file:
                frame.image.save(file, "JPEG", quality=95, subsampling=0)
    except UnreadableVideo as error:
        for jpeg in written:
            jpeg.unlink()
        return SegmentedVideo(video=video, failed=UNREADABLE_VIDEO, detail=str(error))
    return SegmentedVideo(video=video, size=info.size, frames=tuple(indices))


def answer_all(
    videos: Sequence[str], journal: Journal, answer: Callable[[Iterable[str]], Iterable[SegmentedVideo]]
) -> None:
    """Ask for the videos that are not in the journal yet, and add what comes."""
    todo = [video for video in videos if video not in journal]
    answers = progress(
        answer(todo), what="videos", total=len(videos), done=len(videos) - len(todo), unit="video"
    )
    for video, answered in zip(todo, answers, strict=True):
        journal.add(video, answered.to_json())


def read_segments(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of `SegmentedVideo`s, for `Tally.readable`.

    Raises:
        ValueError: naming file and line, for a row of another kind, or without segments.
    """
    expected = {spec.name for spec in fields(SegmentedVideo)}
    for number, row in read_jsonl(path):
        if row.keys() != expected or len(row["answers"]) != len(row["frames"]):
            raise ValueError(
                f"{path}:{number}: expected what localize_activitynet --segments-only writes, a video with "
                f"segments for each of its frames, got a row with {', '.join(row)}"
            )
        yield row


class Tally:
    """Counts videos and segments, those that were lost and why, as they are read."""

    def __init__(self) -> None:
        self.videos = Ledger("videos")
        self.segments = Ledger("segments")
        self.odd: Counter[str] = Counter()  # what did not fit together in files of segments

    def readable(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[SegmentedVideo]:
        """The videos that there is an answer for, of rows that `SegmentedVideo.to_json` made."""
        for video in map(SegmentedVideo.from_json, rows):
            if video.failed:
                self.videos.drop(video.video, video.failed, video.detail)
                continue
            self.videos.keep()
            count_segments(video.answers, self.segments, self.odd)
            yield video

    def require_dropped_at_most(self, fraction: float) -> None:
        """Raise ValueError if more of the videos, or of the segments, was lost."""
        for ledger in self.ledgers:
            ledger.require_dropped_at_most(fraction)

    @property
    def ledgers(self) -> list[Ledger]:
        """Both."""
        return [self.videos, self.segments]
