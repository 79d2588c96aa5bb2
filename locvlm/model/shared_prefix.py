"""What the prompts of a group start with, read once; then one row per prompt, with room for what follows.

    prefill    prompts' common prefixes, one row per group      [pad pad  BOS .. image ..]
    repeat     each row of the cache, once per prompt
    then       the rest of each prompt, all prompts together    [pad  question ..]

Both paddings are on the left, so a row may have holes: [pad pad prefix pad question]. The 2D mask leaves them
out and positions count unmasked tokens alone, so that a prompt is read as it is on its own.
"""

# G groups, Q prompts of all groups, P longest prefix, R longest rest; H key heads of width E

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from locvlm.model.locvlm import LocVLM


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PromptGroup:
    """Prompts about one image or video. Each is whole: BOS, system sentence, image tokens, question."""

    pixel_values: torch.Tensor | None  # (3, H, W); a video's frames (n, 3, H, W); None for text only
    prompts: tuple[tuple[int, ...], ...]  # token ids, image tokens written out
    answer_starts: tuple[int, ...] = ()  # where prompts end with a given answer: the index of its first token

    @property
    def prefix_length(self) -> int:
        """How many tokens all prompts start with; each keeps the token that the next is predicted from."""
        ends = self.answer_starts or [len(prompt) for prompt in self.prompts]
        longest = max(0, min(ends) - 1)
        first, last = min(self.prompts), max(self.prompts)  # in lexical order: no two differ earlier
        return next((i for i in range(longest) if first[i] != last[i]), longest)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """All prompts of some groups, in order, one a row; what each starts with is in the cache already."""

    owner: list[int]  # (Q,) group of each row
    cache: Cache  # keys and values of the first P columns
    input_ids: torch.Tensor  # (Q, P + R), whole
    attention_mask: torch.Tensor  # (Q, P + R), 0 on padding
    num_cached: int  # P

    @property
    def rest_ids(self) -> torch.Tensor:
        """What is still to be read: (Q, R)."""
        return self.input_ids[:, self.num_cached :]

    def by_group(self, values: Sequence[Any], num_groups: int) -> list[list[Any]]:
        """One value per row -> [group][prompt]."""
        grouped: list[list[Any]] = [[] for _ in range(num_groups)]
        for group, value in zip(self.owner, values, strict=True):
            grouped[group].append(value)
        return grouped


def read_prefixes(
    model: LocVLM, groups: Sequence[PromptGroup], *, pad_token_id: int, room: int, repeats: int = 1
) -> Rows:
    """The prompts of all groups as rows whose common prefixes are read; every image or video is encoded here,
    once.

    Args:
        room: tokens for which the cache has room after the prompts.
        repeats: rows of the cache for each prompt, one after another; ids and mask have one.

    Raises:
        ValueError: if a group has no prompt, a prompt is too short, or a group's prompts differ before or
            inside the image.
    """
    prefixes = [_prefix(group, model.config.image_token_id) for group in groups]
    owner = [index for index, group in enumerate(groups) for _ in group.prompts]
    rests = [prompt[len(prefixes[index]) :] for index, group in enumerate(groups) for prompt in group.prompts]
    prefix_ids, prefix_mask = _pad_left(prefixes, pad_token_id, model.device)  # (G, P)
    rest_ids, rest_mask = _pad_left(rests, pad_token_id, model.device)  # (Q, R)
    cache = _prefill(model, groups, prefix_ids, prefix_mask)
    rows = torch.tensor(owner, device=model.device)
    _repeat(cache, rows.repeat_interleave(repeats), room=rest_ids.shape[1] + room)
    return Rows(
        owner=owner,
        cache=cache,
        input_ids=torch.cat([prefix_ids[rows], rest_ids], dim=1),
        attention_mask=torch.cat([prefix_mask[rows], rest_mask], dim=1),
        num_cached=prefix_ids.shape[1],
    )


class RoomyLayer(DynamicLayer):
    """Keys and values with room for what is to come: the stock layer copies all of them for every token."""

    def __init__(self, layer: DynamicLayer, rows: torch.Tensor, room: int) -> None:
        """The given rows of another layer.

        Args:
            rows: which, in order; may repeat.
            room: tokens.
        """
        super().__init__()
        assert layer.keys is not None
        assert layer.values is not None
        self.dtype, self.device, self.is_initialized = layer.keys.dtype, layer.keys.device, True
        self._buffers = [_with_room(layer.keys, rows, room), _with_room(layer.values, rows, room)]
        self._show(layer.keys.shape[2])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (Q, H, new, E); keys and values so far."""
        start, end = self._length, self._length + key_states.shape[2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        return self._show(end)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows."""
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self._show(self._length)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Rows in another order, as a beam search has them."""
        self.batch_select_indices(beam_idx)

    def _show(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._length = length
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)
        return self.keys, self.values


def _with_room(states: torch.Tensor, rows: torch.Tensor, room: int) -> torch.Tensor:
    """Rows of (G, H, P, E) as (Q, H, P + room, E)."""
    _, heads, length, width = states.shape
    buffer = states.new_empty(len(rows), heads, length + room, width)
    buffer[:, :, :length] = states[rows]
    return buffer


def _prefix(group: PromptGroup, image_token_id: int) -> tuple[int, ...]:
    """What all prompts of the group start with."""
    if not group.prompts or min(len(prompt) for prompt in group.prompts) < 2:
        raise ValueError(
            "every group needs a prompt, and every prompt two tokens at least (BOS and a question)"
        )
    first = group.prompts[0]
    length = group.prefix_length
    if length == 0:
        raise ValueError("the prompts of one group must begin with the same token, BOS")
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
    """Keys and values of every group's prefix."""
    text: Any = model.config.text_config
    cache = DynamicCache(config=text)
    model(
        input_ids=prefix_ids,
        attention_mask=prefix_mask,
        position_ids=positions_of(prefix_mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **visual_inputs([group.pixel_values for group in groups], model.device),
    )
    return cache


def visual_inputs(pixels: Sequence[torch.Tensor | None], device: torch.device) -> dict[str, torch.Tensor]:
    """The keywords of `LocVLM.forward` for visuals in the order of their prompts; none for text alone.

    Frames stay where they are: they are moved chunk by chunk (video.py).
    """
    shown = [item for item in pixels if item is not None]
    if not shown:
        return {}
    if all(item.ndim == 3 for item in shown):
        return {"pixel_values": torch.stack(shown).to(device)}
    sizes = [0 if item.ndim == 3 else len(item) for item in shown]
    frames = [item[None] if item.ndim == 3 else item for item in shown]
    return {"pixel_values": torch.cat(frames), "frames_per_visual": torch.tensor(sizes)}


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Of each token among those of its row that are no padding."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _repeat(cache: DynamicCache, rows: torch.Tensor, room: int) -> None:
    """Make each layer hold these of its rows, layer by layer, so that both are never there in full."""
    layers: list[Any] = cache.layers
    for index, layer in enumerate(layers):
        if type(layer) is DynamicLayer:
            layers[index] = RoomyLayer(layer, rows, room)
        else:  # a sliding window, which keeps its own
            layer.batch_select_indices(rows)
