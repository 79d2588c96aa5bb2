"""Answers in batches: an image or video is encoded once, what its questions share is read once.

How that is done is in shared_prefix.py. Every question gets the answer that it gets on its own: `answer_one`
is the plain twin that the tests compare with. A question that has its answer leaves the batch before long, so
that one long answer among many short ones costs the steps of one row.
"""

# Q questions of all groups, V vocabulary

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from locvlm.model.locvlm import LocVLM
from locvlm.model.shared_prefix import PromptGroup, Rows, positions_of, read_prefixes, visual_inputs

_KEPT_FRACTION = 0.75  # of the rows of a batch: with fewer left, the others are taken out

Choose = Callable[
    [torch.Tensor, Sequence[int]], torch.Tensor
]  # logits (rows, V), which questions -> (rows,) ids


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
    beams: int = 1,
) -> list[list[list[int]]]:
    """The answer to every prompt as token ids, without end token and padding: [group][prompt][token].

    Greedy without a `temperature`. With one, answers are drawn: by the seed, the prompt and the image alone,
    whatever else is in the batch. With more than one beam, the library's beam search looks for them.

    Raises:
        ValueError: if a group has no prompt, a prompt is too short, or a group's prompts differ before or
            inside the image.
    """
    if not groups:
        return []
    rows = read_prefixes(model, groups, pad_token_id=pad_token_id, room=max_new_tokens, repeats=beams)
    limits = {"eos_token_id": eos_token_id, "max_new_tokens": max_new_tokens}
    if beams > 1:
        answers = _search(model, rows, beams=beams, pad_token_id=pad_token_id, **limits)
    else:
        choose = _best if temperature is None else Draw(groups, temperature=temperature, seed=seed)
        answers = _decode(model, rows, choose, **limits)
    return rows.by_group(answers, len(groups))


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
    visuals = visual_inputs([pixel_values], model.device)
    for _ in range(max_new_tokens):
        logits = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, **visuals).logits
        logits[0, -1, model.config.image_token_id] = -torch.inf  # stands for pixels, never for text
        token = int(logits[0, -1].argmax())
        if token == eos_token_id:
            break
        ids.append(token)
    return ids[len(prompt) :]


def _decode(
    model: LocVLM, rows: Rows, choose: Choose, *, eos_token_id: int, max_new_tokens: int
) -> list[list[int]]:
    """One token after another for all rows, until each has its end token or `max_new_tokens`."""
    answers: list[list[int]] = [[] for _ in rows.owner]
    asked = list(range(len(answers)))  # the question of each row of the batch
    is_open = [True] * len(asked)  # whether it still waits for tokens
    ids, mask = rows.rest_ids, rows.attention_mask
    positions = positions_of(mask)[:, rows.num_cached :]
    for step in range(max_new_tokens):
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=rows.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]  # (rows, V)
        logits[:, model.config.image_token_id] = -torch.inf  # stands for pixels, never for text
        chosen = choose(logits, asked)
        for row, token in enumerate(chosen.tolist()):
            is_open[row] = is_open[row] and token != eos_token_id
            if is_open[row]:
                answers[asked[row]].append(token)
        if not any(is_open) or step + 1 == max_new_tokens:
            break
        ids, positions = chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        if sum(is_open) <= _KEPT_FRACTION * len(is_open):
            kept = torch.tensor([row for row, waits in enumerate(is_open) if waits], device=ids.device)
            rows.cache.batch_select_indices(kept)
            ids, positions, mask = ids[kept], positions[kept], mask[kept]
            asked = [asked[row] for row in kept.tolist()]
            is_open = [True] * len(asked)
    return answers


def _best(logits: torch.Tensor, asked: Sequence[int]) -> torch.Tensor:
    """The likeliest token of each row."""
    return logits.argmax(dim=-1)


class Draw:
    """Tokens drawn by their likelihood at a temperature; each question has random numbers of its own."""

    def __init__(self, groups: Sequence[PromptGroup], *, temperature: float, seed: int) -> None:
        self._temperature = temperature
        self._streams = [
            random.Random(_digest(seed, prompt, group.pixel_values))
            for group in groups
            for prompt in group.prompts
        ]

    def __call__(self, logits: torch.Tensor, asked: Sequence[int]) -> torch.Tensor:
        """The token up to which the cumulated likelihood first exceeds a number drawn from [0, 1)."""
        drawn = torch.tensor([[self._streams[question].random()] for question in asked], dtype=torch.float64)
        cumulated = (logits.double() / self._temperature).softmax(dim=-1).cumsum(dim=-1)  # (rows, V)
        wanted = drawn.to(logits.device) * cumulated[:, -1:]
        return torch.searchsorted(cumulated, wanted, right=True).squeeze(1).clamp(max=logits.shape[-1] - 1)


def _digest(seed: int, prompt: Sequence[int], pixel_values: torch.Tensor | None) -> bytes:
    digest = hashlib.blake2b(f"{seed} {prompt}".encode(), digest_size=16)
    if pixel_values is not None:
        digest.update(pixel_values.cpu().numpy().tobytes())
    return digest.digest()


def _search(
    model: LocVLM, rows: Rows, *, beams: int, pad_token_id: int, eos_token_id: int, max_new_tokens: int
) -> list[list[int]]:
    """transformers' beam search with its defaults, from the cache: rows of it are there for every beam."""
    stock: Any = model  # its generate is typed for a protocol that no model is known to fulfil
    generated = stock.generate(
        input_ids=rows.input_ids,
        attention_mask=rows.attention_mask,
        past_key_values=rows.cache,
        generation_config=GenerationConfig(
            num_beams=beams,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            suppress_tokens=[model.config.image_token_id],  # stands for pixels, never for text
        ),
    )
    return [_until(row, eos_token_id) for row in generated[:, rows.input_ids.shape[1] :].tolist()]


def _until(tokens: list[int], end: int) -> list[int]:
    """The tokens before the first `end`."""
    return tokens[: tokens.index(end)] if end in tokens else tokens
