"""A batch as text, to look at before a run: what the model sees, and which of it is supervised.

row 0, image 0 (64 tokens)
  A chat between ... USER: <image>
    | \\nWhere is the dog? ASSISTANT: >>>(4, 52, 13, 63)</s><<<
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from locvlm.constants import IMAGE_TOKEN, NO_SAMPLE

BEGIN, END = ">>>", "<<<"  # around what is supervised


def describe_batch(batch: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """The trees of a micro-batch, decoded: prefix, then branches with what is supervised in >>> and <<<."""
    input_ids, sample_ids, branch_ids = (batch[name] for name in ("input_ids", "sample_ids", "branch_ids"))
    length = input_ids.shape[1]
    targets = _targets_by_state(batch)
    lines = []
    for r in range(input_ids.shape[0]):
        row_ids = input_ids[r].tolist()
        for sample in sorted(set(sample_ids[r].tolist()) - {NO_SAMPLE}):
            where = (sample_ids[r] == sample).nonzero().flatten()
            places = _by_branch(where.tolist(), branch_ids[r])
            prefix = places.pop(0, [])
            text = _decode([(row_ids[i], False) for i in prefix], tokenizer)
            lines.append(f"row {r}, sample {sample}: {len(where)} tokens, {len(places)} branches\n  {text}")
            for branch in places.values():
                before = [prefix[-1] if prefix else -1, *branch[:-1]]  # a state predicts the token after it
                marked = [
                    (row_ids[i], row_ids[i] in targets.get(r * length + state, ()))
                    for i, state in zip(branch, before, strict=True)
                ]
                lines.append(f"    | {_decode(marked, tokenizer)}")
    return "\n".join(lines) + "\n"


def _targets_by_state(batch: dict[str, Any]) -> dict[int, set[int]]:
    """{flat hidden state: the tokens it is to predict}."""
    targets: dict[int, set[int]] = {}
    kept = batch["target_weights"] > 0
    for state, token in zip(
        batch["target_index"][kept].tolist(), batch["target_ids"][kept].tolist(), strict=True
    ):
        targets.setdefault(state, set()).add(token)
    return targets


def _by_branch(places: Sequence[int], branch_ids: torch.Tensor) -> dict[int, list[int]]:
    """{branch: its places in the row}, 0 for the prefix."""
    found: dict[int, list[int]] = {}
    for i in places:
        found.setdefault(int(branch_ids[i]), []).append(i)
    return found


def _decode(tokens: Sequence[tuple[int, bool]], tokenizer: PreTrainedTokenizerBase) -> str:
    """Text of (id, supervised?) pairs: image tokens counted, line breaks as \\n, supervised runs marked."""
    image_id = tokenizer.get_vocab()[IMAGE_TOKEN]
    parts, start = [], 0
    for end in range(1, len(tokens) + 1):
        if end < len(tokens) and _kind(tokens[end], image_id) == _kind(tokens[start], image_id):
            continue
        is_image, is_supervised = _kind(tokens[start], image_id)
        text = str(tokenizer.decode([token for token, _ in tokens[start:end]], skip_special_tokens=False))
        if is_image:
            text = f"{IMAGE_TOKEN} x {end - start}"
        parts.append(f"{BEGIN}{text}{END}" if is_supervised else text)
        start = end
    return "".join(parts).replace("\n", "\\n")


def _kind(token: tuple[int, bool], image_id: int) -> tuple[bool, bool]:
    return token[0] == image_id, token[1]
