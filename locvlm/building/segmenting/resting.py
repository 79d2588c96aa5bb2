"""What rests in a video, and records that ask about it (paper app. D)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from locvlm.building.segmenting.segment import Segment
from locvlm.building.segmenting.videos import SegmentedVideo
from locvlm.geometry import Box, Resize, Size
from locvlm.io import Ledger
from locvlm.objectives.select import Negatives, SelectionConfig, build_record
from locvlm.records import ImageAnnotation, ObjectAnnotation, Record

_DECIMALS = 2  # of a box's pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticRule:
    """Which objects of a video can be asked about.

    Frames are segmented one by one, so nothing tells which of two cars is the first one again: a class
    counts only where no frame shows two of it, nor a crowd. Of those, objects that are seen in a single
    frame do, and objects that rest: in every frame that shows them, the centre of the box is within
    `max_shift` of its mean.
    """

    max_shift: float = 5.0  # canvas pixels, in a straight line
    canvas: int = 224  # side of the square that frames are stretched to
    with_stuff: bool = False  # ask about stuff as well, such as sky

    def __post_init__(self) -> None:
        if self.max_shift < 0 or self.canvas <= 0:
            raise ValueError(
                f"max_shift must not be negative and canvas above 0, got {self.max_shift} and {self.canvas}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedVideo:
    """A video as if it were one image, and the frames that this was seen in."""

    annotation: ImageAnnotation
    frames: tuple[int, ...]


def annotate_video(video: SegmentedVideo, rule: StaticRule) -> AnnotatedVideo:
    """The video as if it were one image: an object for each class that it shows.

    What `rule` lets be asked about has its mean box. All else is marked as a crowd: it is not asked about,
    and it is present.
    """
    shown: dict[str, list[tuple[int, Segment]]] = {}
    for place, answer in enumerate(video.answers):
        for segment in answer.segments:
            if segment.is_thing or rule.with_stuff:
                shown.setdefault(segment.category, []).append((place, segment))
    objects = tuple(
        ObjectAnnotation(
            category=category,
            box_px=Box(*(round(v, _DECIMALS) for v in _mean_box([s.box_px for _, s in seen]))),
            is_crowd=not _is_static(seen, video.size, rule),
        )
        for category, seen in sorted(shown.items())
    )
    width, height = video.size
    annotation = ImageAnnotation(
        image_id=video.video, image=video.video, width=width, height=height, objects=objects
    )
    return AnnotatedVideo(annotation=annotation, frames=video.frames)


def build_video_records(
    videos: Iterable[AnnotatedVideo], negatives: Negatives, config: SelectionConfig, ledger: Ledger
) -> Iterator[Record]:
    """LocPred, RevLoc and NegPred for each video; those in which nothing can be asked about are counted."""
    for video in videos:
        record = build_record(video.annotation, negatives, config)
        if record is None:
            ledger.drop(video.annotation.image_id, "nothing rests in it")
            continue
        ledger.keep()
        source = {"frames": list(video.frames)}
        yield replace(record, image=None, video=video.annotation.image, source=source)


def _is_static(seen: Sequence[tuple[int, Segment]], size: Size, rule: StaticRule) -> bool:
    """Whether the segments (place of the frame, segment) of one class are one object that rests."""
    per_frame = Counter(place for place, _ in seen)
    if max(per_frame.values()) > 1 or any(segment.is_crowd for _, segment in seen):
        return False
    canvas = Resize(rule.canvas, rule.canvas).frame(size)
    boxes = [canvas.to_canvas(segment.box_px) for _, segment in seen]
    middle = _mean_box(boxes).center
    return all(
        ((box.center.x - middle.x) ** 2 + (box.center.y - middle.y) ** 2) ** 0.5 <= rule.max_shift
        for box in boxes
    )


def _mean_box(boxes: Sequence[Box]) -> Box:
    return Box(*(sum(side) / len(boxes) for side in zip(*boxes, strict=True)))
