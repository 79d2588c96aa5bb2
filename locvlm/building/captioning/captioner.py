"""What describes objects: pictures with prompts in, answers out, batch after batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image as it was read."""

    path: Path  # of the file, or of a member of an archive
    image: Image.Image  # RGB, in the raster of its record's boxes


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompted:
    """A picture with prompts about it, each to be answered on its own."""

    picture: Picture
    prompts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back for a prompt."""

    text: str = ""
    is_cut_off: bool = False  # the answer went on beyond the token limit
    failure: str = ""  # why there is none; empty when there is one


class Captioner(Protocol):
    """A model that answers prompts about pictures, greedily.

    An answer depends on its picture and its prompt alone, not on what else is in the batch.
    """

    @property
    def name(self) -> str:
        """What records and manifests call it."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """What has to be equal for answers to be the same: the model, and how it is asked."""
        ...

    @property
    def prompts_per_batch(self) -> int:
        """How many prompts a batch should have, about: those of one picture stay together."""
        ...

    def describe(self, batches: Iterable[Sequence[Prompted]]) -> Iterator[list[list[Answer]]]:
        """The answers of every batch, in order: [picture][prompt]. It may look some batches ahead."""
        ...
