"""RefCOCO, RefCOCO+, RefCOCOg in every form that they go round in -> ImageAnnotation with phrases.

    read_refcoco("refs(umd).p", instances="instances.json", split="val", ledger=Ledger("objects referred to"))

An instances file adds what else is in the image: its objects without phrases, and so the classes that are
absent. UNC's refs need one, since their boxes are there; the other forms hold boxes themselves.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from locvlm.annotations.coco import read_box, read_instances
from locvlm.annotations.refcoco_forms import Referent, load_referents
from locvlm.geometry import Box, Size, iou
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation, ObjectAnnotation

EMPTY = "empty sentence left out"
REPEATED = "sentence that the object has already left out"
_SAME_BOX_IOU = 0.9  # a box printed twice with other rounding; distinct annotations of COCO hardly reach it


def read_splits(path: str | Path) -> tuple[str, ...]:
    """The splits that a file of referring expressions names, in their order; none in a file of one split.

    Raises:
        ValueError: see `read_refcoco`.
    """
    return _splits_of(load_referents(path))


def read_refcoco(
    path: str | Path,
    *,
    instances: str | Path | None = None,
    split: str | None = None,
    ledger: Ledger,
    instances_ledger: Ledger | None = None,
    repairs: Counter[str] | None = None,
    keep_repeated: bool = False,
) -> Iterator[ImageAnnotation]:
    """The images in which objects are referred to; `ObjectAnnotation.phrases` are what an object is called.

    The form is told by the content, see `locvlm.annotations.refcoco_forms`. With `instances`, images come in
    the order of that file, with their other objects too; without, in the order of `path` and with the objects
    that are referred to alone. `annotation_id` is COCO's; only rows without `instances` have their own names
    there, and no category.

    Args:
        instances: the `instances.json` beside the refs, or COCO's own instances of these images.
        split: one of those that the file names; None reads all.
        ledger: counts objects referred to: kept, or dropped because their box is unusable, the instances have
            none, or no sentence is left.
        instances_ledger: counts the annotations of `instances`.
        repairs: counts clipped boxes, and sentences left out because they are empty or repeat another.
        keep_repeated: a sentence that two people said of an object is there twice, as evaluations count it.

    Raises:
        ValueError: for another kind of file, a damaged one, an unknown split, refs or images without a size
            where there are no `instances`, or images that are not in it.
    """
    referents = _of_split(load_referents(path), split, path)
    repairs = Counter() if repairs is None else repairs
    if instances is not None:
        annotations = instances_ledger or Ledger(f"annotations of {Path(instances).name}")
        found = _among_instances(referents, Path(instances), ledger, annotations, repairs)
    else:
        found = _alone(referents, ledger, repairs)
    return found if keep_repeated else _each_once(found, repairs)


def _splits_of(referents: Iterable[Referent]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.split for item in referents if item.split))


def _of_split(referents: list[Referent], split: str | None, path: str | Path) -> list[Referent]:
    if split is None:
        return referents
    splits = _splits_of(referents)
    if not splits:
        raise ValueError(
            f"{path} does not say which split its expressions are of, got split {split!r}; files of this "
            f"form hold a single one: pass the file of that split, and no split"
        )
    if split not in splits:
        raise ValueError(f"{path} has no split {split!r}; it has {', '.join(splits)}")
    return [item for item in referents if item.split == split]


def _by_image(referents: Iterable[Referent]) -> dict[str, list[Referent]]:
    images: dict[str, list[Referent]] = {}
    for item in referents:
        images.setdefault(item.image_id, []).append(item)
    return images


# ---- without an instances file


def _alone(referents: Sequence[Referent], ledger: Ledger, repairs: Counter[str]) -> Iterator[ImageAnnotation]:
    """Images that hold the objects referred to alone, with the file's own boxes."""
    if referents and referents[0].bbox is None:
        raise ValueError(
            f"{referents[0].where}: UNC's refs hold no boxes; pass the instances.json beside them, or "
            f"COCO's instances_train2014.json, as instances"
        )
    return _images_of(_by_image(referents), ledger, repairs)


