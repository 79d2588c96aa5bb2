"""Which classes are in an image or video, and which are not, from annotations of several kinds."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from locvlm.annotations.ade import AdeClass, LabelMap, read_label_map
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation, Record


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """An image or video with the classes that can be asked about, sorted.

    A class in neither list is not known well enough.
    """

    record: Record  # without queries
    present: tuple[str, ...]
    absent: tuple[str, ...]


def with_enough_classes(scenes: Iterable[Scene], num_classes: int, ledger: Ledger) -> Iterator[Scene]:
    """The scenes that can be asked about `num_classes` present and as many absent classes."""
    if num_classes < 1:
        raise ValueError(f"at least 1 present and 1 absent class have to be asked about, got {num_classes}")
    for scene in scenes:
        if len(scene.present) < num_classes:
            ledger.drop(scene.record.id, f"fewer than {num_classes} present classes")
        elif len(scene.absent) < num_classes:
            ledger.drop(scene.record.id, f"fewer than {num_classes} absent classes")
        else:
            ledger.keep()
            yield scene


def coco_scenes(images: Sequence[ImageAnnotation], *, min_area_fraction: float = 0.0) -> list[Scene]:
    """Present are annotated classes, crowds too; absent those that only other of these images have.

    A class of which no box covers `min_area_fraction` of the image is neither, nor one without a usable box.
    """
    universe = sorted({item.category for image in images for item in image.objects})
    scenes = []
    for image in images:
        largest: dict[str, float] = {}  # class -> its largest box, as a fraction of the image
        for item in image.objects:
            fraction = item.box_px.area / (image.width * image.height)
            largest[item.category] = max(fraction, largest.get(item.category, 0.0))
        scenes.append(
            Scene(
                record=Record(
                    id=image.image_id,
                    image=image.image,
                    width=image.width,
                    height=image.height,
                    source={"image_id": image.image_id},
                ),
                present=tuple(sorted(name for name, part in largest.items() if part >= min_area_fraction)),
                absent=tuple(name for name in universe if name not in largest and name not in image.unplaced),
            )
        )
    return scenes


def ade_scenes(
    label_maps: Iterable[Path],
    root: Path,
    classes: Sequence[AdeClass],
    ledger: Ledger,
    *,
    excluded: frozenset[AdeClass] = frozenset(),
    min_area_fraction: float = 0.0,
) -> Iterator[Scene]:
    """The scene of each label map of ADEChallengeData2016, which is `root`; images are relative to it.

    The ledger counts label maps: kept, or dropped as they cannot be read or their image is not there.
    """
    for path in label_maps:
        image = Path("images", path.parent.name, f"{path.stem}.jpg")
        if not (root / image).is_file():
            ledger.drop(path.stem, "no image file", str(image))
            continue
        try:
            label_map = read_label_map(path, len(classes))
        except ValueError as error:
            ledger.drop(path.stem, "unreadable label map", str(error))
            continue
        ledger.keep()
        present, absent = _ade_classes(label_map, classes, excluded, min_area_fraction)
        record = Record(
            id=path.stem,
            image=image.as_posix(),
            width=label_map.width,
            height=label_map.height,
            source={"image_id": path.stem},
        )
        yield Scene(record=record, present=present, absent=absent)


def _ade_classes(
    label_map: LabelMap,
    classes: Sequence[AdeClass],
    excluded: frozenset[AdeClass],
    min_area_fraction: float,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(present, absent): with `min_area_fraction` of the pixels, and with none.

    A class is not absent if it shares a synonym with one that is there, an excluded one too: where a blind
    is, which ADE calls a screen as well, "screen" is not asked about.
    """
    there = {item.index: item for item in classes if item.index in label_map.pixels}
    names_there = {name for item in there.values() for name in item.names}
    present, absent = [], []
    for item in classes:
        if item in excluded:
            continue
        if item.index in there:
            if label_map.area_fraction(item.index) >= min_area_fraction:
                present.append(item.name)
        elif not names_there.intersection(item.names):
            absent.append(item.name)
    return tuple(sorted(present)), tuple(sorted(absent))


def record_scene(record: Record) -> Scene:
    """What a built record knows: present is what it says where, absent what it says is not there.

    Raises:
        ValueError: for a class that it says both about.
    """
    present, absent = set(), set()
    for query in record.queries:
        if query.objective in ("locpred", "revloc"):
            present.add(query.category or query.phrase)
        elif query.objective == "negpred":
            absent.add(query.category or query.phrase)
    if both := present & absent:
        raise ValueError(f"record {record.id!r} has {min(both)!r} as present and as absent; correct it")
    known = replace(record, queries=(), source=dict(record.source))
    return Scene(record=known, present=tuple(sorted(present)), absent=tuple(sorted(absent)))
