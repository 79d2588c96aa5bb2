"""What is asked about an image although it is not there: which classes, and in which words.

The prompt alone must not tell whether an object is there (paper app. B). LocPred and NegPred share their
prompts, so only what they ask for could:

class  A class that is mostly there when it is asked for gives the answer away. Absent classes are therefore
       drawn so that each is asked for as absent in the same proportion as it is asked for as present.
words  Where present objects go by descriptions, a class label would give the answer away by its length
       alone. Absent ones are then asked for by what objects of their class are called in other images. As
       these differ, a class can be drawn more than once for an image.

Hard negatives are absent classes that often stand beside what is in the image: a keyboard where there is a
mouse. Among these, weights are multiplied by how much more often than by chance a class is together with
those present (`Company`). The weights are fitted to all draws, easy and hard, so the share of each class over
the whole data set, and with it what the prompt alone tells, stays as it is without them. The limit is where
all draws are hard and a class is in most of the images that it would be company in: it is absent too rarely.
"""

import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Literal, get_args

import numpy as np

NegativeDraw = Literal["proportional", "uniform"]
_FIT_IMAGES = 4000  # enough for the share of a class that is in 1 of 400 images to be known within a third
_FIT_ROUNDS = 40
_TRIES = 8  # to find a phrase that is not asked for already, by chance, before all are looked through
_PLACES = """
    a and at back behind bottom center centre close closest corner far farthest first from front
    furthest in it last left leftmost lower middle most near nearest next object of on one ones right
    rightmost second side that the thing third this to top up upper very
"""
_PLACE_WORDS = frozenset(_PLACES.split())


class Company:
    """How much more often than by chance classes are in one image: n(a, b) n / (n(a) n(b)), 1 for chance."""

    def __init__(self, is_present: np.ndarray) -> None:
        """`is_present`: images x classes."""
        table = is_present.astype(np.float32)
        together = (table.T @ table).astype(np.float64)  # classes x classes: images that hold both
        alone = np.diag(together)
        by_chance = np.outer(alone, alone) / len(table)
        self._lift = np.divide(together, by_chance, out=np.zeros_like(together), where=by_chance > 0)

    def of_images(self, is_present: np.ndarray) -> np.ndarray:
        """Images x classes -> for each class the mean over those in the image; images x classes."""
        number = np.maximum(is_present.sum(axis=1, keepdims=True), 1)
        return np.asarray(is_present @ self._lift / number)

    def of_image(self, present: Sequence[int]) -> list[float]:
        """The same for one image, whose classes are given by their numbers."""
        mean: list[float] = self._lift[list(present)].mean(axis=0).tolist()
        return mean


