"""The papers' baselines that transformers carries, each with its own prompt and way of writing locations.

    model_type    prompt                     locations
    blip-2        Question: {} Answer:       none
    instructblip  {}                         none
    kosmos-2      Question: {} Answer:       <object> with two patches of a 32 x 32 grid, stretched image

LLaVA is in `llava.py`.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from PIL import Image

from locvlm.answering.answerer import Asked, Decoding, NoAnswer, OptionScore, refuse_videos
from locvlm.answering.batches import plan_rows
from locvlm.answering.conventions import CONVENTIONS, Convention, verbatim
from locvlm.answering.huggingface import Generated, ImageTextModel, Row, load_image_text_model
from locvlm.coords.contract import CoordinateContract
from locvlm.data.image import apply_step
from locvlm.geometry import plan_steps
from locvlm.records import Query

Value = TypeVar("Value")
NO_IMAGE = "this model takes no question without an image"
_QUESTION = "{question}"
_GROUNDING = "<grounding>"  # begins what is a whole prompt of Kosmos-2
_KOSMOS2_TAGS = re.compile(r"</?[a-z_/]+>|<patch_index_\d{4}>")


def keep(question: str, text: str) -> str:
    """The answer as it is."""
    return text


def clean_kosmos2(question: str, text: str) -> str:
    """The answer without tags and patches, unless it is the place of a phrase that was asked for."""
    if question.endswith("</phrase>"):
        return text
    return " ".join(_KOSMOS2_TAGS.sub(" ", text).split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """How models of one type are asked."""

    prompt: str  # around a question
    convention: Convention | None = None  # None: they know no locations
    clean: Callable[[str, str], str] = keep  # (question, what was generated) -> answer

    def prompt_for(self, question: str) -> str:
        """What the model's processor gets."""
        if question.startswith(_GROUNDING):
            return question
        return self.prompt.replace(_QUESTION, question)


KINDS = {
    "blip-2": Kind(prompt="Question: {question} Answer:"),
    "instructblip": Kind(prompt="{question}"),
    "kosmos-2": Kind(
        prompt="Question: {question} Answer:", convention=CONVENTIONS["kosmos2"], clean=clean_kosmos2
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A model of transformers as an `Answerer`."""

    model: ImageTextModel
    kind: Kind
    contract: CoordinateContract | None
    max_batch_tokens: int

    def question(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """See `Answerer`."""
        return (self.kind.convention or verbatim)(query, location_text=location_text, rng=rng)

    def answer(self, asked: Sequence[Asked], decoding: Decoding) -> list[list[str | NoAnswer]]:
        """See `Answerer`. A question without an image has no answer."""

        rows = self._rows(asked)

        def run(batch: Sequence[int]) -> list[Generated]:
            return self.model.generate([rows[index] for index in batch], decoding)

        generated = self._in_batches(rows, run, new_tokens=decoding.max_new_tokens, copies=decoding.beams)
        questions = (q for item in asked if item.image is not None for q in item.questions)
        answers = (self.kind.clean(q, g.text) for q, g in zip(questions, generated, strict=True))
        return [
            [NoAnswer(NO_IMAGE) if item.image is None else next(answers) for _ in item.questions]
            for item in asked
        ]

    def option_scores(
        self, asked: Sequence[Asked], options: Sequence[Sequence[Sequence[str]]]
    ) -> list[list[list[OptionScore]]]:
        """See `Answerer`."""
        if any(item.image is None for item in asked if item.questions):
            raise ValueError(f"{NO_IMAGE}, so its options have no likelihood; leave such questions out")
        of_rows = list(zip(self._rows(asked), chain.from_iterable(options), strict=True))
        for row, texts in of_rows:
            if not texts:
                raise ValueError(f"no options to choose from for {row.prompt!r}; give at least one")
        rows = [row for row, texts in of_rows for _ in texts]
        flat = [text for _, texts in of_rows for text in texts]

        def run(batch: Sequence[int]) -> list[OptionScore]:
            return self.model.option_scores([rows[i] for i in batch], [flat[i] for i in batch])

        longest = max(map(len, flat), default=0)  # in characters, and so in tokens at most
        scores = iter(self._in_batches(rows, run, new_tokens=longest + 1))
        return [[[next(scores) for _ in texts] for texts in of_image] for of_image in options]

    def _rows(self, asked: Sequence[Asked]) -> list[Row]:
        """A row for each question about an image."""
        refuse_videos(asked)
        return [
            Row(image=image, prompt=self.kind.prompt_for(question))
            for item in asked
            if item.image is not None
            for image in [self._framed(item.image)]
            for question in item.questions
        ]

    def _framed(self, image: Image.Image) -> Image.Image:
        """The image as the contract's frame shows it, so that no processor can show another part of it."""
        if self.contract is None:
            return image
        for step in plan_steps(self.contract.frame, image.size, self.contract.canvas):
            image = apply_step(image, step)
        return image

    def _in_batches(
        self,
        rows: Sequence[Row],
        run: Callable[[Sequence[int]], list[Value]],
        *,
        new_tokens: int,
        copies: int = 1,
    ) -> list[Value]:
        """What `run` gives for the indices of every row, in batches of rows of similar length.

        Args:
            copies: rows of a batch per row that is asked.
        """
        lengths = [length + new_tokens for length in self.model.count_tokens(rows)]
        found: dict[int, Value] = {}
        for batch in plan_rows(lengths, max_tokens=self.max_batch_tokens // copies):
            found.update(zip(batch, run(batch), strict=True))
        return [found[index] for index in range(len(rows))]


def load_baseline(
    name: str, model_type: str, *, dtype: torch.dtype, device: str | None, max_batch_tokens: int
) -> Baseline:
    """A folder, or a name on the hub, of one of `KINDS`.

    Raises:
        ValueError: if it cannot be loaded.
    """
    kind = KINDS[model_type]
    model = load_image_text_model(name, dtype=dtype, device=device)
    contract = None
    if kind.convention is not None:
        vision = model.model.config.vision_config
        contract = kind.convention.contract(canvas=vision.image_size, patch=vision.patch_size)
    return Baseline(model=model, kind=kind, contract=contract, max_batch_tokens=max_batch_tokens)
