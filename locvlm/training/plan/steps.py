"""A step as load: how many rows it needs, what they hold, and how it is divided over ranks and passes."""

import math
from dataclasses import dataclass

from locvlm.data.packing import Mode
from locvlm.training.plan.data import Lengths
from locvlm.training.plan.flops import Load, dense_pairs, tree_pairs
from locvlm.training.plan.memory import Attention
from locvlm.training.plan.shapes import ModelShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How conversations lie in rows."""

    mode: Mode
    max_row_tokens: int
    attention: Attention


@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """Rows of a step: ranks x passes x rows in a pass."""

    ranks: int
    passes: int  # gradient_accumulation_steps
    rows_per_pass: int  # per_device_train_batch_size

    @property
    def rows(self) -> int:
        """Of all ranks and passes."""
        return self.ranks * self.passes * self.rows_per_pass


def prefix_tokens(lengths: Lengths, shape: ModelShape) -> float:
    """What the branches of a conversation share: text, then the image or video."""
    shown = lengths.image_fraction * shape.image_tokens + lengths.video_fraction * shape.video_tokens
    return lengths.prefix_tokens + shown


def conversation_tokens(lengths: Lengths, shape: ModelShape, mode: Mode) -> float:
    """Tokens that a conversation takes in rows; `separate` repeats the prefix for every branch."""
    copies = lengths.branches if mode == "separate" else 1.0
    return copies * prefix_tokens(lengths, shape) + lengths.branches * lengths.branch_tokens


def rows_needed(conversations: float, lengths: Lengths, shape: ModelShape, packing: Packing) -> int:
    """Rows that hold so many mean conversations, each whole (or, where it is longer than a row, cut between
    branches, with its prefix repeated)."""
    limit = packing.max_row_tokens
    if packing.mode == "separate":
        trees, size = conversations * lengths.branches, prefix_tokens(lengths, shape) + lengths.branch_tokens
    else:
        trees, size = conversations, conversation_tokens(lengths, shape, packing.mode)
    if size > limit and packing.mode == "shared_prefix":
        room = limit - prefix_tokens(lengths, shape)
        pieces = math.ceil(lengths.branches * lengths.branch_tokens / room) if room > 0 else 0
        trees, size = trees * pieces, size / max(pieces, 1) if pieces else size
    if size > limit:
        raise ValueError(
            f"a conversation of {size:.0f} tokens does not fit into a row of packing.max_row_tokens {limit}; "
            f"raise it, or state shorter lengths"
        )
    return math.ceil(trees / math.floor(limit / size))


def step_load(
    conversations: float, rows: float, lengths: Lengths, shape: ModelShape, packing: Packing
) -> Load:
    """The load of `rows` rows among which conversations are dealt evenly."""
    tokens = conversations * conversation_tokens(lengths, shape, packing.mode)
    row_tokens = tokens / rows
    is_separate = packing.mode == "separate"
    copies = lengths.branches if is_separate else 1.0
    if packing.attention in ("tree", "flex_attention"):  # flex computes whole blocks of 128 x 128, some more
        branches = 1.0 if is_separate else lengths.branches
        trees = conversations * copies
        pairs = tree_pairs(trees, prefix_tokens(lengths, shape), branches, lengths.branch_tokens)
    else:
        pairs = dense_pairs(rows, row_tokens)
    return Load(
        rows=rows,
        row_tokens=row_tokens,
        images=conversations * copies * lengths.image_fraction,
        videos=conversations * copies * lengths.video_fraction,
        frames=conversations * copies * lengths.video_fraction * shape.num_frames,
        targets=conversations * lengths.branches * lengths.branch_targets,
        pairs=pairs,
    )


def full_rows(rows: int, lengths: Lengths, shape: ModelShape, packing: Packing) -> Load:
    """The load of `rows` rows that are full: what memory has to hold."""
    per_row = packing.max_row_tokens / conversation_tokens(lengths, shape, packing.mode)
    return step_load(rows * per_row, rows, lengths, shape, packing)


def divide(rows: int, ranks: int, rows_per_pass: int) -> Division:
    """So many rows, dealt to ranks in passes.

    Raises:
        ValueError: if they do not divide, naming the nearest numbers of rows and of ranks that do.
    """
    once = ranks * rows_per_pass
    passes, rest = divmod(rows, once)
    if passes and not rest:
        return Division(ranks=ranks, passes=passes, rows_per_pass=rows_per_pass)
    near_rows = sorted({max(passes, 1) * once, (passes + 1) * once})
    fitting = [n for n in range(1, rows // rows_per_pass + 1) if rows % (n * rows_per_pass) == 0]
    near_ranks = sorted(sorted(fitting, key=lambda n: abs(n - ranks))[:2])
    raise ValueError(
        f"{rows} rows a step do not divide by {ranks} ranks x {rows_per_pass} rows in a pass; the nearest "
        f"that do: {_listed(near_rows)} rows" + (f", or {_listed(near_ranks)} ranks" if near_ranks else "")
    )


def best_division(rows: int, ranks: int, largest_pass: int) -> Division:
    """At least `rows` rows in as few passes as `largest_pass` rows allow, hardly any of them empty."""
    per_rank = math.ceil(rows / ranks)
    passes = math.ceil(per_rank / max(largest_pass, 1))
    return Division(ranks=ranks, passes=passes, rows_per_pass=math.ceil(per_rank / passes))


def _listed(numbers: list[int]) -> str:
    return " and ".join(str(number) for number in numbers)
