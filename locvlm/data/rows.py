"""Which trees share a row, by their lengths alone: every row within the limit, rows about equally long.

Rows run side by side, one or a few on each rank, and ranks wait for the longest. A step has few trees a row,
so no deal makes all of its rows equal; but only rows of the same pass wait for each other. So rows are evened
out in blocks of eight neighbours by length, as many as a node has GPUs, whatever the number of ranks is: a
step's rows do not depend on it.
"""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # rows that are made equal
CLOSE = 8  # tokens: batches are rounded up to as many
TRIES = 8  # rows, farthest from their block's mean, that may start an exchange; more would gain little

IntArray = NDArray[np.int64]


def deal(sizes: Sequence[int], num_rows: int, limit: int) -> list[list[int]] | None:
    """Which trees (by index) each row holds; None if no way was found to keep each row's sum to `limit`.

    The longest first, each to the emptiest row, ties to the first; or, where that overflows a row, each to
    the fullest row that can still take it. Rows may stay empty.
    """
    longest_first = sorted(range(len(sizes)), key=lambda i: -sizes[i])  # stable: ties keep their order
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    fill = [(0, row) for row in range(num_rows)]  # (tokens, row), a heap
    for i in longest_first:
        tokens, row = heapq.heappop(fill)
        rows[row].append(i)
        heapq.heappush(fill, (tokens + sizes[i], row))
    if max(tokens for tokens, _ in fill) <= limit:
        return rows

    rows, free = [[] for _ in range(num_rows)], [limit] * num_rows
    for i in longest_first:
        fitting = [row for row in range(num_rows) if free[row] >= sizes[i]]
        if not fitting:
            return None
        row = min(fitting, key=lambda r: free[r])
        rows[row].append(i)
        free[row] -= sizes[i]
    return rows


def even_out(sizes: Sequence[int], rows: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
    """The same trees in rows that are more alike within blocks of eight, the longest row first.

    Trees of two rows change places, or one moves, as long as that brings rows closer to the mean of their
    block, the row that is farthest from it first. Integers only, so that all machines agree.
    """
    # each row ends with a tree of nothing, so that a move is an exchange, too
    lengths = np.array([*sizes, *(0 for _ in rows)], dtype=np.int64)  # (N + R,)
    owner = np.empty(len(lengths), dtype=np.int64)
    for number, row in enumerate(rows):
        owner[[*row, len(sizes) + number]] = number
    totals = np.array([sum(sizes[i] for i in row) for row in rows], dtype=np.int64)  # (R,)
    for _ in range(4 * len(lengths)):  # ends long before; rounded means forbid to promise it
        excess = _excess(totals)
        swap = None
        for row in np.argsort(-np.abs(excess), kind="stable")[:TRIES]:
            if abs(excess[row]) <= CLOSE // 2:
                break
            swap = _best_swap(int(row), lengths, owner, totals, excess, limit)
            if swap is not None:
                break
        if swap is None:
            break
        here, there = swap
        gain = lengths[there] - lengths[here]
        totals[owner[here]] += gain
        totals[owner[there]] -= gain
        owner[here], owner[there] = owner[there], owner[here]
    evened = [np.flatnonzero(owner[: len(sizes)] == row).tolist() for row in range(len(rows))]
    return [evened[row] for row in np.argsort(-totals, kind="stable")]


def _excess(totals: IntArray) -> IntArray:
    """What each row has more than the mean of its block, (R,)."""
    excess = np.empty_like(totals)
    order = np.argsort(-totals, kind="stable")
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        excess[block] = totals[block] - totals[block].sum() // len(block)
    return excess


def _best_swap(
    row: int, lengths: IntArray, owner: IntArray, totals: IntArray, excess: IntArray, limit: int
) -> tuple[int, int] | None:
    """A tree of this row and one of another to change places with; None if that makes nothing better."""
    own = np.flatnonzero(owner == row)
    gain = lengths[None, :] - lengths[own][:, None]  # (trees of the row, N + R) tokens that this row gets
    change = 2 * gain * (excess[row] - excess[owner] + gain)  # of the squares of the two rows' excesses
    change[(totals[row] + gain > limit) | (totals[owner] - gain > limit) | (owner == row)] = 0
    best = int(np.argmin(change))
    return None if change.flat[best] >= 0 else (int(own[best // len(lengths)]), best % len(lengths))
