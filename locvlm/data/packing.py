"""Tokenized samples become trees, and the trees of one step a fixed number of rows, balanced by tokens.

A tree is one copy of the prefix (an image, a video or neither) and branches that each see it and themselves:

    tokens         P  P  P  a  a  a  b  b          P prefix (BOS, image tokens), a and b two branches
    branch_ids     0  0  0  1  1  1  2  2
    positions      0  1  2  3  4  5  3  4          every branch continues from the prefix
    targets        state 2 -> first a, 3 -> second a, 4 -> third a; state 2 -> first b, 6 -> second b

(with every branch token supervised). Targets are (state, token) pairs because the first token of *every*
branch is predicted by the prefix's last state. A row holds several trees; tree and row borders never cut an
image or an answer. Weights are per token, so gradients do not depend on how samples are packed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from locvlm.data.rows import deal, even_out
from locvlm.records import Sample

if TYPE_CHECKING:  # importing it takes a second, and configurations import PackingConfig
    from locvlm.data.tokenize import Branch, TokenizedSample

Mode = Literal["shared_prefix", "multi_turn", "separate"]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingConfig:
    """How branches share a row.

    shared_prefix  one tree per image: all its branches share one copy of the image tokens; exact
    multi_turn     one dialogue per image: later branches see the earlier ones, as LLaVA trains
    separate       one tree per branch, each with its own image tokens: the plain twin of shared_prefix
    """

    mode: Mode = "shared_prefix"
    max_row_tokens: int = 2048  # at most the language model's context
    overlong: Literal["error", "drop"] = "error"  # a sample that no row can hold; drops are counted

    def __post_init__(self) -> None:
        if self.max_row_tokens < 2:
            raise ValueError(
                f"packing.max_row_tokens must hold a prompt and an answer, got {self.max_row_tokens}; "
                f"the default is 2048"
            )


class OverlongSampleError(ValueError):
    """A sample that does not fit into one row."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tree:
    """A prefix and its branches, laid out flat. L tokens, T targets.

    `target_states[t]` is the token of the tree (0 .. L-1) whose hidden state predicts `target_ids[t]`.
    """

    sample_id: str
    sample_index: int  # which sample of the step it comes from, so whose image it shows
    has_image: bool  # or a video
    ids: IntArray  # (L,)
    positions: IntArray  # (L,)
    branch_ids: IntArray  # (L,) 0 for the prefix, then 1, 2, ..
    target_states: IntArray  # (T,)
    target_ids: IntArray  # (T,)
    weight: float = 1.0  # of each target in the loss; 0 for what only fills a row
    has_video: bool = False

    @property
    def num_tokens(self) -> int:
        """L: what the tree takes of a row."""
        return len(self.ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPlan:
    """The rows of one optimizer step, the same for every number of ranks up to their order."""

    passes: tuple[tuple[tuple[Tree, ...], ...], ...]  # [accumulation pass][row over all ranks] -> trees
    num_targets: float  # sum of target weights over the whole step; 1 if it holds no sample at all
    dropped: tuple[tuple[int, str], ...] = ()  # (sample of the step, why) of each overlong sample

    def rows_of(self, rank: int, rows_per_pass: int) -> list[tuple[tuple[Tree, ...], ...]]:
        """This rank's rows, one tuple per accumulation pass."""
        return [rows[rank * rows_per_pass : (rank + 1) * rows_per_pass] for rows in self.passes]


def merge_branches(sample: Sample, mode: Mode) -> Sample:
    """For `multi_turn`, the sample with its branches joined into one dialogue; otherwise the sample."""
    if mode != "multi_turn" or len(sample.branches) < 2:
        return sample
    return replace(sample, branches=(tuple(turn for branch in sample.branches for turn in branch),))


def as_trees(
    sample: "TokenizedSample", mode: Mode, *, max_row_tokens: int | None = None, sample_index: int = 0
) -> list[Tree]:
    """The trees of one sample: one, or one per branch if `separate`.

    Branches that together exceed a row are dealt, in order, to several trees with a copy of the prefix each:
    every (prefix, branch) pair stays whole, and the gradients are the same.

    Raises:
        OverlongSampleError: if the prefix and one branch alone exceed `max_row_tokens`.
        ValueError: if nothing is supervised, or a token is supervised that no state predicts.
    """
    groups: list[list[Branch]] = []
    room = 0
    for number, branch in enumerate(sample.branches):
        size = len(branch.ids)
        if max_row_tokens is not None and len(sample.prefix_ids) + size > max_row_tokens:
            raise OverlongSampleError(_describe_overlong(sample, number, max_row_tokens))
        if not groups or mode == "separate" or (max_row_tokens is not None and size > room):
            groups.append([])
            room = (max_row_tokens or 0) - len(sample.prefix_ids)
        groups[-1].append(branch)
        room -= size
    trees = [_lay_out(sample, group, sample_index) for group in groups]
    if not any(len(tree.target_ids) for tree in trees):
        raise ValueError(
            f"sample {sample.id!r}: no token is supervised in its {len(sample.branches)} branches; it would "
            f"train nothing: check its answers"
        )
    return trees


def filler_tree(pad_token_id: int) -> Tree:
    """Two text tokens with one target of weight zero: keeps a row valid that no sample falls to."""
    pads = np.full(2, pad_token_id, dtype=np.int64)
    line = np.arange(2, dtype=np.int64)
    return Tree(
        sample_id="",
        sample_index=-1,
        has_image=False,
        ids=pads,
        positions=line,
        branch_ids=line,
        target_states=line[:1],
        target_ids=pads[:1],
        weight=0.0,
    )


def pack_rows(
    trees: Sequence[Tree], num_rows: int, max_row_tokens: int, *, rows_per_accumulation: int = 1
) -> list[list[Tree]]:
    """Deal trees to `num_rows` rows of at most `max_row_tokens`, as equal as may be, the longest row first.

    Deterministic, see `data/rows.py`. Rows may stay empty.

    Raises:
        ValueError: if they do not fit; names the accumulation that would, for `rows_per_accumulation` rows
            per accumulation step.
    """
    sizes = [tree.num_tokens for tree in trees]
    rows = deal(sizes, num_rows, max_row_tokens)
    if rows is None:
        wanted = num_rows // rows_per_accumulation + 1
        while deal(sizes, wanted * rows_per_accumulation, max_row_tokens) is None:
            wanted += 1  # ends: with a row for each tree they fit
        raise ValueError(
            f"the step's {sum(sizes)} tokens in {len(trees)} trees do not fit into {num_rows} rows of "
            f"packing.max_row_tokens {max_row_tokens}; accumulation {wanted} would fit "
            f"(now {num_rows // rows_per_accumulation}), or raise max_row_tokens, or take fewer "
            f"conversations per step"
        )
    # the longest first, so that the rows of one pass are about as long
    return [[trees[i] for i in row] for row in even_out(sizes, rows, max_row_tokens)]


def plan_step(
    samples: Sequence["TokenizedSample"],
    config: PackingConfig,
    *,
    accumulation: int,
    rows_per_accumulation: int,
    pad_token_id: int,
) -> StepPlan:
    """The rows of one step. `rows_per_accumulation` counts the rows of all ranks in one pass.

    One rank that accumulates 4 passes and two ranks that accumulate 2 get the same rows. Every row holds a
    tree, a filler where samples run out.

    Raises:
        ValueError: for an overlong sample (unless dropped by option) and for a step that does not fit.
    """
    trees: list[Tree] = []
    dropped: list[tuple[int, str]] = []
    for index, sample in enumerate(samples):
        try:
            trees += as_trees(sample, config.mode, max_row_tokens=config.max_row_tokens, sample_index=index)
        except OverlongSampleError as error:
            if config.overlong == "error":
                raise
            dropped.append((index, str(error)))
    rows = pack_rows(
        trees,
        accumulation * rows_per_accumulation,
        config.max_row_tokens,
        rows_per_accumulation=rows_per_accumulation,
    )
    full = [tuple(row) or (filler_tree(pad_token_id),) for row in rows]
    return StepPlan(
        passes=tuple(
            tuple(full[start : start + rows_per_accumulation])
            for start in range(0, len(full), rows_per_accumulation)
        ),
        num_targets=float(sum(len(tree.target_ids) * tree.weight for tree in trees)) or 1.0,
        dropped=tuple(dropped),
    )


def _lay_out(sample: "TokenizedSample", branches: Sequence["Branch"], sample_index: int) -> Tree:
    num_prefix = len(sample.prefix_ids)
    lengths = np.array([len(branch.ids) for branch in branches], dtype=np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths  # first token of each branch, counted from the end of the prefix
    total = int(lengths.sum())
    offsets = np.arange(total, dtype=np.int64)
    ids = np.fromiter(chain(sample.prefix_ids, *(b.ids for b in branches)), np.int64, num_prefix + total)
    supervised = np.flatnonzero(np.fromiter(chain(*(b.supervised for b in branches)), bool, total))
    is_start = np.zeros(total, dtype=bool)
    is_start[starts[lengths > 0]] = True
    states = np.where(is_start[supervised], num_prefix - 1, num_prefix + supervised - 1)
    if num_prefix == 0 and (states < 0).any():
        raise ValueError(
            f"sample {sample.id!r}: the first token of a branch without prefix is supervised, but no "
            f"state comes before it; begin the text with BOS or a question"
        )
    prefix = np.arange(num_prefix, dtype=np.int64)
    owners = np.repeat(np.arange(1, len(branches) + 1), lengths)
    return Tree(
        sample_id=sample.id,
        sample_index=sample_index,
        has_image=sample.num_images > 0,
        has_video=sample.has_video,
        ids=ids,
        positions=np.concatenate([prefix, num_prefix + offsets - np.repeat(starts, lengths)]),
        branch_ids=np.concatenate([np.zeros_like(prefix), owners]),
        target_states=states,
        target_ids=ids[num_prefix + supervised],
    )


def _describe_overlong(sample: "TokenizedSample", branch: int, limit: int) -> str:
    num_prefix, num_branch = len(sample.prefix_ids), len(sample.branches[branch].ids)
    return (
        f"sample {sample.id!r} is longer than a row: a prefix of {num_prefix} tokens and {num_branch} "
        f"in branch {branch} make {num_prefix + num_branch}, packing.max_row_tokens is {limit}; raise it, "
        f"shorten the text, or set packing.overlong to drop"
    )
