from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.rows import BLOCK, deal, even_out

LIMIT = 2048


def totals(sizes, rows):
    return [sum(sizes[i] for i in row) for row in rows]


def waited_fraction(sizes, rows):
    """Of what blocks of rows take when each waits for its longest, what is no tree."""
    lengths = sorted(totals(sizes, rows), reverse=True)
    blocks = [lengths[start : start + BLOCK] for start in range(0, len(lengths), BLOCK)]
    return 1 - sum(lengths) / sum(len(block) * block[0] for block in blocks)


steps = st.tuples(st.lists(st.integers(2, 900), min_size=1, max_size=60), st.integers(1, 40))


@given(steps)
def test_evened_rows_hold_every_tree_once_and_keep_to_the_limit(step):
    sizes, num_rows = step
    rows = deal(sizes, num_rows, LIMIT)
    if rows is None:
        assert sum(sizes) > LIMIT * num_rows / 2  # two rows half empty could always take one more
        return
    evened = even_out(sizes, rows, LIMIT)
    assert len(evened) == num_rows
    assert sorted(i for row in evened for i in row) == list(range(len(sizes)))
    lengths = totals(sizes, evened)
    assert max(lengths) <= LIMIT
    assert all(a >= b for a, b in pairwise(lengths))


@given(steps)
def test_rows_are_the_same_every_time(step):
    sizes, num_rows = step
    rows = deal(sizes, num_rows, LIMIT)
    if rows is not None:
        assert even_out(sizes, rows, LIMIT) == even_out(sizes, deal(sizes, num_rows, LIMIT), LIMIT)


@pytest.mark.parametrize(("num_trees", "num_rows"), [(64, 24), (64, 32), (64, 40), (256, 40)])
def test_ranks_wait_less_for_the_longest_row_of_a_pass(num_trees, num_rows):
    before, after = [], []
    for seed in range(20):
        sizes = np.random.default_rng(seed).integers(400, 1000, num_trees).tolist()
        rows = deal(sizes, num_rows, 8192)
        before.append(waited_fraction(sizes, rows))
        after.append(waited_fraction(sizes, even_out(sizes, rows, 8192)))
    assert np.mean(after) < np.mean(before)


def test_rows_of_a_block_that_can_be_equal_become_equal():
    # the longest to the emptiest row gives 5 + 3 + 3 and 4 + 4: 11 and 8 (tens of tokens)
    sizes = [50, 40, 40, 30, 30]
    rows = deal(sizes, 2, LIMIT)
    assert sorted(totals(sizes, rows)) == [80, 110]
    assert sorted(totals(sizes, even_out(sizes, rows, LIMIT))) == [90, 100]


def test_a_tree_moves_alone_where_that_is_better():
    sizes = [100, 100, 100, 300]
    assert totals(sizes, even_out(sizes, [[0, 1, 2, 3], []], LIMIT)) == [300, 300]


def test_an_exchange_that_would_break_the_limit_is_not_made():
    sizes = [60, 20, 50, 28]
    assert totals(sizes, even_out(sizes, [[0, 1], [2, 3]], 80)) == [80, 78]


def test_rows_that_nothing_falls_to_stay_empty():
    assert even_out([30, 20], [[1], [], [0]], LIMIT) == [[0], [1], []]
    assert even_out([], [[], []], LIMIT) == [[], []]
