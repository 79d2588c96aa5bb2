"""What is asked about an image: its objects, and what it does not hold (`locvlm.objectives.negatives`).

Objects go by
label        their class (paper section 3.3). Only single instances of their class are asked about, or the
             label would not tell which one is meant.
description  what a model or a person says of them in this image (paper section 3.4), single instances too.
expression   what people call them to tell them from others (RefCOCO): every sentence is a question of its
             own, and any number of instances of a class may be there, since the sentence says which is meant.
"""

import random
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from locvlm.io import Ledger
from locvlm.objectives.negatives import NegativeDraw, NegativeSampler, PhraseBook
from locvlm.records import ImageAnnotation, ObjectAnnotation, Query, Record

AskBy = Literal["label", "description", "expression"]
Undescribed = Literal["drop", "label"]
Kind = TypeVar("Kind", bound=Hashable)


def eligible_objects(
    image: ImageAnnotation, *, min_area_px: float = 0.0, allow_repeated: bool = False
) -> tuple[ObjectAnnotation, ...]:
    """The objects that can be asked about, in the order of the annotation file.

    Single instances of their class (paper section 3.3), unless `allow_repeated`. Crowd regions are never
    eligible, and neither is the only single object of a class that also has a crowd or an object without a
    usable box. An object below `min_area_px` (source pixels, of its box) is not asked about, but still counts
    as an instance.
    """
    instances = Counter([*(item.category for item in image.objects), *image.unplaced])
    return tuple(
        item
        for item in image.objects
        if not item.is_crowd
        and (allow_repeated or instances[item.category] == 1)
        and item.box_px.area >= min_area_px
    )


def present_classes(image: ImageAnnotation) -> frozenset[str]:
    """Every class that is annotated in the image, crowds and objects without a usable box included."""
    return frozenset([*(item.category for item in image.objects), *image.unplaced])


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionConfig:
    """What `localize_instruct` asks about each image."""

    ask_by: AskBy = "label"
    undescribed: Undescribed = "drop"  # what becomes of objects without description; "label" asks by class
    one_phrase: bool = False  # of an object with several: one that is drawn, rather than all
    num_negatives: int = 6  # absent objects asked about per image
    negatives: NegativeDraw = "proportional"
    hard_fraction: float = 0.0  # of these, drawn among the usual company of what is in the image
    min_area_px: float = 0.0  # of the box, in source pixels
    allow_repeated: bool = False  # also ask about classes with several instances
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_negatives < 0 or self.min_area_px < 0:
            raise ValueError(
                f"num_negatives and min_area_px must not be negative, got {self.num_negatives} "
                f"and {self.min_area_px}"
            )
        if not 0 <= self.hard_fraction <= 1:
            raise ValueError(f"hard_fraction must be in [0, 1], got {self.hard_fraction}")
        if self.ask_by not in get_args(AskBy):
            raise ValueError(f"ask_by must be one of {', '.join(get_args(AskBy))}, got {self.ask_by!r}")

    def eligible(self, image: ImageAnnotation) -> tuple[ObjectAnnotation, ...]:
        """The objects that can be asked about with these settings, if they have a phrase to go by."""
        is_any = self.allow_repeated or self.ask_by == "expression"
        objects = eligible_objects(image, min_area_px=self.min_area_px, allow_repeated=is_any)
        if self.ask_by == "expression":  # the others of the file are there to know what is absent
            return tuple(item for item in objects if item.phrases)
        return objects

    def phrases_of(self, item: ObjectAnnotation, image: ImageAnnotation) -> tuple[str, ...]:
        """What an object is asked about by, one question each; nothing if it has to be dropped.

        A draw depends on the seed, the image and the object alone.
        """
        if self.ask_by == "label" or (not item.phrases and self.undescribed == "label"):
            return (item.category,)
        if self.one_phrase and len(item.phrases) > 1:
            rng = random.Random(f"{self.seed}/{image.image_id}/{item.annotation_id}/{item.box_px}")
            return (rng.choice(item.phrases),)
        return item.phrases


