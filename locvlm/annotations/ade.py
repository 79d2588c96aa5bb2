"""ADE20K as the scene parsing challenge publishes it (ADEChallengeData2016): class names and label maps.

objectInfo150.txt, or .csv            150 classes: index from 1, share of all pixels, names
images/{training,validation}/*.jpg
annotations/{training,validation}/*.png    the class of every pixel; 0 where nothing is labelled
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

_UNLABELLED = 0
# The CSV file has its names cut at spaces as well as between them ("door;double;door"); they are joined again
_NAMES_OF_SEVERAL_WORDS = (
    *("double door", "plant life", "bathing tub", "chest of drawers", "open fireplace", "covered stand"),
    *("display case", "pool table", "billiard table", "snooker table", "screen door", "coffee table"),
    *("cocktail table", "kitchen stove", "kitchen range", "cooking stove", "palm tree", "kitchen island"),
    *("computing machine", "computing device", "data processor", "electronic computer"),
    *("information processing system", "swivel chair", "arcade machine", "passenger vehicle"),
    *("light source", "street lamp", "television receiver", "television set", "tv set", "idiot box"),
    *("boob tube", "goggle box", "dirt track", "wearing apparel", "moving staircase", "moving stairway"),
    *("conveyer belt", "conveyor belt", "automatic washer", "washing machine", "swimming pool"),
    *("swimming bath", "collapsible shelter", "solid food", "storage tank", "trade name", "brand name"),
    *("microwave oven", "animate being", "dish washer", "dishwashing machine", "silver screen"),
    *("projection screen", "exhaust hood", "traffic light", "traffic signal", "trash can", "garbage can"),
    *("ash bin", "trash barrel", "trash bin", "crt screen", "monitoring device", "bulletin board"),
    *("notice board", "drinking glass"),
)


@dataclass(frozen=True, slots=True)
class AdeClass:
    """A class: its index in label maps, from 1, and its names, the usual one first."""

    index: int
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name that questions use."""
        return self.names[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMap:
    """What a label map says about its image: how many pixels each class index has."""

    width: int
    height: int
    pixels: dict[int, int]  # class index -> pixels, classes with none left out

    def area_fraction(self, index: int) -> float:
        """The share of the image's pixels that have this class."""
        return self.pixels.get(index, 0) / (self.width * self.height)


def read_classes(path: str | Path) -> tuple[AdeClass, ...]:
    """The classes of objectInfo150.txt (tabs, names apart by ", ") or .csv (commas, names apart by ";").

    Raises:
        ValueError: naming the file and line, for columns or numbers other than those.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        is_tabbed = "\t" in header
        columns = [name.strip() for name in header.split("\t" if is_tabbed else ",")]
        if not {"Idx", "Name"} <= set(columns):
            raise ValueError(
                f"{path}: expected ADE's objectInfo150 with the columns Idx and Name, got {header.strip()!r}"
            )
        rows = csv.DictReader(file, columns, delimiter="\t" if is_tabbed else ",")
        classes = tuple(_read_class(row, f"{path}:{k}") for k, row in enumerate(rows, start=2))
    if [item.index for item in classes] != list(range(1, len(classes) + 1)):
        raise ValueError(
            f"{path}: classes must be numbered from 1 without a gap, got {classes[-1:]} at the end"
        )
    return classes


def _read_class(row: dict[str, str | None], where: str) -> AdeClass:
    index, text = (row["Idx"] or "").strip(), (row["Name"] or "").strip()
    names = tuple(dict.fromkeys(_split_names(text)))
    if not index.isdecimal() or not names:
        raise ValueError(f"{where}: expected a class's number and names, got {index!r} and {text!r}")
    return AdeClass(int(index), names)


def _split_names(text: str) -> list[str]:
    """ "door;double;door" and "door, double door" -> ["door", "double door"]."""
    if ";" not in text:
        return [name.strip() for name in text.split(",") if name.strip()]
    parts = [part.strip() for part in text.split(";") if part.strip()]
    names: list[str] = []
    while parts:
        joined = (" ".join(parts[:length]) for length in range(min(len(parts), 3), 1, -1))
        name = next((name for name in joined if name in _NAMES_OF_SEVERAL_WORDS), parts[0])
        names.append(name)
        del parts[: name.count(" ") + 1]
    return names


def named_like(classes: tuple[AdeClass, ...], names: frozenset[str]) -> dict[AdeClass, str]:
    """The classes that have one of these names, or a synonym that is one, each with the first such name."""
    shared = {item: next((name for name in item.names if name in names), "") for item in classes}
    return {item: name for item, name in shared.items() if name}


def find_label_maps(root: str | Path, split: str) -> list[Path]:
    """The label maps of a split, by name.

    Raises:
        ValueError: if there are none where they are published.
    """
    folder = Path(root) / "annotations" / split
    found = sorted(folder.glob("*.png"))
    if not found:
        there = sorted(path.name for path in folder.parent.iterdir()) if folder.parent.is_dir() else []
        raise ValueError(
            f"no label maps (*.png) in {folder}; give the folder ADEChallengeData2016 and one of its splits "
            f"({', '.join(there) or 'annotations/ is not there'})"
        )
    return found


def read_label_map(path: str | Path, num_classes: int) -> LabelMap:
    """The pixels of each class in a label map.

    Raises:
        ValueError: naming the file, if it is no image of a byte a pixel, or has a class above `num_classes`.
    """
    try:
        with Image.open(path) as picture:
            mode, (width, height) = picture.mode, picture.size
            counts = picture.histogram() if mode in ("L", "P") else []
    except (OSError, UnidentifiedImageError, SyntaxError) as error:  # PIL: a PNG with a broken chunk
        raise ValueError(f"{path}: not a readable image: {error}") from error
    if not counts:
        raise ValueError(
            f"{path}: expected a label map of one byte a pixel, as in ADEChallengeData2016, got mode {mode}"
        )
    pixels = {index: count for index, count in enumerate(counts) if count and index != _UNLABELLED}
    if pixels and max(pixels) > num_classes:
        raise ValueError(f"{path}: holds class {max(pixels)}, there are {num_classes}: another class list?")
    return LabelMap(width=width, height=height, pixels=pixels)
