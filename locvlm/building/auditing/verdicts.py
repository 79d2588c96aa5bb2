"""What an audit holds against a file: each with what was found, and its limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from locvlm.building.auditing.entries import is_image_key
from locvlm.building.auditing.images import Copies, Leak
from locvlm.building.auditing.prompt_classifier import Guess, guess_by, guess_from_prompts
from locvlm.building.auditing.tally import Tally
from locvlm.building.manifest import ENOUGH_NEGATIVES, PROMPT_ONLY_LIMIT
from locvlm.io import Ledger

LIMITED = {  # name of a limit -> what it limits
    "unreadable": "entries that cannot be read",
    "outside": "boxes that reach out of their image, or are none",
    "repeated_questions": "questions asked again about their image with the same answer",
    "repeated_images": "entries about an image that an earlier entry is about",
    "missing": "images that are not in the folder",
    "copies": "image files equal to another",
    "leaked": "images that evaluations ask about",
    "prompt_accuracy": "absent told from present by the prompt alone",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The most that may be, of LIMITED: fractions of all, and an accuracy of which 0.5 is chance."""

    unreadable: float = 0.0
    outside: float = 0.0
    repeated_questions: float = 0.0
    repeated_images: float | None = None  # any
    missing: float = 0.0
    copies: float = 0.01  # COCO itself has a few
    leaked: float = 0.0
    prompt_accuracy: float = PROMPT_ONLY_LIMIT

    def __post_init__(self) -> None:
        for name in self.__slots__:
            limit = getattr(self, name)
            if limit is not None and not 0 <= limit <= 1:
                raise ValueError(f"a limit is a fraction in [0, 1], got {limit} for {name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One thing that was looked at.

    got     None where it could not be measured, `detail` says why
    limit   None where anything goes
    """

    name: str
    what: str
    got: float | None
    limit: float | None
    detail: str = ""
    is_accuracy: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the limit holds; None where there is none, or nothing was measured."""
        return None if self.got is None or self.limit is None else self.got <= self.limit

    @property
    def got_text(self) -> str:
        """What was found, as a percentage or an accuracy."""
        return "not measured" if self.got is None else self._written(self.got)

    @property
    def limit_text(self) -> str:
        """The limit in the same form."""
        return "no limit" if self.limit is None else f"limit {self._written(self.limit)}"

    def _written(self, value: float) -> str:
        return f"{value:.3f}" if self.is_accuracy else _percent(value)

    def __str__(self) -> str:
        word = {True: "holds ", False: "BROKEN", None: "      "}[self.holds]
        tail = f"; {self.detail}" if self.detail else ""
        return f"{word}  {self.what}: {self.got_text} ({self.limit_text}){tail}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "what": self.what,
            "got": self.got,
            "limit": self.limit,
            "holds": self.holds,
            "detail": self.detail,
        }


def verdicts_of(
    tally: Tally,
    ledger: Ledger,
    limits: Limits,
    *,
    leaks: list[Leak] | None,
    copies: Copies | None,
) -> tuple[list[Verdict], Guess | None]:
    """All verdicts in their order, and what the classifier of prompts learned.

    Args:
        leaks: None where no evaluation was named.
        copies: None where the folder of the images was not.
    """
    prompts, guess = _prompts(tally, limits.prompt_accuracy)
    return [
        _unreadable(ledger, limits.unreadable),
        _outside(tally, limits.outside),
        _share(
            "repeated_questions",
            (tally.num_repeated_questions, tally.num_questions),
            limits.repeated_questions,
            tally.repeated,
        ),
        _share(
            "repeated_images",
            (tally.image_times.total() - len(tally.image_times), tally.image_times.total()),
            limits.repeated_images,
            [f"{key}: {times} times" for key, times in tally.image_times.most_common(1) if times > 1],
        ),
        *_files(copies, limits),
        _leaked(tally, leaks, limits.leaked),
        *prompts,
    ], guess


def _unreadable(ledger: Ledger, limit: float) -> Verdict:
    examples = [example for examples in ledger.examples.values() for example in examples]
    total = ledger.num_kept + ledger.num_dropped
    return _share("unreadable", (ledger.num_dropped, total), limit, examples)


