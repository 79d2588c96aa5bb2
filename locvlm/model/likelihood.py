"""How likely given answers are, in batches: what is shown is encoded once, what prompts share is read once.

`likelihood_of_one` is the plain twin that the tests compare with.
"""

# Q prompts of all groups, R longest rest, T answer tokens of all prompts, D width, V vocabulary

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from locvlm.model.locvlm import LocVLM
from locvlm.model.shared_prefix import PromptGroup, positions_of, read_prefixes, visual_inputs


@torch.inference_mode()
def answer_likelihoods(
    model: LocVLM, groups: Sequence[PromptGroup], *, pad_token_id: int
) -> list[list[float]]:
    """The log-likelihood of every prompt's answer given what stands before it, in nats: [group][prompt].

    It is the sum over the tokens from `answer_starts` to the end of the prompt: minus what training would
    have as the loss of these tokens, before it divides by their number.

    Raises:
        ValueError: as `generate_answers`, or for a group without answers.
    """
    if not groups:
        return []
    sizes = [size for group in groups for size in _answer_sizes(group)]
    rows = read_prefixes(model, groups, pad_token_id=pad_token_id, room=0)
    parts: Any = model.model
    hidden = parts(
        input_ids=rows.rest_ids,
        attention_mask=rows.attention_mask,
        position_ids=positions_of(rows.attention_mask)[:, rows.num_cached :],
        past_key_values=rows.cache,
        use_cache=True,
    ).last_hidden_state  # (Q, R, D)
    from_end = torch.arange(
        rows.rest_ids.shape[1], 0, -1, device=hidden.device
    )  # (R,): all rows end together
    is_answer = (
        from_end <= torch.tensor(sizes, device=hidden.device)[:, None]
    )  # (Q, R), never the first column
    states, targets = hidden[:, :-1][is_answer[:, 1:]], rows.rest_ids[is_answer]  # (T, D), (T,)
    nats = _log_likelihoods(model.lm_head(states), targets).split(sizes)
    return rows.by_group([float(tokens.sum()) for tokens in nats], len(groups))


@torch.inference_mode()
def likelihood_of_one(
    model: LocVLM, prompt: Sequence[int], pixel_values: torch.Tensor | None, *, answer_start: int
) -> float:
    """The log-likelihood of the answer that one prompt ends with, in nats, without cache, batch, padding."""
    ids = torch.tensor([list(prompt)], device=model.device)
    visuals = visual_inputs([pixel_values], model.device)
    logits = model(input_ids=ids, use_cache=False, **visuals).logits[0]  # (tokens, V)
    return float(_log_likelihoods(logits[answer_start - 1 : -1], ids[0, answer_start:]).sum())


def _log_likelihoods(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Of each target, in nats: (T,); at least in fp32."""
    exact = logits if logits.dtype == torch.float64 else logits.float()
    return -nn.functional.cross_entropy(exact, targets, reduction="none")


def _answer_sizes(group: PromptGroup) -> list[int]:
    if len(group.answer_starts) != len(group.prompts):
        raise ValueError(
            f"a group has {len(group.prompts)} prompts and {len(group.answer_starts)} answer_starts; "
            f"expected one for each"
        )
    sizes = [len(prompt) - start for prompt, start in zip(group.prompts, group.answer_starts, strict=True)]
    if min(sizes, default=1) < 1 or min(group.answer_starts, default=2) < 2:
        raise ValueError(
            f"an answer is some tokens after the first two of its prompt, got answer_starts "
            f"{group.answer_starts} in prompts of {[len(prompt) for prompt in group.prompts]} tokens"
        )
    return sizes
