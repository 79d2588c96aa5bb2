"""How much of the rows that ranks compute is tokens: ours, and one conversation a row, padded to the longest.

A micro-batch is a rectangle, its longest row times its number of rows, so that all but the longest pay for
what they lack. And ranks wait: a pass takes as long as its largest rectangle.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from locvlm.data.packing import PackingConfig, Tree, as_trees, plan_step
from locvlm.data.tokenize import TokenizedSample

LENGTH_MULTIPLE = 8  # to which rows are rounded up: `data/collate.py`
BATCHES_SORTED = 50  # in transformers' sampler, that are drawn together and sorted

Rows = Sequence[Sequence[Tree]]  # of a micro-batch
Step = Sequence[Sequence[Rows]]  # [pass][rank] -> rows


@dataclass(frozen=True)
class Fill:
    """Shares of what was computed that were tokens."""

    of_rows: float  # of the ranks' own rectangles
    while_waiting: float  # of what fits into the time, ranks waiting for each other in every pass


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a run divides its steps."""

    conversations: int  # of a step
    ranks: int
    accumulation: int  # passes of a row on each rank
    row_tokens: int

    @property
    def padded_batch(self) -> int:
        """Conversations of a rank, in one pass, of the ways that pad."""
        return self.conversations // self.ranks


def measure_fill(steps: Sequence[Step]) -> Fill:
    """Over all steps."""
    tokens, slots, waited = count_tokens(steps), 0, 0
    for step in steps:
        for ranks in step:
            rectangles = [_rectangle(rows) for rows in ranks]
            slots += sum(rectangles)
            waited += len(rectangles) * max(rectangles)
    return Fill(of_rows=tokens / slots, while_waiting=tokens / waited)


def count_tokens(steps: Sequence[Step]) -> int:
    """Of all conversations, padding not counted."""
    rows = (row for step in steps for ranks in step for rows in ranks for row in rows)
    return sum(tree.num_tokens for row in rows for tree in row if tree.weight)


def _rectangle(rows: Rows) -> int:
    longest = max(sum(tree.num_tokens for tree in row) for row in rows)
    return len(rows) * -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


# ---- ways: conversations of many steps -> steps


def filled(samples: Sequence[TokenizedSample], setting: Setting) -> list[Step]:
    """Ours: whole conversations dealt to rows.

    Raises:
        ValueError: if a step does not fit.
    """
    config = PackingConfig(max_row_tokens=setting.row_tokens)
    steps: list[Step] = []
    for drawn in _in_steps(samples, setting.conversations):
        plan = plan_step(
            drawn,
            config,
            accumulation=setting.accumulation,
            rows_per_accumulation=setting.ranks,
            pad_token_id=0,
        )
        steps.append([[(row,) for row in ranks] for ranks in plan.passes])
    return steps


def drawn_at_random(samples: Sequence[TokenizedSample], setting: Setting) -> list[Step]:
    """Padded, in the order in which they come."""
    return [_padded(drawn, setting) for drawn in _in_steps(samples, setting.conversations)]


def grouped_as_llava(samples: Sequence[TokenizedSample], setting: Setting) -> list[Step]:
    """Padded; LLaVA's --group_by_modality_length: ranks get about the same sum of lengths, in every step.

    The longest first, each to the batch with the fewest tokens that still has a place.
    """
    steps = []
    for drawn in _in_steps(samples, setting.conversations):
        batches: list[list[TokenizedSample]] = [[] for _ in range(setting.ranks)]
        for sample in sorted(drawn, key=_length, reverse=True):
            open_ones = [batch for batch in batches if len(batch) < setting.padded_batch]
            min(open_ones, key=lambda batch: sum(map(_length, batch))).append(sample)
        steps.append(_padded([sample for batch in batches for sample in batch], setting))
    return steps


def grouped_as_transformers(samples: Sequence[TokenizedSample], setting: Setting) -> list[Step]:
    """Padded; the Trainer's group_by_length: fifty batches of one rank are drawn together and sorted.

    So the conversations of a batch are about equally long, and those of a step no longer drawn at random.
    """
    together = BATCHES_SORTED * setting.padded_batch
    ordered = [
        sample
        for start in range(0, len(samples), together)
        for sample in sorted(samples[start : start + together], key=_length, reverse=True)
    ]
    return [_padded(drawn, setting) for drawn in _in_steps(ordered, setting.conversations)]


OURS = "rows filled (ours)"
LLAVA = "padded, grouped as LLaVA"
WAYS: Mapping[str, Callable[[Sequence[TokenizedSample], Setting], list[Step]]] = {
    OURS: filled,
    LLAVA: grouped_as_llava,
    "padded, grouped as transformers": grouped_as_transformers,
    "padded, at random": drawn_at_random,
}


def draw(samples: Sequence[TokenizedSample], number: int, *, seed: int = 0) -> list[TokenizedSample]:
    """In random order, again and again until there are so many."""
    rng, drawn = random.Random(seed), list[TokenizedSample]()
    while len(drawn) < number:
        drawn += rng.sample(samples, len(samples))
    return drawn[:number]


def _in_steps(samples: Sequence[TokenizedSample], conversations: int) -> Iterator[Sequence[TokenizedSample]]:
    for start in range(0, len(samples) - conversations + 1, conversations):
        yield samples[start : start + conversations]


def _padded(drawn: Sequence[TokenizedSample], setting: Setting) -> Step:
    """One conversation a row; `drawn` batch by batch, those of all ranks in a pass one after the other."""
    size = setting.padded_batch
    trees = [as_trees(sample, "shared_prefix") for sample in drawn]
    batches = [trees[start : start + size] for start in range(0, len(trees), size)]
    return [batches[start : start + setting.ranks] for start in range(0, len(batches), setting.ranks)]


def _length(sample: TokenizedSample) -> int:
    return len(sample.prefix_ids) + sum(len(branch.ids) for branch in sample.branches)
