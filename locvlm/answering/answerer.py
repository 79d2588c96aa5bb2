"""What an evaluation, a builder or a chat needs of a model: it answers questions about images and videos."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.records import Query

_IMAGES_ALONE = (
    "this model was made for images alone, and a whole video is to be shown; ask about its middle frame "
    "(`shows: frame` in a task), or take a checkpoint of stage 3"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An image or a video with questions about it, as final text; without either they are put alone.

    Raises:
        ValueError: for both an image and a video.
    """

    image: Image.Image | None  # upright, in the raster of its record's boxes
    questions: list[str] = field(default_factory=list)
    frames: tuple[Image.Image, ...] = ()  # of a video, as many as `num_frames_of` says, upright like an image

    def __post_init__(self) -> None:
        if self.image is not None and self.frames:
            raise ValueError(
                f"questions are about an image or a video, got an image and {len(self.frames)} frames"
            )

    @property
    def is_blind(self) -> bool:
        """Whether there is nothing to see."""
        return self.image is None and not self.frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How answers are generated; the report names it (the paper samples at 0.2, section 4)."""

    greedy: bool = True
    max_new_tokens: int = 48
    temperature: float = 0.2  # only where not greedy
    seed: int = 0
    beams: int = 1  # beam search, where greedy

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.beams < 1:
            raise ValueError(
                f"decode.max_new_tokens and decode.beams must be at least 1, got {self.max_new_tokens} and "
                f"{self.beams}"
            )
        if not self.greedy and self.temperature <= 0:
            raise ValueError(
                f"decode.temperature must be positive to sample, got {self.temperature}; or set greedy: true"
            )
        if not self.greedy and self.beams > 1:
            raise ValueError(f"decode.beams is for greedy: true, got {self.beams} and greedy: false")

    def describe(self) -> str:
        """In words: "greedy", "5 beams", or "sampled at temperature 0.2, seed 0"."""
        if not self.greedy:
            return f"sampled at temperature {self.temperature:g}, seed {self.seed}"
        return "greedy" if self.beams == 1 else f"{self.beams} beams"


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionScore:
    """How likely a model finds a text as the answer to a question, its end token included."""

    log_likelihood: float  # nats, summed over the tokens
    num_tokens: int

    @property
    def mean(self) -> float:
        """Nats per token, 0 at most: what options of different length are compared by."""
        return self.log_likelihood / self.num_tokens

    @property
    def perplexity(self) -> float:
        """Per token, 1 at least."""
        return math.exp(-self.mean)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why a question has no answer: its server refused it, or the model takes none without an image."""

    reason: str


class Answerer(Protocol):
    """A model, its prompt format and its way of writing locations.

    `contract` says how the model writes and reads locations: a checkpoint of ours stores it, for others it is
    declared where they are loaded.
    """

    @property
    def contract(self) -> CoordinateContract | None:
        """How locations are written and read; None for a model that has no way of doing so."""
        ...

    def question(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """What the model is asked about a query, in the words that it was taught.

        Args:
            location_text: the query's box as `contract` writes it, if it has one.
            rng: draws the wording where there is a choice.
        """
        ...

    def answer(self, asked: Sequence[Asked], decoding: Decoding) -> Sequence[Sequence[str | NoAnswer]]:
        """The answers to every image's questions, special tokens and outer spaces removed.

        An answer does not depend on what else is asked in the same call; where they are drawn by a server,
        it may.
        """
        ...

    def option_scores(
        self, asked: Sequence[Asked], options: Sequence[Sequence[Sequence[str]]]
    ) -> list[list[list[OptionScore]]]:
        """How likely each option is as the answer: [image][question][option].

        Args:
            options: texts, [image][question][option].

        Raises:
            ValueError: if this model cannot say, as most servers cannot.
        """
        ...


@runtime_checkable
class SeesVideos(Protocol):
    """An answerer whose model may be made for whole videos."""

    @property
    def num_frames(self) -> int:
        """By how many frames it sees a video; 0 if this checkpoint was made for images alone."""
        ...


def num_frames_of(answerer: Answerer) -> int:
    """By how many frames a model sees a video.

    Raises:
        ValueError: if it was made for images alone.
    """
    num_frames = answerer.num_frames if isinstance(answerer, SeesVideos) else 0
    if num_frames == 0:
        raise ValueError(_IMAGES_ALONE)
    return num_frames


def refuse_videos(asked: Sequence[Asked]) -> None:
    """Nothing, unless a model of images is asked about a video: it would answer as if there were none.

    Raises:
        ValueError: if it is.
    """
    if any(item.frames for item in asked):
        raise ValueError(_IMAGES_ALONE)