def _outside(tally: Tally, limit: float) -> Verdict:
    reasons = [f"{count:,} {reason}" for reason, count in tally.box_faults.most_common()]
    if tally.num_beyond:
        reasons.append(f"{tally.num_beyond:,} over the border, such as {tally.beyond[0]}")
    return _share("outside", (tally.num_outside, tally.num_boxes), limit, reasons)


def _files(copies: Copies | None, limits: Limits) -> list[Verdict]:
    """Missing files, and copies among the others."""
    if copies is None:
        return [
            _unmeasured(name, getattr(limits, name), "needs --image-root") for name in ("missing", "copies")
        ]
    total = copies.num_files + len(copies.missing)
    pairs = [f"{one} = {other}" for one, other in copies.copies]
    return [
        _share("missing", (len(copies.missing), total), limits.missing, copies.missing),
        _share("copies", (len(copies.copies), copies.num_files), limits.copies, pairs),
    ]


def _leaked(tally: Tally, leaks: list[Leak] | None, limit: float) -> Verdict:
    if leaks is None:
        return _unmeasured("leaked", limit, "needs --evaluation")
    num_known = sum(map(is_image_key, tally.image_times))
    if not num_known:
        shown = next(iter(tally.paths), "no image at all")
        return _unmeasured("leaked", limit, f"no image that could be known again in another set: {shown}")
    shared = {key for leak in leaks for key in leak.shared}
    files = [f"{leak.file}: {len(leak.shared):,} of its {leak.num_images:,}" for leak in leaks]
    return _share("leaked", (len(shared), num_known), limit, files, shown=len(files))


def _prompts(tally: Tally, limit: float) -> tuple[list[Verdict], Guess | None]:
    """How well absent is told from present by a classifier, by the class, and by the number of words."""
    queries, counts, prompts = tally.counts.queries, tally.counts, list(tally.prompts)
    guess, why = None, ""
    if min(queries["locpred"], queries["negpred"]) < ENOUGH_NEGATIVES:
        why = (
            f"{queries['locpred']:,} questions for what is there and {queries['negpred']:,} for what is "
            f"absent; at least {ENOUGH_NEGATIVES:,} of each would tell it from chance"
        )
    elif (guess := guess_from_prompts(prompts)) is None:
        why = "half of the images have only one kind of question"
    found = {"a classifier of the prompt's words": guess.accuracy if guess else None}
    if counts.classes["negpred"]:
        found["the class alone"] = None if why else guess_by(prompts, lambda prompt: prompt.category)
    if counts.has_phrases:
        by_length = None if why else guess_by(prompts, lambda prompt: prompt.num_words)
        found["the number of words alone"] = by_length
    detail = why if guess is None else f"cross-validated over the images of {guess.num_prompts:,} prompts"
    return [
        Verdict(
            name=f"prompts: {by}",
            what=f"absent told from present by {by}",
            got=accuracy,
            limit=limit,
            detail="" if number else detail,
            is_accuracy=True,
        )
        for number, (by, accuracy) in enumerate(found.items())
    ], guess


def _unmeasured(name: str, limit: float | None, why: str) -> Verdict:
    return Verdict(name=name, what=LIMITED[name], got=None, limit=limit, detail=why)


def _share(
    name: str,
    counted: tuple[int, int],
    limit: float | None,
    examples: Sequence[str],
    *,
    shown: int = 3,
) -> Verdict:
    """A count as a fraction of all, unmeasured where there is none; the first examples are shown with it."""
    count, total = counted
    if not total:
        return _unmeasured(name, limit, "there are none")
    detail = "; ".join([f"{count:,} of {total:,}", *examples[:shown]])
    return Verdict(name=name, what=LIMITED[name], got=count / total, limit=limit, detail=detail)


def _percent(value: float) -> str:
    """Two digits, but never 0 for what is not 0."""
    if value == 0:
        return "0%"
    return f"{value:.2%}" if value >= 0.0001 else "under 0.01%"
