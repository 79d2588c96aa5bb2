"""Questions about images, answered one after another and in batches, by one model of random weights."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import CLIPVisionConfig, GenerationConfig, LlamaConfig

from locvlm.answering.batches import plan_batches
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline
from locvlm.model.generate import generate_answers
from locvlm.model.locvlm import LocVLM
from locvlm.model.shared_prefix import PromptGroup
from locvlm.model.variants import llava_config

VOCABULARY, IMAGE_TOKEN, PAD_TOKEN = 32_000, 31_999, 31_998


def random_model(*, hidden: int, layers: int, canvas: int) -> LocVLM:
    """A LocVLM of this size; its tower is half as deep, and as wide."""
    torch.manual_seed(0)
    heads = max(1, hidden // 64)
    vision = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=max(2, layers // 2),
        num_attention_heads=heads,
        image_size=canvas,
        patch_size=14,
    )
    text = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
    )
    return LocVLM(llava_config(vision, text, "mlp", image_token_id=IMAGE_TOKEN, pad_token_id=PAD_TOKEN))


def ask_about(model: LocVLM, *, images: int, questions: int) -> list[PromptGroup]:
    """Groups of prompts: a system sentence of 40 tokens, the image, a question of 10 to 30."""
    rng, canvas = random.Random(0), model.spec.canvas
    image = [model.config.image_token_id] * model.spec.num_image_tokens
    words = range(3, min(model.config.image_token_id, model.text_spec.pad_token_id))
    head = [1, *rng.choices(words, k=40), *image]
    return [
        PromptGroup(
            pixel_values=torch.randn(3, canvas, canvas, generator=torch.Generator().manual_seed(index)),
            prompts=tuple((*head, *rng.choices(words, k=rng.randint(10, 30))) for _ in range(questions)),
        )
        for index in range(images)
    ]


def one_at_a_time(model: Any, groups: Sequence[PromptGroup], *, new_tokens: int) -> list[list[int]]:
    """Every answer by a call of the library's `generate`."""
    settings = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=model.text_spec.pad_token_id,
        suppress_tokens=[model.config.image_token_id],
    )
    model.generation_config = GenerationConfig()  # which would fill in an end token
    answers = []
    for group in groups:
        assert group.pixel_values is not None  # of `ask_about`
        pixels = group.pixel_values[None].to(model.device, model.dtype)
        for prompt in group.prompts:
            ids = torch.tensor([prompt], device=model.device)
            generated = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels,
                generation_config=settings,
            )
            answers.append(generated[0, ids.shape[1] :].tolist())
    return answers


def in_batches(
    model: LocVLM, groups: Sequence[PromptGroup], *, new_tokens: int, max_batch_tokens: int
) -> list[list[int]]:
    """Every answer as an evaluation generates it."""
    found = {}
    for batch in plan_batches(groups, max_tokens=max_batch_tokens, new_tokens=new_tokens):
        answers = generate_answers(
            model,
            [replace(piece.prompts, pixel_values=groups[piece.group].pixel_values) for piece in batch],
            eos_token_id=-1,  # none, so that all answers are equally long
            pad_token_id=model.text_spec.pad_token_id,
            max_new_tokens=new_tokens,
        )
        for piece, of_piece in zip(batch, answers, strict=True):
            found.update({(piece.group, m): ids for m, ids in zip(piece.members, of_piece, strict=True)})
    return [found[key] for key in sorted(found)]


def headline(rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> list[Headline]:
    """How much batches gain in each precision, and how many of the answers are the same."""
    what = f"{settings['questions']} questions an image answered in batches, hidden size {settings['hidden']}"
    found = []
    for row in rows:
        named, gained = f"{what}, {row['dtype']}", row["times_faster"]
        found += [
            Headline(what=named, figure=gained, unit=TIMES_AS_FAST, than="generate, one by one", goal=3),
            Headline(what=f"{named}: answers", figure=row["equal_answers_fraction"], unit="of them equal"),
        ]
    return found