@dataclass(frozen=True, slots=True)
class Negatives:
    """Draws what is asked for although it is not there; `phrases` is None where objects go by their label."""

    sampler: NegativeSampler
    phrases: PhraseBook | None = None

    def draw(
        self, image: ImageAnnotation, taken: Sequence[str], number: int, rng: random.Random
    ) -> list[Query]:
        """Up to `number` queries for what is absent from the image, in other words than `taken`.

        Only classes that are annotated nowhere in the image, crowds included, are drawn, so a borrowed phrase
        is always that of another image.
        """
        classes = self.sampler.draw(present_classes(image), number, rng)
        if self.phrases is None:
            return [Query(objective="negpred", phrase=name, category=name) for name in classes]
        borrowed = self.phrases.borrow(classes, taken, rng)
        return [Query(objective="negpred", phrase=phrase, category=name) for name, phrase in borrowed]


def make_negatives(images: Iterable[ImageAnnotation], config: SelectionConfig) -> Negatives:
    """What to draw absent objects for these images with, fitted to what will be asked about as present.

    Raises:
        ValueError: if there are no classes to draw from.
    """
    counts: Counter[str] = Counter()
    present: list[frozenset[str]] = []
    phrases: list[tuple[str, str]] = []
    for image in images:
        classes = present_classes(image)
        counts.update(dict.fromkeys(classes, 0))
        asked = [(item.category, phrase) for item, phrase in asked_about(image, config)]
        counts.update(category for category, _ in asked)
        if asked:
            present.append(classes)
        if config.ask_by != "label":
            phrases += asked
    can_repeat = config.ask_by != "label"
    sampler = NegativeSampler(
        counts, config.negatives, hard_fraction=config.hard_fraction, can_repeat=can_repeat
    )
    sampler.fit(present, config.num_negatives, seed=config.seed)
    return Negatives(sampler, PhraseBook(phrases) if can_repeat else None)


def asked_about(
    image: ImageAnnotation, config: SelectionConfig, undescribed: Ledger | None = None
) -> list[tuple[ObjectAnnotation, str]]:
    """(object, what it goes by) for every question about what is there; `undescribed` counts the objects."""
    asked = []
    for item in config.eligible(image):
        phrases = config.phrases_of(item, image)
        asked += [(item, phrase) for phrase in phrases]
        if undescribed is not None and phrases:
            undescribed.keep()
        elif undescribed is not None:
            undescribed.drop(f"{image.image_id}/{item.annotation_id}", "no description", item.category)
    return asked


def build_record(
    image: ImageAnnotation, negatives: Negatives, config: SelectionConfig, undescribed: Ledger | None = None
) -> Record | None:
    """LocPred and RevLoc for what is there, NegPred for what is not; None if nothing can be asked about.

    Draws depend on the seed and the image alone. The queries are shuffled: where they are asked in one
    dialogue, their place must not tell what kind they are.
    """
    asked = asked_about(image, config, undescribed)
    if not asked:
        return None
    rng = random.Random(f"{config.seed}/{image.image_id}")
    queries = [
        Query(objective=objective, phrase=phrase, category=item.category, box_px=item.box_px)
        for item, phrase in asked
        for objective in ("locpred", "revloc")
    ]
    queries += negatives.draw(image, [phrase for _, phrase in asked], config.num_negatives, rng)
    rng.shuffle(queries)
    return Record(
        id=image.image_id,
        image=image.image,
        width=image.width,
        height=image.height,
        queries=tuple(queries),
        source={"image_id": image.image_id},
    )


def build_records(
    images: Iterable[ImageAnnotation],
    negatives: Negatives,
    config: SelectionConfig,
    ledger: Ledger,
    undescribed: Ledger | None = None,
) -> Iterator[Record]:
    """The records of all images; images about which nothing can be asked are counted, and `undescribed`
    objects are.
    """
    for image in images:
        record = build_record(image, negatives, config, undescribed)
        if record is None:
            ledger.drop(image.image_id, "no object to ask about")
        else:
            ledger.keep()
            yield record


def class_gap(asked_present: Mapping[Kind, int], asked_absent: Mapping[Kind, int]) -> float:
    """How much the class alone tells about absence, as the accuracy of the best guess from it, in [0.5, 1].

    0.5 + half the total variation distance between the two distributions of classes, for as many present as
    absent questions. 0.5 means that the class tells nothing. The same for anything else that questions can be
    counted by, such as the number of words.
    """
    num_present, num_absent = sum(asked_present.values()), sum(asked_absent.values())
    if not num_present or not num_absent:
        return 0.5
    kinds = asked_present.keys() | asked_absent.keys()
    distance = sum(
        abs(asked_present.get(kind, 0) / num_present - asked_absent.get(kind, 0) / num_absent)
        for kind in kinds
    )
    return 0.5 + distance / 4
