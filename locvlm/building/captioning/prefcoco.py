"""PRefCOCO (paper section 3.4, app. C): which objects are described, by what prompt, and their records."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from locvlm.building.captioning.sift import Described
from locvlm.io import Ledger
from locvlm.objectives.select import eligible_objects
from locvlm.records import ImageAnnotation, Query, Record

PROMPT = (
    "Describe the {category} in this image using one short sentence, referring to its visual features and "
    "spatial position relative to other objects in image."
)
_SLOT = "{category}"
PAPER = {"images": 95_899, "pairs": 402_686}  # app. C, from COCO train
_PAIRS_PER_OBJECT = 2  # LocPred and RevLoc


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribedImage:
    """An image with the descriptions of its objects that were kept so far, maybe none."""

    image: ImageAnnotation
    described: list[Described]


def single_instances(
    images: Iterable[ImageAnnotation], ledger: Ledger, *, min_area_px: float
) -> Iterator[ImageAnnotation]:
    """The images that hold an object which is the only one of its class, with those objects alone."""
    for image in images:
        objects = eligible_objects(image, min_area_px=min_area_px)
        if objects:
            ledger.keep()
            yield replace(image, objects=objects)
        else:
            ledger.drop(image.image_id, "no object is the only one of its class")


def prompts_about(image: ImageAnnotation, prompt: str) -> tuple[str, ...]:
    """The prompt for each of the image's objects."""
    return tuple(prompt.replace(_SLOT, item.category) for item in image.objects)


def require_slot(prompt: str) -> str:
    """The prompt, if it names the class.

    Raises:
        ValueError: if it holds no `{category}`.
    """
    if _SLOT not in prompt:
        raise ValueError(f"a prompt holds {_SLOT!r} where the class is named, got {prompt!r}")
    return prompt


def count_objects(images: Iterable[ImageAnnotation]) -> dict[str, int]:
    """Images, objects and the pairs that they are for."""
    return _counts([len(image.objects) for image in images])


def count_described(images: Iterable[DescribedImage]) -> dict[str, int]:
    """The same of what is described."""
    return _counts([len(item.described) for item in images if item.described])


def beside_the_paper(counts: dict[str, int]) -> str:
    """Our counts beside the paper's, in one line."""
    parts = [f"{name} {counts[name]:,} (paper {value:,})" for name, value in PAPER.items()]
    return f"{', '.join(parts)}; objects {counts['objects']:,}, each with a LocPred and a RevLoc pair"


def _counts(objects_per_image: list[int]) -> dict[str, int]:
    num_objects = sum(objects_per_image)
    return {
        "images": len(objects_per_image),
        "objects": num_objects,
        "pairs": _PAIRS_PER_OBJECT * num_objects,
    }


def build_records(images: Iterable[DescribedImage], captioner: str) -> Iterator[Record]:
    """One record for every image with a description, with a RevLoc query for each of them."""
    for item in images:
        if item.described:
            yield Record(
                id=item.image.image_id,
                image=item.image.image,
                width=item.image.width,
                height=item.image.height,
                queries=tuple(
                    Query(objective="revloc", phrase=d.text, category=d.item.category, box_px=d.item.box_px)
                    for d in item.described
                ),
                source={"image_id": item.image.image_id, "captioner": captioner},
            )
