"""A checkpoint of ours as something that answers questions about images and videos.

The coordinate contract and the conversation format are the checkpoint's own (`config.locvlm`); nobody passes
them in.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from locvlm.answering.answerer import Asked, Decoding, OptionScore, num_frames_of
from locvlm.answering.batches import plan_batches
from locvlm.answering.checkpoints import open_checkpoint
from locvlm.coords.contract import CoordinateContract
from locvlm.data.image import prepare_image
from locvlm.data.prompt import render_question
from locvlm.data.tokenize import load_tokenizer, tokenize_prompts, tokenize_sample
from locvlm.geometry import plan_steps
from locvlm.model.generate import generate_answers
from locvlm.model.likelihood import answer_likelihoods
from locvlm.model.shared_prefix import PromptGroup
from locvlm.objectives.render import render_query
from locvlm.records import Query, Sample, Turn

Value = TypeVar("Value")
MAX_BATCH_TOKENS = 32768  # keys and values of a 7B model in bf16: 0.5 MB a token, 17 GB
_THREADS = 4  # that prepare images


@dataclass(frozen=True, kw_only=True, slots=True)
class LocVLMAnswerer:
    """Model, tokenizer and the two agreements that a checkpoint stores."""

    model: Any  # LocVLM, in eval mode
    tokenizer: Any
    contract: CoordinateContract
    conversation: str
    max_batch_tokens: int = MAX_BATCH_TOKENS  # of all rows of a batch together, those to come included

    def pixels(self, image: Image.Image) -> np.ndarray:
        """The image on the model's canvas: (3, canvas, canvas) float32, by the contract's frame."""
        steps = plan_steps(self.contract.frame, image.size, self.contract.canvas)
        return prepare_image(image, steps, self.model.spec)

    @property
    def num_frames(self) -> int:
        """By how many frames it sees a video; 0 if it was made for images alone."""
        return int(self.model.spec.num_frames)

    def clip_pixels(self, frames: Sequence[Image.Image]) -> np.ndarray:
        """The frames of a video on the model's canvas: (n, 3, canvas, canvas) float32."""
        return np.stack([self.pixels(frame) for frame in frames])

    def question(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """The question as training asks it."""
        turn = render_query(
            query, rng=rng, location_text=location_text, representation=self.contract.representation
        )
        return turn.question

    def answer(self, asked: Sequence[Asked], decoding: Decoding) -> list[list[str]]:
        """See `Answerer`. Each image or video is encoded, and what its questions share is read, once per
        batch.

        Raises:
            ValueError: for a video that is shown to a model of images, or by another number of frames.
        """

        def generate(groups: Sequence[PromptGroup]) -> list[list[list[int]]]:
            return generate_answers(
                self.model,
                groups,
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
                max_new_tokens=decoding.max_new_tokens,
                temperature=None if decoding.greedy else decoding.temperature,
                seed=decoding.seed,
                beams=decoding.beams,
            )

        groups = [PromptGroup(pixel_values=None, prompts=self._prompts(item)) for item in asked]
        answers = self._in_batches(
            asked, groups, generate, new_tokens=decoding.max_new_tokens, copies=decoding.beams
        )
        return [
            [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in of_image]
            for of_image in answers
        ]

    def option_scores(
        self, asked: Sequence[Asked], options: Sequence[Sequence[Sequence[str]]]
    ) -> list[list[list[OptionScore]]]:
        """See `Answerer`. Question and option are tokenized as in training, together."""
        groups = [
            self._answered(item, per_question) for item, per_question in zip(asked, options, strict=True)
        ]

        def score(pieces: Sequence[PromptGroup]) -> list[list[float]]:
            return answer_likelihoods(self.model, pieces, pad_token_id=self.tokenizer.pad_token_id)

        likelihoods = self._in_batches(asked, groups, score, new_tokens=0)
        scores: list[list[list[OptionScore]]] = []
        for group, per_question, nats in zip(groups, options, likelihoods, strict=True):
            flat = (
                OptionScore(log_likelihood=value, num_tokens=len(prompt) - start)
                for prompt, start, value in zip(group.prompts, group.answer_starts, nats, strict=True)
            )
            scores.append([[next(flat) for _ in texts] for texts in per_question])
        return scores

    def _in_batches(
        self,
        asked: Sequence[Asked],
        groups: Sequence[PromptGroup],
        run: Callable[[Sequence[PromptGroup]], list[list[Value]]],
        *,
        new_tokens: int,
        copies: int = 1,
    ) -> list[list[Value]]:
        """What `run` gives for every prompt: [image][prompt]. Threads prepare the pixels of later batches.

        Args:
            groups: of each image, without its pixels.
            copies: rows of a batch per prompt.
        """
        batches = plan_batches(groups, max_tokens=self.max_batch_tokens // copies, new_tokens=new_tokens)
        found: list[dict[int, Value]] = [{} for _ in groups]
        with ThreadPoolExecutor(_THREADS) as pool:
            pixels: dict[int, Future[np.ndarray]] = {}
            for piece in (piece for batch in batches for piece in batch):
                item = asked[piece.group]
                if piece.group in pixels or item.is_blind:
                    continue
                if item.image is not None:
                    pixels[piece.group] = pool.submit(self.pixels, item.image)
                else:
                    pixels[piece.group] = pool.submit(self.clip_pixels, item.frames)
            for batch in batches:
                ready = [
                    replace(piece.prompts, pixel_values=torch.from_numpy(pixels[piece.group].result()))
                    if piece.group in pixels
                    else piece.prompts
                    for piece in batch
                ]
                with _explaining_memory(self.max_batch_tokens):
                    values = run(ready)
                for piece, of_piece in zip(batch, values, strict=True):
                    found[piece.group].update(zip(piece.members, of_piece, strict=True))
        return [
            [of_group[member] for member in range(len(group.prompts))]
            for group, of_group in zip(groups, found, strict=True)
        ]

    def _prompts(self, item: Asked) -> tuple[tuple[int, ...], ...]:
        texts = [render_question(q, self.conversation, not item.is_blind) for q in item.questions]
        ids = tokenize_prompts(texts, self.tokenizer, self._num_visual_tokens(item))
        return tuple(map(tuple, ids))

    def _num_visual_tokens(self, item: Asked) -> int:
        spec = self.model.spec
        if not item.frames:
            return int(spec.num_image_tokens)
        if len(item.frames) != num_frames_of(self):
            raise ValueError(
                f"this model sees a video by {self.num_frames} frames, got {len(item.frames)}; read so many "
                f"with locvlm.data.clips.read_clip"
            )
        return int(spec.num_video_tokens)

    def _answered(self, item: Asked, options: Sequence[Sequence[str]]) -> PromptGroup:
        """Every question with each of its options as the answer, in order."""
        for question, texts in zip(item.questions, options, strict=True):
            if not texts:
                raise ValueError(f"no options to choose from for {question!r}; give at least one")
        if not item.questions:
            return PromptGroup(pixel_values=None, prompts=())
        branches = tuple(
            (Turn(question=question, answer=text),)
            for question, texts in zip(item.questions, options, strict=True)
            for text in texts
        )
        sample = Sample(id="options", image=None if item.is_blind else "shown", branches=branches)
        num_visual_tokens = self._num_visual_tokens(item)
        tokens = tokenize_sample(sample, self.tokenizer, self.conversation, num_visual_tokens)
        start = len(tokens.prefix_ids)
        return PromptGroup(
            pixel_values=None,
            prompts=tuple((*tokens.prefix_ids, *branch.ids) for branch in tokens.branches),
            answer_starts=tuple(start + branch.supervised.index(True) for branch in tokens.branches),
        )


@contextmanager
def _explaining_memory(max_batch_tokens: int) -> Iterator[None]:
    """Say what to change if the GPU's memory is too small.

    Raises:
        RuntimeError: from the failure.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RuntimeError(
            f"a batch of up to {max_batch_tokens} tokens does not fit into the GPU's memory; halve "
            f"--max-batch-tokens (answers stay the same)"
        ) from error


def load_answerer(
    folder: Path,
    *,
    adapter: Path | None = None,
    base: Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
) -> LocVLMAnswerer:
    """A checkpoint folder, ours or an export, ready to answer; see `open_checkpoint` for what it may be.

    Args:
        device: this rank's GPU by default and for "cuda", or the CPU where there is none.

    Raises:
        ValueError: if the folder is no checkpoint, its config holds no coordinate contract, or the adapter
            does not fit.
    """
    model, with_tokenizer = open_checkpoint(folder, adapter=adapter, base=base, dtype=dtype)
    model.eval()
    model.to(default_device() if device in (None, "cuda") else device)
    return answerer_of(model, load_tokenizer(with_tokenizer), max_batch_tokens=max_batch_tokens)


def answerer_of(model: Any, tokenizer: Any, *, max_batch_tokens: int = MAX_BATCH_TOKENS) -> LocVLMAnswerer:
    """A model in memory as a `LocVLMAnswerer`, by what its config says.

    Raises:
        ValueError: if the config holds no contract or conversation.
    """
    about = getattr(model.config, "locvlm", None) or {}
    if "conversation" not in about:
        raise ValueError(
            f"the checkpoint's config.json has no locvlm.conversation, got {sorted(about)}; it says in "
            f"which format the model was taught to answer"
        )
    return LocVLMAnswerer(
        model=model,
        tokenizer=tokenizer,
        contract=model.contract,
        conversation=about["conversation"],
        max_batch_tokens=max_batch_tokens,
    )


def default_device() -> str:
    """This rank's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
