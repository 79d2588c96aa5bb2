"""Segments from COCO panoptic files on disk: COCO's own, or what scripts/segment_with_seem.py wrote.

The PNG may be smaller or larger than its image, as it is where a segmenter works on a resized one. Then the
way between the two is a plain resize, edges to edges, and boxes are brought back by its inverse. PNGs of
images that were padded or cropped first do not fit this.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from locvlm.annotations.panoptic import (
    Extent,
    PanopticCategory,
    PanopticImage,
    SegmentInfo,
    UnreadableMap,
    class_labels,
    measure_segments,
    read_id_map,
    read_panoptic,
)
from locvlm.building.parallel import map_in_order
from locvlm.building.segmenting.segment import (
    AREA_DIFFERS,
    BOX_DIFFERS,
    UNLISTED,
    WITHOUT_PIXELS,
    Category,
    Picture,
    Segment,
    Segmented,
    to_source,
)
from locvlm.geometry import Resize
from locvlm.io import resolve_inside

NOT_LISTED = "image is not in the panoptic JSON"
NO_ANNOTATION = "image has no segments in the panoptic JSON"
UNREADABLE_PNG = "unreadable PNG of segments"


class _Job(NamedTuple):
    """What one process needs to know about one image."""

    image: PanopticImage | None
    pngs: Path
    categories: dict[int, Category]  # those of the image's segments


class PanopticFiles:
    """The segmenter that reads panoptic files."""

    def __init__(self, jsons: Sequence[Path], pngs: Path | None = None, *, workers: int = 0) -> None:
        """Read the lists of segments.

        Args:
            jsons: panoptic JSONs with the same categories, such as those of the shards of one run.
            pngs: folder of the PNGs; None for a folder beside each JSON, of its name without ".json".
            workers: processes that read PNGs, 0 for this one.

        Raises:
            ValueError: for a file of another kind, categories that differ, or an image that is there twice.
        """
        self._images: dict[str, tuple[PanopticImage, Path]] = {}
        self._workers = workers
        by_id: dict[int, PanopticCategory] = {}
        for path in jsons:
            file = read_panoptic(path)
            if by_id and file.categories != by_id:
                raise ValueError(
                    f"{path} has other categories than {jsons[0]}; name files of one segmenter alone"
                )
            by_id = file.categories
            for image in file.images:
                if image.image in self._images:
                    raise ValueError(f"{path}: the image {image.image!r} is there twice")
                self._images[image.image] = (image, path.with_suffix("") if pngs is None else pngs)
        labels = class_labels(category.name for category in by_id.values())
        self._categories = {k: Category(labels[c.name], bool(c.isthing)) for k, c in by_id.items()}

    @property
    def categories(self) -> Sequence[Category]:
        """As the files list them."""
        return tuple(self._categories.values())

    @property
    def image_names(self) -> list[str]:
        """The images of the files, in their order."""
        return list(self._images)

    def segment(self, pictures: Iterable[Picture]) -> Iterator[Segmented]:
        """Boxes measured in the PNGs; no picture is loaded, their sizes are those of the JSON."""
        return map_in_order(_read, (self._job(picture.name) for picture in pictures), self._workers)

    def _job(self, name: str) -> _Job:
        if name not in self._images:
            return _Job(None, Path(), {})
        image, pngs = self._images[name]
        return _Job(image, pngs, {s.category_id: self._categories[s.category_id] for s in image.segments})


def _read(job: _Job) -> Segmented:
    if job.image is None:
        return Segmented(failed=NOT_LISTED)
    if job.image.png is None:
        return Segmented(failed=NO_ANNOTATION)
    try:
        id_map = read_id_map(resolve_inside(job.pngs, job.image.png))
    except UnreadableMap as error:
        return Segmented(failed=UNREADABLE_PNG, detail=str(error))
    extents = measure_segments(id_map)
    size = (job.image.width, job.image.height)
    height, width = id_map.shape
    frame = Resize(width, height).frame(size)
    odd: Counter[str] = Counter()
    segments = []
    for info in job.image.segments:
        extent = extents.pop(info.id, None)
        if extent is None:
            odd[WITHOUT_PIXELS] += 1
            continue
        odd.update(_differences(info, extent))
        category = job.categories[info.category_id]
        segment = Segment(
            category=category.label,
            is_thing=category.is_thing,
            box_px=extent.box,
            area_px=extent.area,
            is_crowd=bool(info.iscrowd),
        )
        segments.append(to_source(segment, frame))
    odd[UNLISTED] += len(extents)
    return Segmented(size=size, segments=tuple(segments), odd=dict(+odd))


def _differences(info: SegmentInfo, extent: Extent) -> Iterator[str]:
    """What a JSON says otherwise than its PNG; both in pixels of the PNG."""
    box = extent.box
    if info.area is not None and info.area != extent.area:
        yield AREA_DIFFERS
    if info.bbox is not None and info.bbox != (box.x1, box.y1, box.width, box.height):
        yield BOX_DIFFERS