class NegativeSampler:
    """Draws classes that are absent from an image.

    proportional  in proportion to how often each class is asked about as present, as far as possible: a
                  class that is in nearly every image is absent too rarely. Drawing by plain frequency
                  would fall short, because a frequent class is often present and, with several draws an
                  image, never drawn twice; `fit` corrects the weights for both.
    uniform       every class alike, the paper's plain reading.
    """

    def __init__(
        self,
        class_counts: Mapping[str, float],
        draw: NegativeDraw = "proportional",
        *,
        hard_fraction: float = 0.0,
        can_repeat: bool = False,
    ) -> None:
        """A sampler that has yet to be fitted.

        Args:
            class_counts: class -> how often it is asked about as present.
            hard_fraction: share of the draws that favours the usual company of what is in the image.
            can_repeat: whether a class can be drawn twice for an image; for phrases, which differ.
        """
        if draw not in get_args(NegativeDraw):
            raise ValueError(f"negatives are drawn {' or '.join(get_args(NegativeDraw))}, got {draw!r}")
        if not class_counts:
            raise ValueError("there are no classes to draw absent ones from; the annotation file has none")
        self.draw_by = draw
        self.hard_fraction = hard_fraction
        self.can_repeat = can_repeat
        self.classes = tuple(sorted(class_counts))
        counts = np.array([class_counts[name] for name in self.classes], dtype=np.float64)
        self.target = counts / max(counts.sum(), 1.0)
        self._index = {name: index for index, name in enumerate(self.classes)}
        self._company: Company | None = None
        self._set_weights(self.target if draw == "proportional" else np.ones_like(counts))

    def fit(self, present: Sequence[frozenset[str]], num_negatives: int, *, seed: int = 0) -> None:
        """Correct the weights so that `num_negatives` draws for each of these images follow the target.

        `present` are the classes of every image that is drawn for; what is usual company is counted over
        these. Uniform draws are left as they are.
        """
        if not present or num_negatives == 0:
            return
        if self.hard_fraction:
            self._company = Company(self._table(present))
        if self.draw_by == "uniform":
            return
        if len(present) > _FIT_IMAGES:
            present = random.Random(f"{seed}/fit").sample(list(present), _FIT_IMAGES)
        is_present = self._table(present)
        rehearse = self._expected_counts if self.can_repeat else self._rehearsed_counts
        target = self.target * num_negatives * len(present)
        can = self._weights > 0
        log_weights = np.log(self._weights[can])
        for _ in range(_FIT_ROUNDS):
            drawn = rehearse(is_present, num_negatives, np.random.default_rng(seed))
            step = np.log(np.maximum(target[can], 0.5)) - np.log(np.maximum(drawn[can], 0.5))
            log_weights += 0.7 * np.clip(step, -2, 2)
            weights = np.zeros_like(self._weights)
            weights[can] = np.exp(log_weights - log_weights.max())
            self._set_weights(np.maximum(weights, can * 1e-30))

    def draw(self, present: frozenset[str], num_negatives: int, rng: random.Random) -> list[str]:
        """Up to `num_negatives` classes that are not in `present`; fewer if there are no more.

        They are different ones unless the sampler `can_repeat`.
        """
        can = [k for k, name in enumerate(self.classes) if name not in present and self._weight_list[k]]
        drawn: list[int] = []
        there = [self._index[name] for name in present if name in self._index]
        if self._company is not None and there:
            company = self._company.of_image(sorted(there))
            num_hard = int(self.hard_fraction * num_negatives + rng.random())
            drawn = self._draw(can, [self._weight_list[k] * company[k] for k in can], num_hard, rng)
            if not self.can_repeat:
                can = [k for k in can if k not in drawn]
        drawn += self._draw(can, [self._weight_list[k] for k in can], num_negatives - len(drawn), rng)
        return [self.classes[k] for k in drawn]

    def _draw(self, items: list[int], weights: list[float], number: int, rng: random.Random) -> list[int]:
        """`number` of the items, or as many as there are, by their weights."""
        drawn: list[int] = []
        sums = list(accumulate(weights))
        while items and sums[-1] > 0 and len(drawn) < number:
            place = bisect_right(sums, rng.random() * sums[-1], 0, len(sums) - 1)
            if self.can_repeat or items[place] not in drawn:
                drawn.append(items[place])
            else:  # draw among those that are left, which is as likely to give any of them as to try on
                left = [k for k, item in enumerate(items) if item not in drawn]
                items, weights = [items[k] for k in left], [weights[k] for k in left]
                sums = list(accumulate(weights))
        return drawn

    def _set_weights(self, weights: np.ndarray) -> None:
        self._weights = weights
        self._weight_list: list[float] = weights.tolist()

    def _table(self, present: Sequence[frozenset[str]]) -> np.ndarray:
        """Whether a class is in an image; images x classes."""
        table = np.zeros((len(present), len(self.classes)), dtype=bool)
        for row, names in enumerate(present):
            table[row, [self._index[name] for name in names if name in self._index]] = True
        return table

    def _hard_weights(self, is_present: np.ndarray) -> np.ndarray:
        """Images x classes; all zero for an image without a class, or without a sampler of hard ones."""
        if self._company is None:
            return np.zeros(is_present.shape)
        return np.asarray(self._weights * self._company.of_images(is_present) * ~is_present)

    def _rehearsed_counts(
        self, is_present: np.ndarray, num_negatives: int, rng: np.random.Generator
    ) -> np.ndarray:
        """How often each class is drawn for these images, if no class is drawn twice for one of them."""
        # the k largest of log weight + Gumbel noise are k draws without replacement by these weights
        with np.errstate(divide="ignore"):
            hard_keys = np.log(self._hard_weights(is_present)) + rng.gumbel(size=is_present.shape)
            easy_keys = np.log(self._weights * ~is_present) + rng.gumbel(size=is_present.shape)
        num_hard = np.floor(self.hard_fraction * num_negatives + rng.random(len(is_present))).astype(int)
        is_drawn = _are_largest(hard_keys, num_hard)
        num_easy = num_negatives - is_drawn.sum(axis=1)
        is_drawn |= _are_largest(np.where(is_drawn, -np.inf, easy_keys), num_easy)
        return np.asarray(is_drawn.sum(axis=0), dtype=np.float64)

    def _expected_counts(
        self, is_present: np.ndarray, num_negatives: int, rng: np.random.Generator
    ) -> np.ndarray:
        """How often each class is drawn on average, if it can be drawn again; nothing is drawn for it."""
        hard, easy = self._hard_weights(is_present), self._weights * ~is_present
        hard_sum, easy_sum = hard.sum(axis=1, keepdims=True), easy.sum(axis=1, keepdims=True)
        share_hard = np.where(hard_sum > 0, self.hard_fraction, 0.0)
        shares = share_hard * hard / np.maximum(hard_sum, 1e-300)
        shares += (1 - share_hard) * easy / np.maximum(easy_sum, 1e-300)
        return np.asarray(num_negatives * shares.sum(axis=0), dtype=np.float64)


