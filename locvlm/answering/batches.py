"""Prompts of many images -> batches that fit into memory, with little padding in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from locvlm.model.shared_prefix import PromptGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Prompts of one image that are in one batch: all, or a part of them where they do not fit into one."""

    group: int  # index of the image's group
    members: tuple[int, ...]  # indices of the prompts within it
    prompts: PromptGroup  # these prompts, still without pixels
    prefix: int  # tokens that they share
    rest: int  # tokens of the longest after that


def plan_batches(groups: Sequence[PromptGroup], *, max_tokens: int, new_tokens: int) -> list[list[Piece]]:
    """All prompts in batches, each of which needs room for `max_tokens` at most, padding included.

    A batch has a row for every prompt; all are as wide as its longest prefix, its longest rest and the tokens
    to come. Groups of similar size come together; one that is too large is cut into pieces of even size. A
    single prompt is a batch even if it is too long.

    Args:
        groups: without pixels.
        new_tokens: tokens to come, for every prompt.
    """
    pieces = [piece for index in range(len(groups)) for piece in _cut(groups, index, max_tokens, new_tokens)]
    batches: list[list[Piece]] = []
    rows = prefix = rest = 0
    for piece in sorted(pieces, key=lambda piece: (piece.prefix, piece.rest), reverse=True):
        rows += len(piece.members)
        prefix, rest = max(prefix, piece.prefix), max(rest, piece.rest)
        if not batches or rows * (prefix + rest + new_tokens) > max_tokens:
            batches.append([])
            rows, prefix, rest = len(piece.members), piece.prefix, piece.rest
        batches[-1].append(piece)
    return batches


def plan_rows(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Rows in batches of similar length, each of which needs room for `max_tokens` at most, padding included.

    Args:
        lengths: tokens of each row, those to come included; a longer one than fits is a batch of its own.

    Returns:
        The indices of the rows of each batch.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def _cut(groups: Sequence[PromptGroup], index: int, max_tokens: int, new_tokens: int) -> list[Piece]:
    """A group in as few pieces as fit, prompts of similar length together."""
    group = groups[index]
    if not group.prompts:
        return []
    order = sorted(range(len(group.prompts)), key=lambda member: len(group.prompts[member]))
    longest = len(group.prompts[order[-1]])
    num_pieces = -(-len(order) // max(1, max_tokens // (longest + new_tokens)))
    cuts = [len(order) * k // num_pieces for k in range(num_pieces + 1)]
    return [_piece(group, index, order[a:b]) for a, b in pairwise(cuts)]


def _piece(group: PromptGroup, index: int, members: Sequence[int]) -> Piece:
    starts = group.answer_starts
    prompts = PromptGroup(
        pixel_values=None,
        prompts=tuple(group.prompts[member] for member in members),
        answer_starts=tuple(starts[member] for member in members) if starts else (),
    )
    prefix = prompts.prefix_length
    rest = max(map(len, prompts.prompts)) - prefix
    return Piece(group=index, members=tuple(members), prompts=prompts, prefix=prefix, rest=rest)
