"""Questions about images that a model was trained on, told apart from the others.

Names tell: an image of COCO is the same under its names of 2014 and of 2017, and train2017 holds most of the
images of val2014, about which POPE and RefCOCO ask. With Visual Genome's image_data.json, images that GQA and
COCO share are known, too. Other numbers with zeros before them (000017.jpg) are places in some set: they say
nothing about an image of another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from locvlm.annotations.image_names import image_key, is_only_a_place, read_image_keys, read_visual_genome
from locvlm.evals.judged import Judged

_MANIFEST = ".manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedOn:
    """The images of a training set."""

    files: tuple[Path, ...]
    keys: frozenset[str]
    genome: dict[str, str] = field(default_factory=dict)  # key of a Visual Genome image -> of COCO's

    def knows(self, row: Judged) -> bool:
        """Whether the question's image is one of them; a video, or no image at all, never is."""
        image = row.prediction.image
        return image is not None and self.key(image_key(image)) in self.keys

    def key(self, key: str) -> str:
        """COCO's key of the image where it has it."""
        return self.genome.get(key, key)


def read_trained_on(files: Sequence[Path], visual_genome: Path | None = None) -> TrainedOn:
    """The images that record files, LLaVA or COCO JSON, lists of names, or manifests of record files name.

    Args:
        visual_genome: its image_data.json.

    Raises:
        ValueError: naming the file that is missing, is of another form, or names no image that can be known
            again.
    """
    genome = read_visual_genome(visual_genome) if visual_genome else {}
    keys: set[str] = set()
    for path in files:
        names = read_image_keys(_list_of(path))
        known = {genome.get(name, name) for name in names if not is_only_a_place(name)}
        if not known:
            raise ValueError(
                f"{path} only numbers its images, as {min(names)} does: other sets have other images of that "
                f"number, so which of them are the same cannot be told; leave it out of --trained-on"
            )
        keys |= known
    return TrainedOn(files=tuple(files), keys=frozenset(keys), genome=genome)


def _list_of(path: Path) -> Path:
    """The file that names images: for a manifest, the file beside it that it is about."""
    named = path.with_name(path.name.removesuffix(_MANIFEST)) if path.name.endswith(_MANIFEST) else path
    if not named.is_file():
        raise ValueError(f"no file {named}; --trained-on takes record files and other lists of images")
    return named


def split_by_training(rows: Sequence[Judged], trained_on: TrainedOn) -> tuple[list[Judged], list[Judged]]:
    """(about other images, about images that were trained on)."""
    seen = [trained_on.knows(row) for row in rows]
    return (
        [row for row, is_seen in zip(rows, seen, strict=True) if not is_seen],
        [row for row, is_seen in zip(rows, seen, strict=True) if is_seen],
    )
