"""Which answers become descriptions: all objects of an image together, every drop with its reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from locvlm.building.captioning.captioner import Answer
from locvlm.building.captioning.clean import SHARED, clean, problem
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation, ObjectAnnotation

_SHOWN = 100  # characters of a dropped description in the ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class SiftRules:
    """What is asked of a description."""

    whole: bool = False  # all sentences of the answer, not only the first
    max_words: int = 50

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise ValueError(f"max_words must be 1 or more, got {self.max_words}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """An object with the description of it that was kept."""

    item: ObjectAnnotation
    text: str


def sift(
    image: ImageAnnotation, answers: Sequence[Answer], rules: SiftRules, ledger: Ledger
) -> list[Described]:
    """The objects of an image whose description can be used, in their order; drops are counted.

    Args:
        answers: one for each of the image's objects.
    """
    texts = [clean(answer.text, whole=rules.whole) for answer in answers]
    times = Counter(text.casefold() for text in texts)
    kept = []
    for item, answer, text in zip(image.objects, answers, texts, strict=True):
        reason = problem(
            answer.text,
            text,
            category=item.category,
            is_cut_off=answer.is_cut_off,
            max_words=rules.max_words,
        )
        if reason is None and times[text.casefold()] > 1:
            reason = SHARED  # whichever it describes, the others would be asked for by the wrong words
        if reason is None:
            kept.append(Described(item=item, text=text))
        else:
            drop(ledger, image, item, reason, text)
    return kept


def drop(ledger: Ledger, image: ImageAnnotation, item: ObjectAnnotation, reason: str, detail: str) -> None:
    """Count a dropped description under the name of its object."""
    ledger.drop(f"{image.image_id}/{item.category}", reason, detail[:_SHOWN])
