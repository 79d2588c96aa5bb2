"""Is there such an object? Yes/no questions about present and absent classes, as many of one as of the other.

Hal-COCO, Hal-ADE, Hal-Act (paper section 4): two present and two absent classes per image or video.
POPE (Li et al., 2023): three and three, the absent ones drawn at random, the most popular of the images asked
about, or those that are most often together with a present one.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from locvlm.objectives.negatives import NegativeDraw, NegativeSampler
from locvlm.objectives.presence import Scene
from locvlm.records import Query, Record

PopeSetting = Literal["random", "popular", "adversarial"]
QUESTION_IMAGE = "Is there {} in image?"  # the paper's wording, without an article
QUESTION_VIDEO = "Is there {} in video?"
QUESTION_POPE = "Is there {} {} in the image?"  # the first is "a" or "an"
_VOWELS = "aeiou"


# ---- Hal-COCO, Hal-ADE, Hal-Act


def make_absence_sampler(
    scenes: Sequence[Scene], *, num_pairs: int, draw: NegativeDraw, seed: int
) -> NegativeSampler:
    """Draws absent classes for these scenes, every one of which can be asked about.

    uniform       every absent class alike.
    proportional  each class as often as it is asked about as present, as far as can be: then "yes" to the
                  classes that are mostly there and "no" to the others scores one half.
    """
    expected: dict[str, float] = {}  # class -> questions that ask about it as present
    for scene in scenes:
        for name in scene.absent:
            expected.setdefault(name, 0.0)
        for name in scene.present:
            expected[name] = expected.get(name, 0.0) + num_pairs / len(scene.present)
    sampler = NegativeSampler(expected, draw)
    sampler.fit([frozenset(expected).difference(scene.absent) for scene in scenes], num_pairs, seed=seed)
    return sampler


def ask_presence(scene: Scene, sampler: NegativeSampler, *, num_pairs: int, kind: str, seed: int) -> Record:
    """The record that asks about `num_pairs` present and as many absent classes, shuffled.

    Draws depend on the seed and the record's id alone.
    """
    rng = random.Random(f"{seed}/{scene.record.id}/{kind}")
    question = QUESTION_IMAGE if scene.record.video is None else QUESTION_VIDEO
    present = rng.sample(scene.present, num_pairs)
    absent = sampler.draw(frozenset(sampler.classes).difference(scene.absent), num_pairs, rng)
    queries = [_yes_no(question.format(name), name, "yes") for name in present]
    queries += [_yes_no(question.format(name), name, "no") for name in absent]
    rng.shuffle(queries)
    return _with_queries(scene, queries, kind=kind)


# ---- POPE


@dataclass(frozen=True, slots=True)
class PopeStatistics:
    """How often classes are in the images asked about, alone and together."""

    popular: tuple[str, ...]  # by the number of images that hold them, most first
    together: dict[str, tuple[str, ...]]  # class -> the classes seen with it, by the number of such images

    @classmethod
    def of(cls, scenes: Iterable[Scene]) -> "PopeStatistics":
        """Counted over these scenes; among classes of the same count, the alphabet decides."""
        alone: Counter[str] = Counter()
        pairs: dict[str, Counter[str]] = {}
        for scene in scenes:
            alone.update(scene.present)
            for name in scene.present:
                pairs.setdefault(name, Counter()).update(other for other in scene.present if other != name)
        return cls(_ranked(alone), {name: _ranked(others) for name, others in pairs.items()})


def choose_scenes(scenes: Sequence[Scene], num_scenes: int, *, seed: int) -> list[Scene]:
    """`num_scenes` of the scenes, in their order; drawn by id, the same ones however the file is sorted.

    Raises:
        ValueError: if there are fewer.
    """
    if len(scenes) < num_scenes:
        raise ValueError(
            f"{len(scenes)} images can be asked about, {num_scenes} are wanted; lower --images, or --pairs"
        )
    draws = {scene.record.id: random.Random(f"{seed}/{scene.record.id}/pope").random() for scene in scenes}
    chosen = set(sorted(draws, key=lambda key: (draws[key], key))[:num_scenes])
    return [scene for scene in scenes if scene.record.id in chosen]


def ask_pope(
    scene: Scene, statistics: PopeStatistics, *, setting: PopeSetting, num_pairs: int, seed: int
) -> Record:
    """The record that asks about `num_pairs` present classes, each followed by an absent one.

    random       any absent class.
    popular      the class in most images that is absent here.
    adversarial  the absent class that is most often together with the present one asked about just before.

    Where popularity or company names none that is left, any absent class. The present classes do not depend
    on the setting. As in POPE's own code; its present classes are the first of an image, ours are drawn.
    """
    present = random.Random(f"{seed}/{scene.record.id}/pope present").sample(scene.present, num_pairs)
    rng = random.Random(f"{seed}/{scene.record.id}/pope {setting}")
    left = rng.sample(scene.absent, len(scene.absent))  # in the order in which chance would take them
    queries = []
    for name in present:
        ranking: Sequence[str] = ()
        if setting == "popular":
            ranking = statistics.popular
        elif setting == "adversarial":
            ranking = statistics.together[name]
        absent = next((other for other in ranking if other in left), left[0])
        left.remove(absent)
        queries += [_yes_no(pope_question(name), name, "yes"), _yes_no(pope_question(absent), absent, "no")]
    return _with_queries(scene, queries, kind="pope", setting=setting)


def pope_question(name: str) -> str:
    """With "an" before the letters a, e, i, o, u, as in POPE's files."""
    return QUESTION_POPE.format("an" if name[0].lower() in _VOWELS else "a", name)


def _ranked(counts: Counter[str]) -> tuple[str, ...]:
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def _yes_no(question: str, category: str, answer: str) -> Query:
    return Query(objective="vqa", category=category, question=question, answer=answer)


def _with_queries(scene: Scene, queries: Sequence[Query], **source: str) -> Record:
    return replace(scene.record, queries=tuple(queries), source={**scene.record.source, **source})
