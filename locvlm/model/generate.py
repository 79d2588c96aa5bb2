"""Answers in batches: an image is encoded once, and what its questions share is read once.

    prefill    prompts' common prefixes, one row per group      [pad pad  BOS .. image ..]
    repeat     each row of the cache, once per question
    decode     the rest of each prompt, all questions together  [pad  question ..] -> answer ..

Both paddings are on the left, so a row may have holes: [pad pad prefix pad question]. The 2D mask leaves them
out and positions count unmasked tokens alone, so that a question gets the answer it gets on its own
(`answer_one` is the plain twin that the tests compare with).
"""

# G groups, Q questions of all groups, N images, P patches per image

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig

from locvlm.model.locvlm import LocVLM


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PromptGroup:
    """Questions about one image. Every prompt is whole: BOS, system sentence, image tokens, question."""

    pixel_values: torch.Tensor | None  # (3, H, W), None for text only
    prompts: tuple[tuple[int, ...], ...]  # token ids, image tokens written out


@torch.inference_mode()
def generate_answers(
    model: LocVLM,
    groups: Sequence[PromptGroup],
    *,
    eos_token_id: int,
    pad_token_id: int,
    max_new_tokens: int,
    temperature: float | None = None,
    seed: int = 0,
) -> list[list[list[int]]]:
    """The answer to every prompt as token ids, without end token and padding: [group][prompt][token].

    Greedy without a `temperature`. With one, answers are drawn; they depend on the seed and, since rows draw
    from one stream, on what else is in the batch.

    Raises:
        ValueError: if a group has no prompt, a prompt is too short, or a group's prompts differ before or
            inside the image.
    """
    if not groups:
        return []
    prefixes = [_common_prefix(group, model.config.image_token_id) for group in groups]
    owner = [
        index for index, group in enumerate(groups) for _ in group.prompts
    ]  # (Q,) group of each question
    questions = [
        prompt[len(prefixes[index]) :] for index, group in enumerate(groups) for prompt in group.prompts
    ]
    device = model.device
    prefix_ids, prefix_mask = _pad_left(prefixes, pad_token_id, device)  # (G, longest prefix)
    question_ids, question_mask = _pad_left(questions, pad_token_id, device)  # (Q, longest question)
    cache = _prefill(model, groups, prefix_ids, prefix_mask)
    rows = torch.tensor(owner, device=device)
    cache.batch_select_indices(rows)
    input_ids = torch.cat([prefix_ids[rows], question_ids], dim=1)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature is not None,
        eos_token_id=eos_token_id,
        pad_token_id=pad_token_id,
        suppress_tokens=[model.config.image_token_id],  # stands for pixels, never for text
        **({} if temperature is None else {"temperature": temperature, "top_k": 0, "top_p": 1.0}),
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        stock: Any = model  # its generate is typed for a protocol that no model is known to fulfil
        generated = stock.generate(
            input_ids=input_ids,
            attention_mask=torch.cat([prefix_mask[rows], question_mask], dim=1),
            past_key_values=cache,
            generation_config=settings,
        )
    answers = [_until(row, eos_token_id) for row in generated[:, input_ids.shape[1] :].tolist()]
    regrouped: list[list[list[int]]] = [[] for _ in groups]
    for group_index, answer in zip(owner, answers, strict=True):
        regrouped[group_index].append(answer)
    return regrouped


@torch.inference_mode()
def answer_one(
    model: LocVLM,
    prompt: Sequence[int],
    pixel_values: torch.Tensor | None,
    *,
    eos_token_id: int,
    max_new_tokens: int,
) -> list[int]:
    """The greedy answer to one prompt without cache, batch, padding: the whole text anew for every token."""
    ids = list(prompt)
    images = None if pixel_values is None else pixel_values[None].to(model.device)
    for _ in range(max_new_tokens):
        logits = model(
            input_ids=torch.tensor([ids], device=model.device), pixel_values=images, use_cache=False
        ).logits
        logits[0, -1, model.config.image_token_id] = -torch.inf  # stands for pixels, never for text
        token = int(logits[0, -1].argmax())
        if token == eos_token_id:
            break
        ids.append(token)
    return ids[len(prompt) :]


def _common_prefix(group: PromptGroup, image_token_id: int) -> tuple[int, ...]:
    """What all prompts of the group start with, leaving each at least its last token."""
    if not group.prompts or min(len(prompt) for prompt in group.prompts) < 2:
        raise ValueError(
            "every group needs a prompt, and every prompt two tokens at least (BOS and a question)"
        )
    first, *others = group.prompts
    length = min(len(prompt) for prompt in group.prompts) - 1
    for prompt in others:
        length = next((i for i in range(length) if prompt[i] != first[i]), length)
    if any(image_token_id in prompt[length:] for prompt in group.prompts):
        raise ValueError(
            "the prompts of one group must be equal up to the end of the image; put those with another text "
            "before it, or with a second image, into a group of their own"
        )
    if (image_token_id in first) != (group.pixel_values is not None):
        raise ValueError(
            "a group has image tokens without pixel_values, or pixel_values without image tokens"
        )
    return first[:length]


def _pad_left(
    rows: Sequence[Sequence[int]], pad_token_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids with padding before them and the mask of what is no padding, both (rows, longest row)."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad_token_id)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row)
        mask[index, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _prefill(
    model: LocVLM, groups: Sequence[PromptGroup], prefix_ids: torch.Tensor, prefix_mask: torch.Tensor
) -> DynamicCache:
    """Keys and values of every group's prefix; every image is encoded here, once."""
    images = [group.pixel_values for group in groups if group.pixel_values is not None]
    text: Any = model.config.text_config
    cache = DynamicCache(config=text)
    model(
        input_ids=prefix_ids,
        attention_mask=prefix_mask,
        position_ids=(prefix_mask.cumsum(dim=1) - 1).clamp(min=0),
        pixel_values=torch.stack(images).to(model.device) if images else None,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cache


def _until(tokens: list[int], end: int) -> list[int]:
    """The tokens before the first `end`."""
    return tokens[: tokens.index(end)] if end in tokens else tokens
