"""What LLaVA does, with transformers alone: a sample for each pair, image included, padded to the longest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import (
    AutoProcessor,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from locvlm.benchmarks.peers.data import Pair, read_pairs
from locvlm.benchmarks.peers.way import Way
from locvlm.benchmarks.peers.workload import CONVERSATION, Workload
from locvlm.constants import IGNORE_INDEX
from locvlm.data.prompt import render_branch, render_question
from locvlm.model.freeze import freeze
from locvlm.records import Turn


class Pairs(Dataset[dict[str, Any]]):
    """Pairs as ids and pixels, made when they are asked for; labels of the answers alone."""

    def __init__(self, pairs: Sequence[Pair], processor: Any) -> None:
        self.pairs = pairs
        self.processor = processor

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pairs[index]
        turn = Turn(question=pair.question, answer=pair.answer)
        text = render_branch((turn,), CONVERSATION, has_image=True).text
        question = render_question(pair.question, CONVERSATION, has_image=True)
        with Image.open(pair.image) as image:
            whole = self.processor(images=image.convert("RGB"), text=text, return_tensors="pt")
        ids = whole["input_ids"][0]  # (L,)
        num_unlearned = len(ids) - self._num_tokens_after(text, question)
        labels = ids.clone()
        labels[:num_unlearned] = IGNORE_INDEX
        return {"input_ids": ids, "labels": labels, "pixel_values": whole["pixel_values"][0]}

    def _num_tokens_after(self, text: str, beginning: str) -> int:
        """Of a text; that its beginning gives the first of its tokens is what LLaVA builds on, too."""
        ids = self.processor.tokenizer([text, beginning])["input_ids"]
        return len(ids[0]) - len(ids[1])


@dataclass(frozen=True)
class PaddingCollator:
    """Samples of one pass, padded on the right."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, labels (B, L); pixel_values (B, 3, H, W)."""
        padded = {
            name: torch.nn.utils.rnn.pad_sequence(
                [sample[name] for sample in samples], batch_first=True, padding_value=value
            )
            for name, value in (("input_ids", int(self.tokenizer.pad_token_id)), ("labels", IGNORE_INDEX))
        }
        lengths = torch.tensor([len(sample["input_ids"]) for sample in samples])
        mask = torch.arange(padded["input_ids"].shape[1]) < lengths[:, None]
        pixels = torch.stack([sample["pixel_values"] for sample in samples])
        return {**padded, "attention_mask": mask.long(), "pixel_values": pixels}


def open_stock(work: Workload) -> tuple[LlavaForConditionalGeneration, Any]:
    """(stock model with adapter and language model to train, its processor)."""
    model = LlavaForConditionalGeneration.from_pretrained(work.start, dtype=torch.float32)
    freeze(model, train=("adapter", "llm"))
    return model, AutoProcessor.from_pretrained(work.start)


def build(work: Workload, way: str, *, grouped: bool = False) -> Way:
    """transformers' Trainer; `grouped`: samples of about one length share a pass."""
    model, processor = open_stock(work)
    settings = work.padded_training(way)
    if grouped:
        settings["train_sampling_strategy"] = "group_by_length"
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**settings, remove_unused_columns=False),
        train_dataset=Pairs(read_pairs(work), processor),
        data_collator=PaddingCollator(processor.tokenizer),
        processing_class=processor.tokenizer,  # tells the sampler which key has the length
    )
    return Way(trainer=trainer, train=trainer.train)