def _are_largest(keys: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Whether a value is among the largest `numbers` finite ones of its row; rows x columns."""
    most = min(int(numbers.max()), keys.shape[1])
    if most == 0:
        return np.zeros(keys.shape, dtype=bool)
    largest = np.argpartition(-keys, most - 1, axis=1)[:, :most]  # rows x most
    values = np.take_along_axis(keys, largest, axis=1)
    order = np.argsort(-values, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(most)[None, :], axis=1)
    result = np.zeros(keys.shape, dtype=bool)
    np.put_along_axis(result, largest, (ranks < numbers[:, None]) & np.isfinite(values), axis=1)
    return result


class PhraseBook:
    """What objects of each class are called, to borrow for images where the class is absent.

    A phrase that names nothing but a place ("left", "the one on the far right") is true of any image, so it
    is never borrowed. It stays in use for the object that it refers to, so that this one phrase tells that
    something is there: a wrong answer would be worse.
    """

    def __init__(self, phrases: Iterable[tuple[str, str]]) -> None:
        """`phrases`: (class, phrase) as often as it is asked for; their order does not matter."""
        self._by_class: dict[str, list[str]] = {}
        for category, phrase in sorted(phrases):
            if not set(phrase.lower().replace(",", " ").split()) <= _PLACE_WORDS:
                self._by_class.setdefault(category, []).append(phrase)

    def borrow(
        self, categories: Iterable[str], taken: Iterable[str], rng: random.Random
    ) -> list[tuple[str, str]]:
        """(class, phrase) for each class, all different, none of `taken`; none where a class has no more."""
        used = {phrase.casefold() for phrase in taken}
        borrowed = []
        for category in categories:
            phrases = self._by_class.get(category, [])
            phrase = _draw_other(phrases, used, rng)
            if phrase is not None:
                used.add(phrase.casefold())
                borrowed.append((category, phrase))
        return borrowed


def _draw_other(phrases: Sequence[str], used: set[str], rng: random.Random) -> str | None:
    """A phrase that is not in `used` (case folded); None if there is none."""
    for _ in range(_TRIES if phrases else 0):
        if (phrase := rng.choice(phrases)).casefold() not in used:
            return phrase
    left = [phrase for phrase in phrases if phrase.casefold() not in used]
    return rng.choice(left) if left else None
