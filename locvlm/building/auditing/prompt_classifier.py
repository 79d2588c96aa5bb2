"""A classifier that reads prompts alone and guesses whether what they ask for is there (paper app. B).

No prompt may tell what its answer is. Cross-validated: what can be learnt from the prompts of half of the
images is tried on those of the others, and the other way round. Words, pairs of words and the number of words
are weighed by logistic regression. 0.5 is chance.
"""

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_PROMPTS = 100_000  # read; the guess is then good to 0.3 points, in seconds
_STEPS, _STEP_SIZE = 150, 0.05  # full batches
# where classes tell 57.5 of 100 made-up descriptions, 55.6 are guessed right with 30 and 53.2 with 3
_DECAY = 30.0
_MIN_TIMES = 5  # a feature of fewer prompts says nothing of others
_NUM_TELLING = 8
_WORD = re.compile(r"\w+")
Floats = NDArray[np.float64]


class Prompt(NamedTuple):
    """One question about something that is in its image, or is not."""

    image: str  # key of the image
    text: str
    is_absent: bool
    category: str = ""
    num_words: int = 0  # of what is asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """How well the prompts tell.

    accuracy   mean of the shares of absent and of present prompts guessed right, of images not learnt from
    telling    what speaks most for absence, and most for presence
    """

    accuracy: float
    num_prompts: int
    telling_absent: tuple[str, ...]
    telling_present: tuple[str, ...]


class PromptSample:
    """The prompts of as many images as have MAX_PROMPTS; all of them where there are fewer.

    Images are chosen by a hash of their key: which ones does not depend on the order in which they come. No
    more is held than that.
    """

    def __init__(self, max_prompts: int = MAX_PROMPTS) -> None:
        self.max_prompts = max_prompts
        self._asked: dict[str, list[Prompt]] = {}
        self._last_first: list[tuple[int, str]] = []  # a heap of the images: minus their place, and key
        self._num_held = 0
        self._end = 1 << 64  # images whose place is from here on are left out

    def wants(self, image: str) -> bool:
        """Whether prompts of the image are still read."""
        return _place(image) < self._end

    def add(self, prompt: Prompt) -> None:
        """One more, if its image is wanted."""
        if not self.wants(prompt.image):
            return
        if prompt.image not in self._asked:
            self._asked[prompt.image] = []
            heapq.heappush(self._last_first, (-_place(prompt.image), prompt.image))
        self._asked[prompt.image].append(prompt)
        self._num_held += 1
        while self._num_held - len(self._asked[last := self._last_first[0][1]]) >= self.max_prompts:
            heapq.heappop(self._last_first)
            self._num_held -= len(self._asked.pop(last))
            self._end = _place(last)

    def __iter__(self) -> Iterator[Prompt]:
        for asked in self._asked.values():
            yield from asked


def guess_from_prompts(prompts: Sequence[Prompt]) -> Guess | None:
    """What a classifier makes of the words; None if either half of the images lacks one of the kinds.

    The halves go by a hash of the image's key: the result does not depend on the order of the prompts.
    """
    folds = _folds(prompts)
    if folds is None:
        return None
    scores, tried, weighed = [], [], Counter[str]()
    for learn, others in folds:
        columns = _vocabulary(learn)
        weights = _fit(_Table.of(learn, columns), _absent(learn))
        says_absent = _Table.of(others, columns).times(weights) > 0
        scores.append((says_absent == _absent(others)).astype(np.float64))
        tried += others
        weighed.update(dict(zip(columns, weights.tolist(), strict=True)))
    del weighed[""]  # the constant
    order = sorted(weighed, key=lambda name: (-weighed[name], name))
    return Guess(
        accuracy=_balanced(np.concatenate(scores), tried),
        num_prompts=len(tried),
        telling_absent=tuple(name for name in order[:_NUM_TELLING] if weighed[name] > 0),
        telling_present=tuple(name for name in order[: -_NUM_TELLING - 1 : -1] if weighed[name] < 0),
    )


def guess_by(prompts: Sequence[Prompt], kind_of: Callable[[Prompt], Hashable]) -> float | None:
    """The accuracy of the best guess by a kind alone, as the class, learnt and tried as the words are.

    A kind that says nothing, or was not learnt, is guessed right half of the time.
    """
    folds = _folds(prompts)
    if folds is None:
        return None
    scores, tried = [], []
    for learn, others in folds:
        times = {
            absent: Counter(kind_of(p) for p in learn if p.is_absent is absent) for absent in (True, False)
        }
        totals = {absent: counts.total() for absent, counts in times.items()}
        for prompt in others:
            kind, absent = kind_of(prompt), prompt.is_absent
            mine, other = times[absent][kind] * totals[not absent], times[not absent][kind] * totals[absent]
            scores.append(1.0 if mine > other else 0.5 if mine == other else 0.0)
        tried += others
    return _balanced(np.array(scores), tried)


def features_of(text: str) -> list[str]:
    """Words, pairs of neighbours, and the number of words. Example: "A dog" -> a, dog, a dog, (2 words)."""
    words = _WORD.findall(text.lower())
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    return [*dict.fromkeys((*words, *pairs)), f"({len(words)} words)"]


def _folds(prompts: Iterable[Prompt]) -> list[tuple[list[Prompt], list[Prompt]]] | None:
    """(to learn from, to try), of one half of the images and the other, and of the other and the one.

    None if a half lacks one of the kinds.
    """
    by_image: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_image.setdefault(prompt.image, []).append(prompt)
    one, other = (
        [prompt for image in images for prompt in sorted(by_image[image])]
        for images in (sorted(by_image, key=_place)[start::2] for start in (0, 1))
    )
    if any(len({prompt.is_absent for prompt in half}) < 2 for half in (one, other)):
        return None
    return [(one, other), (other, one)]


def _place(image: str) -> int:
    """Its place in an order that has nothing to do with what images are of, always the same."""
    return int.from_bytes(hashlib.blake2b(image.encode(), digest_size=8).digest())


def _balanced(scores: Floats, prompts: Sequence[Prompt]) -> float:
    """The mean of the mean scores of absent and of present prompts."""
    is_absent = _absent(prompts)
    return float((scores[is_absent].mean() + scores[~is_absent].mean()) / 2)


def _vocabulary(prompts: Sequence[Prompt]) -> dict[str, int]:
    """Feature -> column, in the order of the alphabet; column 0 is there in every prompt."""
    times = Counter(name for prompt in prompts for name in features_of(prompt.text))
    known = sorted(name for name, count in times.items() if count >= _MIN_TIMES)
    return {"": 0, **{name: k for k, name in enumerate(known, start=1)}}


def _absent(prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
    return np.array([prompt.is_absent for prompt in prompts])


@dataclass(frozen=True, slots=True)
class _Table:
    """A matrix of zeros and ones, N prompts x F features, by the places of its ones."""

    columns: NDArray[np.int64]  # of all ones, row by row
    starts: NDArray[np.int64]  # (N,) where a row begins
    rows: NDArray[np.int64]  # of all ones
    num_columns: int

    @classmethod
    def of(cls, prompts: Sequence[Prompt], columns: dict[str, int]) -> "_Table":
        places = [
            [0, *(columns[name] for name in features_of(prompt.text) if name in columns)]
            for prompt in prompts
        ]
        lengths = np.array([len(row) for row in places])
        return cls(
            columns=np.array([column for row in places for column in row]),
            starts=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
            rows=np.repeat(np.arange(len(places)), lengths),
            num_columns=len(columns),
        )

    def times(self, weights: Floats) -> Floats:
        """(F,) -> (N,)"""
        return np.add.reduceat(weights[self.columns], self.starts)

    def transposed_times(self, values: Floats) -> Floats:
        """(N,) -> (F,)"""
        return np.bincount(self.columns, values[self.rows], self.num_columns).astype(np.float64, copy=False)


def _fit(table: _Table, is_absent: NDArray[np.bool_]) -> Floats:
    """Weights (F,) of the logistic regression, both kinds weighing the same; positive speaks for absence.

    Adam over full batches: a class is in one prompt of a hundred, so that steps of one size for all would
    not come to it.
    """
    share = np.where(is_absent, 0.5 / is_absent.sum(), 0.5 / (~is_absent).sum())
    decay = _DECAY / len(is_absent)
    weights, mean, square = (np.zeros(table.num_columns) for _ in range(3))
    for step in range(1, _STEPS + 1):
        excess = 1 / (1 + np.exp(-table.times(weights))) - is_absent
        gradient = table.transposed_times(share * excess) + decay * weights
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        rate = _STEP_SIZE * (1 - step / _STEPS) * np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
        weights = weights - rate * mean / (np.sqrt(square) + 1e-9)
    return weights
