"""A loaded checkpoint as something that answers questions about images.

The coordinate contract and the conversation format are the checkpoint's own (`config.locvlm`); nobody passes
them in.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.data.image import prepare_image
from locvlm.data.prompt import render_question
from locvlm.data.tokenize import load_tokenizer, tokenize_prompts
from locvlm.geometry import plan_steps
from locvlm.io import sha256_of
from locvlm.model.adapter import WEIGHTS_FILE, load_adapter
from locvlm.model.generate import PromptGroup, generate_answers
from locvlm.model.locvlm import LocVLM

logger = logging.getLogger(__name__)

_PIECES, _PIECE_BYTES = 64, 4096  # what of each weight file the fingerprint reads


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An image with questions about it, as final text; `pixels` None asks without an image."""

    pixels: np.ndarray | None  # (3, canvas, canvas) float32, normalised
    questions: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answerer:
    """Model, tokenizer and the two agreements that a checkpoint stores."""

    model: Any  # LocVLM, in eval mode
    tokenizer: Any
    contract: CoordinateContract
    conversation: str

    def pixels(self, image: Image.Image) -> np.ndarray:
        """The image on the model's canvas: (3, canvas, canvas) float32, by the contract's frame."""
        steps = plan_steps(self.contract.frame, image.size, self.contract.canvas)
        return prepare_image(image, steps, self.model.spec)

    def blank_pixels(self) -> np.ndarray:
        """A canvas of the mean colour: (3, canvas, canvas) zeros after normalising."""
        return np.zeros((3, self.contract.canvas, self.contract.canvas), dtype=np.float32)

    def answer(
        self,
        asked: Sequence[Asked],
        *,
        max_new_tokens: int,
        temperature: float | None = None,
        seed: int = 0,
    ) -> list[list[str]]:
        """The answers to every image's questions, special tokens and outer spaces removed.

        Greedy without a temperature. Each image is encoded once for all its questions.
        """
        groups = [
            PromptGroup(
                pixel_values=None if item.pixels is None else torch.from_numpy(item.pixels),
                prompts=self._prompts(item),
            )
            for item in asked
        ]
        generated = generate_answers(
            self.model,
            groups,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
        )
        return [
            [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in answers]
            for answers in generated
        ]

    def _prompts(self, item: Asked) -> tuple[tuple[int, ...], ...]:
        texts = [render_question(q, self.conversation, item.pixels is not None) for q in item.questions]
        ids = tokenize_prompts(texts, self.tokenizer, self.model.spec.num_image_tokens)
        return tuple(map(tuple, ids))


def load_answerer(
    folder: Path,
    *,
    adapter: Path | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
) -> Answerer:
    """A checkpoint folder, ours or an export, ready to answer.

    Args:
        adapter: an adapter-only folder, as stage 1 leaves it, to put into the checkpoint it was trained from.

    Raises:
        ValueError: if the folder is no checkpoint, its config holds no coordinate contract, or the adapter
            does not fit.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json; expected a LocVLM checkpoint or an exported folder")
    model: Any = LocVLM.from_pretrained(folder, dtype=dtype)
    if adapter is not None:
        load_adapter(model, adapter)
    model.eval()
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return answerer_of(model, load_tokenizer(folder))


def answerer_of(model: Any, tokenizer: Any) -> Answerer:
    """A model in memory as an `Answerer`, by what its config says.

    Raises:
        ValueError: if the config holds no contract or conversation.
    """
    about = getattr(model.config, "locvlm", None) or {}
    if "conversation" not in about:
        raise ValueError(
            f"the checkpoint's config.json has no locvlm.conversation, got {sorted(about)}; it says in "
            f"which format the model was taught to answer"
        )
    return Answerer(
        model=model, tokenizer=tokenizer, contract=model.contract, conversation=about["conversation"]
    )


def fingerprint(folder: Path, adapter: Path | None = None) -> str:
    """A short name for what a checkpoint answers: its config, and evenly spaced pieces of its weight files.

    Not a hash of all weights: those of a 7B model take a minute to read.
    """
    digest = hashlib.sha256(sha256_of(folder / "config.json").encode())
    for path in [*sorted(folder.glob("*.safetensors")), *([adapter / WEIGHTS_FILE] if adapter else [])]:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for piece in range(_PIECES):
                file.seek(size * piece // _PIECES)
                digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()[:16]
