"""What is asked about an image: its single instances, and classes that it does not hold.

The prompt alone must not tell whether an object is there (paper app. B). LocPred and NegPred share their
prompts, so only the class could: absent classes are therefore drawn so that each class is asked about as
absent in the same proportion as it is asked about as present.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from locvlm.io import Ledger
from locvlm.records import ImageAnnotation, ObjectAnnotation, Query, Record

NegativeDraw = Literal["proportional", "uniform"]
_FIT_IMAGES = 4000  # enough for the share of a class that is in 1 of 400 images to be known within a third
_FIT_ROUNDS = 40


def eligible_objects(
    image: ImageAnnotation, *, min_area_px: float = 0.0, allow_repeated: bool = False
) -> tuple[ObjectAnnotation, ...]:
    """The objects that can be asked about, in the order of the annotation file.

    Single instances of their class (paper section 3.3), unless `allow_repeated`. Crowd regions are never
    eligible, and neither is the only single object of a class that also has a crowd. An object below
    `min_area_px` (source pixels, of its box) is not asked about, but still counts as an instance.
    """
    instances = Counter(item.category for item in image.objects)
    return tuple(
        item
        for item in image.objects
        if not item.is_crowd
        and item.box_px.area >= min_area_px
        and (allow_repeated or instances[item.category] == 1)
    )


def present_classes(image: ImageAnnotation) -> frozenset[str]:
    """Every class that is annotated in the image, crowds included."""
    return frozenset(item.category for item in image.objects)


class NegativeSampler:
    """Draws classes that are absent from an image.

    proportional  in proportion to how often each class is asked about as present, as far as possible: a
                  class that is in nearly every image is absent too rarely. Drawing by plain frequency
                  would fall short, because a frequent class is often present and, with several draws an
                  image, never drawn twice; `fit` corrects the weights for both.
    uniform       every class alike, the paper's plain reading.
    """

    def __init__(self, class_counts: Mapping[str, float], draw: NegativeDraw = "proportional") -> None:
        """`class_counts`: class -> how often it is asked about as present."""
        if draw not in get_args(NegativeDraw):
            raise ValueError(f"negatives are drawn {' or '.join(get_args(NegativeDraw))}, got {draw!r}")
        if not class_counts:
            raise ValueError("there are no classes to draw absent ones from; the annotation file has none")
        self.draw_by = draw
        self.classes = tuple(sorted(class_counts))
        counts = np.array([class_counts[name] for name in self.classes], dtype=np.float64)
        self.target = counts / max(counts.sum(), 1.0)
        weights = self.target if draw == "proportional" else np.ones_like(counts)
        with np.errstate(divide="ignore"):
            self.log_weights = np.log(weights)
        self._index = {name: index for index, name in enumerate(self.classes)}

    def fit(self, present: Sequence[frozenset[str]], num_negatives: int, *, seed: int = 0) -> None:
        """Correct the weights so that `num_negatives` draws for each of these images follow the target.

        `present` are the classes of every image that is drawn for. Does nothing for uniform draws.
        """
        if self.draw_by == "uniform" or not present or num_negatives == 0:
            return
        if len(present) > _FIT_IMAGES:
            present = random.Random(f"{seed}/fit").sample(list(present), _FIT_IMAGES)
        is_present = np.zeros((len(present), len(self.classes)), dtype=bool)  # images x classes
        for row, names in enumerate(present):
            is_present[row, [self._index[name] for name in names if name in self._index]] = True
        # the k largest of log weight + Gumbel noise are k draws without replacement by these weights
        noise = np.random.default_rng(seed).gumbel(size=is_present.shape)
        target = self.target * num_negatives * len(present)
        can = np.isfinite(self.log_weights)
        for _ in range(_FIT_ROUNDS):
            drawn = _count_largest(np.where(is_present, -np.inf, self.log_weights + noise), num_negatives)
            step = np.log(np.maximum(target[can], 0.5)) - np.log(np.maximum(drawn[can], 0.5))
            self.log_weights[can] += 0.7 * np.clip(step, -2, 2)

    def draw(self, present: frozenset[str], num_negatives: int, rng: random.Random) -> list[str]:
        """Up to `num_negatives` different classes that are not in `present`; fewer if there are no more."""
        keys = []
        for name, log_weight in zip(self.classes, self.log_weights.tolist(), strict=True):
            gumbel = -math.log(rng.expovariate(1.0))
            if name not in present and log_weight > -np.inf:
                keys.append((log_weight + gumbel, name))
        return [name for _, name in sorted(keys, reverse=True)[:num_negatives]]


def _count_largest(keys: np.ndarray, k: int) -> np.ndarray:
    """How often each column of `keys` (rows, columns) is among the `k` largest finite values of its row."""
    k = min(k, keys.shape[1])
    largest = np.argpartition(-keys, k - 1, axis=1)[:, :k]  # rows x k
    finite = np.isfinite(np.take_along_axis(keys, largest, axis=1))
    return np.bincount(largest[finite], minlength=keys.shape[1]).astype(np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionConfig:
    """What `localize_instruct` asks about each image."""

    num_negatives: int = 6  # absent classes asked about per image
    negatives: NegativeDraw = "proportional"
    min_area_px: float = 0.0  # of the box, in source pixels
    allow_repeated: bool = False  # also ask about classes with several instances
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_negatives < 0 or self.min_area_px < 0:
            raise ValueError(
                f"num_negatives and min_area_px must not be negative, got {self.num_negatives} "
                f"and {self.min_area_px}"
            )

    def eligible(self, image: ImageAnnotation) -> tuple[ObjectAnnotation, ...]:
        """`eligible_objects` with these settings."""
        return eligible_objects(image, min_area_px=self.min_area_px, allow_repeated=self.allow_repeated)


def make_sampler(images: Iterable[ImageAnnotation], config: SelectionConfig) -> NegativeSampler:
    """A sampler for these images, fitted to what will be asked about them as present."""
    counts: Counter[str] = Counter()
    present = []
    for image in images:
        asked = {item.category for item in config.eligible(image)}
        counts.update({name: 0 for name in present_classes(image)})
        counts.update(asked)
        if asked:
            present.append(present_classes(image))
    sampler = NegativeSampler(counts, config.negatives)
    sampler.fit(present, config.num_negatives, seed=config.seed)
    return sampler


def build_record(image: ImageAnnotation, sampler: NegativeSampler, config: SelectionConfig) -> Record | None:
    """LocPred and RevLoc for all eligible objects, NegPred for absent classes; None if nothing is eligible.

    Draws depend on the seed and the image alone. The queries are shuffled: where they are asked in one
    dialogue, their place must not tell what kind they are.
    """
    objects = config.eligible(image)
    if not objects:
        return None
    rng = random.Random(f"{config.seed}/{image.image_id}")
    queries = [
        Query(objective=objective, phrase=item.category, category=item.category, box_px=item.box_px)
        for item in objects
        for objective in ("locpred", "revloc")
    ]
    queries += [
        Query(objective="negpred", phrase=name, category=name)
        for name in sampler.draw(present_classes(image), config.num_negatives, rng)
    ]
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
    images: Iterable[ImageAnnotation], sampler: NegativeSampler, config: SelectionConfig, ledger: Ledger
) -> Iterable[Record]:
    """The records of all images; images about which nothing can be asked are counted."""
    for image in images:
        record = build_record(image, sampler, config)
        if record is None:
            ledger.drop(image.image_id, "no object to ask about")
        else:
            ledger.keep()
            yield record


def class_gap(asked_present: Mapping[str, int], asked_absent: Mapping[str, int]) -> float:
    """How much the class alone tells about absence, as the accuracy of the best guess from it, in [0.5, 1].

    0.5 + half the total variation distance between the two distributions of classes, for as many present as
    absent questions. 0.5 means that the class tells nothing.
    """
    num_present, num_absent = sum(asked_present.values()), sum(asked_absent.values())
    if not num_present or not num_absent:
        return 0.5
    names = asked_present.keys() | asked_absent.keys()
    distance = sum(
        abs(asked_present.get(name, 0) / num_present - asked_absent.get(name, 0) / num_absent)
        for name in names
    )
    return 0.5 + distance / 4