def _images_of(
    images: dict[str, list[Referent]], ledger: Ledger, repairs: Counter[str]
) -> Iterator[ImageAnnotation]:
    for image_id, items in images.items():
        size = _size_of(items)
        objects = []
        for item in items:
            box = read_box(item.bbox, size, ledger, repairs, item.where)
            phrases = () if box is None else _phrases_of(item, ledger, repairs)
            if box is not None and phrases:
                objects.append(
                    ObjectAnnotation(
                        category=item.category,
                        box_px=box,
                        annotation_id=item.annotation_id,
                        phrases=phrases,
                    )
                )
        if objects:
            yield ImageAnnotation(
                image_id=image_id,
                image=items[0].image,
                width=size[0],
                height=size[1],
                objects=tuple(objects),
            )


def _size_of(items: Sequence[Referent]) -> Size:
    """The size of the image that all of `items` are in."""
    first = items[0]
    for item in items:
        if item.size is None or min(item.size) <= 0:
            raise ValueError(
                f"{item.where}: the width and height of the image in pixels are needed, got {item.size}; add "
                f"them, or pass COCO's instances_train2014.json, which has them, as instances"
            )
        if (item.size, item.image) != (first.size, first.image):
            raise ValueError(
                f"{item.where}: image {item.image_id} is {item.image} of {item.size} here, and "
                f"{first.image} of {first.size} at {first.where}; one of them is wrong"
            )
    assert first.size is not None
    return first.size


def _phrases_of(item: Referent, ledger: Ledger, repairs: Counter[str]) -> tuple[str, ...]:
    """The sentences, white space tidied; the object counts as kept, or as dropped without any."""
    tidy = [" ".join(sentence.split()) for sentence in item.sentences]
    phrases = tuple(filter(None, tidy))
    if not phrases:
        ledger.drop(item.where, "no sentence but empty ones")
        return ()
    if num_empty := len(tidy) - len(phrases):
        repairs[EMPTY] += num_empty
    ledger.keep()
    return phrases


def _each_once(images: Iterable[ImageAnnotation], repairs: Counter[str]) -> Iterator[ImageAnnotation]:
    """The images, every object with its different sentences only."""
    for image in images:
        objects = []
        for item in image.objects:
            phrases = tuple(dict.fromkeys(item.phrases))
            if num_repeated := len(item.phrases) - len(phrases):
                repairs[REPEATED] += num_repeated
            objects.append(replace(item, phrases=phrases))
        yield replace(image, objects=tuple(objects))


# ---- with an instances file


def _among_instances(
    referents: Sequence[Referent],
    instances: Path,
    ledger: Ledger,
    instances_ledger: Ledger,
    repairs: Counter[str],
) -> Iterator[ImageAnnotation]:
    """Images of the instances file that hold an object referred to, with all their objects."""
    wanted = _by_image(referents)
    for image in read_instances(instances, instances_ledger, repairs=repairs):
        items = wanted.pop(image.image_id, None)
        if items is not None and (found := _with_phrases(image, items, ledger, repairs)) is not None:
            yield found
    if wanted:
        lost = next(iter(wanted.values()))[0]
        raise ValueError(
            f"{lost.where}: image {lost.image_id} and {len(wanted) - 1} others are not among the images of "
            f"{instances}; pass the instances.json beside the refs, or COCO's instances_train2014.json"
        )


def _with_phrases(
    image: ImageAnnotation, items: Sequence[Referent], ledger: Ledger, repairs: Counter[str]
) -> ImageAnnotation | None:
    """The image, with the sentences of `items` at its objects; None, all counted, if none is left."""
    by_id = {item.annotation_id: index for index, item in enumerate(image.objects)}
    phrases: dict[int, tuple[str, ...]] = {}
    for item in items:
        if item.is_coco_id:
            index = by_id.get(item.annotation_id)
        else:
            box = read_box(item.bbox, (image.width, image.height), ledger, Counter(), item.where)
            if box is None:
                continue
            index = _index_of_box(box, image.objects)
        if index is None:
            detail = f"{item.annotation_id} in image {image.image_id}"
            ledger.drop(item.where, "no usable annotation in the instances", detail)
            continue
        found = _phrases_of(item, ledger, repairs)
        phrases[index] = phrases.get(index, ()) + found
    if not any(phrases.values()):
        return None
    objects = list(image.objects)
    for index, said in phrases.items():
        objects[index] = replace(objects[index], phrases=said)
    return replace(image, objects=tuple(objects))


def _index_of_box(box: Box, objects: Sequence[ObjectAnnotation]) -> int | None:
    """Which object has this box, up to rounding."""
    scores = [iou(box, item.box_px) for item in objects]
    best = max(range(len(scores)), key=scores.__getitem__, default=None)
    return best if best is not None and scores[best] >= _SAME_BOX_IOU else None
