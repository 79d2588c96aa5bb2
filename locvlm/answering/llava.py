"""Stock LLaVA checkpoints, asked as LLaVA-1.5 was taught: its prompt, its words about locations, its frame.

They are run as our own checkpoints are, which are LLaVA with other weights: an image is encoded once for all
its questions. Images are padded to a square, as in LLaVA's training; the processor that some published
folders bring along cuts the sides off instead, where no box could point.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from locvlm.answering.answerer import Asked, Decoding, OptionScore
from locvlm.answering.conventions import CONVENTIONS, Words, find_convention
from locvlm.answering.locvlm import LocVLMAnswerer, default_device
from locvlm.coords.contract import CoordinateContract
from locvlm.data.tokenize import load_tokenizer, text_spec
from locvlm.model.locvlm import LocVLM
from locvlm.model.vision import pixel_statistics
from locvlm.model.weight_files import load_whole
from locvlm.records import Query

CONVERSATION = "vicuna_bare"


@dataclass(frozen=True, kw_only=True, slots=True)
class LlavaAnswerer:
    """A stock LLaVA as an `Answerer`."""

    engine: LocVLMAnswerer
    words: Words
    contract: CoordinateContract | None

    def question(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """See `Answerer`."""
        return self.words(query, location_text=location_text, rng=rng)

    def answer(self, asked: Sequence[Asked], decoding: Decoding) -> list[list[str]]:
        """See `Answerer`."""
        return self.engine.answer(asked, decoding)

    def option_scores(
        self, asked: Sequence[Asked], options: Sequence[Sequence[Sequence[str]]]
    ) -> list[list[list[OptionScore]]]:
        """See `Answerer`."""
        return self.engine.option_scores(asked, options)


def load_llava(
    folder: Path,
    *,
    convention: str = "",
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
    max_batch_tokens: int,
) -> LlavaAnswerer:
    """A folder that transformers' `LlavaForConditionalGeneration` was saved to, by any version.

    Args:
        convention: of a LLaVA that was taught other locations, see `find_convention`; LLaVA-1.5's if empty.
        device: this rank's GPU by default, or the CPU where there is none.

    Raises:
        ValueError: if it is a LLaVA with other parts than CLIP's tower and a language model with LLaMA's
            tokenizer, or its files do not fit together.
    """
    model = load_whole(LocVLM, folder, dtype=dtype)
    _require_clip(folder, model)
    tokenizer = load_tokenizer(folder)
    ids = text_spec(tokenizer, max_position=model.text_spec.max_position)
    if ids.image_token_id != model.config.image_token_id:
        raise ValueError(
            f"{folder}: config.json has image_token_index {model.config.image_token_id}, the tokenizer has "
            f"{ids.image_token_id}; the files are of different checkpoints"
        )
    model.config.locvlm = pixel_statistics(folder)  # of the images that the tower was trained on
    declared, words = find_convention(convention or "llava")
    contract = replace(
        declared or CONVENTIONS["llava"].contract(), canvas=model.spec.canvas, patch=model.spec.patch
    )
    model.eval()
    model.to(device or default_device())
    engine = LocVLMAnswerer(
        model=model,
        tokenizer=tokenizer,
        contract=contract,
        conversation=CONVERSATION,
        max_batch_tokens=max_batch_tokens,
    )
    return LlavaAnswerer(engine=engine, words=words, contract=contract if declared else None)


def _require_clip(folder: Path, model: LocVLM) -> None:
    """Raises ValueError unless the model sees patches of a CLIP tower, without its CLS token."""
    config: Any = model.config
    expected = {
        "vision_config.model_type": (config.vision_config.model_type, "clip_vision_model"),
        "vision_feature_select_strategy": (config.vision_feature_select_strategy, "default"),
        "type of vision_feature_layer": (type(config.vision_feature_layer).__name__, "int"),
    }
    for name, (got, wanted) in expected.items():
        if got != wanted:
            raise ValueError(
                f"{folder} is a LLaVA with {name} {got!r}, and those with {wanted!r} are asked here; start a "
                f"server with it, such as vLLM, and give its URL as --model"
            )
