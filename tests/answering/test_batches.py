"""Batches hold every prompt once and stay within their tokens."""

import random
from collections import Counter

import pytest

from locvlm.answering.batches import plan_batches, plan_rows
from locvlm.model.shared_prefix import PromptGroup


def group(*rests: int, prefix: int = 6) -> PromptGroup:
    """Prompts of `prefix` common tokens, and these many others."""
    prompts = tuple((*range(prefix), *[100 + k] * rest) for k, rest in enumerate(rests))
    return PromptGroup(pixel_values=None, prompts=prompts)


def size_of(batch, new_tokens: int) -> int:
    rows = [prompt for piece in batch for prompt in piece.prompts.prompts]
    prefix = max(piece.prompts.prefix_length for piece in batch)
    rest = max(len(p) - piece.prompts.prefix_length for piece in batch for p in piece.prompts.prompts)
    return len(rows) * (prefix + rest + new_tokens)


@pytest.mark.parametrize("max_tokens", [60, 200, 1000, 10**6])
def test_every_prompt_is_in_one_batch_and_batches_stay_within_their_tokens(max_tokens):
    rng = random.Random(max_tokens)
    groups = [
        group(*rng.choices(range(1, 20), k=rng.randint(0, 12)), prefix=rng.randint(1, 20)) for _ in range(40)
    ]
    batches = plan_batches(groups, max_tokens=max_tokens, new_tokens=7)
    found = Counter((piece.group, member) for batch in batches for piece in batch for member in piece.members)
    assert found == Counter((g, m) for g, one in enumerate(groups) for m in range(len(one.prompts)))
    for batch in batches:
        for piece in batch:
            whole = groups[piece.group].prompts
            assert piece.prompts.prompts == tuple(whole[member] for member in piece.members)
        assert size_of(batch, 7) <= max_tokens
    if max_tokens == 10**6:
        assert len(batches) == 1


def test_a_group_that_is_too_large_is_cut_evenly_by_length():
    [*batches] = plan_batches([group(5, 1, 4, 2, 3, prefix=10)], max_tokens=40, new_tokens=4)
    assert [[piece.members for piece in batch] for batch in batches] == [[(2, 0)], [(3, 4)], [(1,)]]


def test_a_prompt_that_is_too_long_is_a_batch_of_its_own():
    batches = plan_batches([group(50), group(1, prefix=1), group(1, 2)], max_tokens=30, new_tokens=1)
    assert [[(piece.group, piece.members) for piece in batch] for batch in batches] == [
        [(0, (0,))],
        [(2, (0, 1)), (1, (0,))],
    ]


def test_groups_of_similar_size_come_together():
    long, short = group(9, 9, prefix=90), group(2, 2, prefix=4)
    batches = plan_batches([long, short, long, short], max_tokens=420, new_tokens=1)
    assert [[piece.group for piece in batch] for batch in batches] == [[0, 2], [1, 3]]


def test_given_answers_stay_with_their_prompts():
    prompts = ((1, 2, 3, 4, 5), (1, 2, 3, 4, 6), (1, 2, 3, 4))
    one = PromptGroup(pixel_values=None, prompts=prompts, answer_starts=(4, 2, 3))
    batches = plan_batches([one], max_tokens=5, new_tokens=0)
    pieces = [piece for batch in batches for piece in batch]
    starts = {piece.members: piece.prompts.answer_starts for piece in pieces}
    assert starts == {(2,): (3,), (0,): (4,), (1,): (2,)}
    assert {piece.members: piece.prefix for piece in pieces} == {(2,): 2, (0,): 3, (1,): 1}


def test_rows_of_similar_length_come_together_as_many_as_fit():
    assert plan_rows([5, 9, 4, 10, 9], max_tokens=20) == [[3, 1], [4, 0], [2]]
    assert plan_rows([5, 9, 4, 10, 9], max_tokens=1000) == [[3, 1, 4, 0, 2]]
    assert plan_rows([5, 30], max_tokens=20) == [[1], [0]]  # the longest alone, though it does not fit
    assert plan_rows([], max_tokens=20) == []
