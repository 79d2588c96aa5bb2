import pytest

from locvlm.model.variants import variant
from locvlm.training.plan.data import Lengths
from locvlm.training.plan.shapes import shape_of
from locvlm.training.plan.steps import (
    Packing,
    best_division,
    conversation_tokens,
    divide,
    full_rows,
    rows_needed,
    step_load,
)

SHAPE = shape_of(variant("b"))  # 256 tokens an image
LENGTHS = Lengths(prefix_tokens=44, branches=4, branch_tokens=50, branch_targets=10)
PACKING = Packing(mode="shared_prefix", max_row_tokens=2048, attention="sdpa")
SEPARATE = Packing(mode="separate", max_row_tokens=2048, attention="sdpa")


def test_a_conversation_has_one_prefix_and_separate_branches_one_each():
    assert conversation_tokens(LENGTHS, SHAPE, "shared_prefix") == 44 + 256 + 4 * 50
    assert conversation_tokens(LENGTHS, SHAPE, "separate") == 4 * (44 + 256 + 50)


def test_rows_hold_whole_conversations():
    # 500 tokens: four in 2048
    assert rows_needed(64, LENGTHS, SHAPE, PACKING) == 16
    assert rows_needed(65, LENGTHS, SHAPE, PACKING) == 17
    # 350 tokens: five in 2048
    assert rows_needed(64, LENGTHS, SHAPE, SEPARATE) == 52


def test_a_conversation_longer_than_a_row_is_cut_between_branches():
    long = Lengths(prefix_tokens=44, branches=100, branch_tokens=50, branch_targets=10)
    # 300 + 5000 tokens: three pieces of 300 + 1667
    assert rows_needed(10, long, SHAPE, PACKING) == 30
    with pytest.raises(ValueError, match=r"5300 tokens does not fit.*max_row_tokens 2048"):
        rows_needed(10, long, SHAPE, Packing(mode="multi_turn", max_row_tokens=2048, attention="sdpa"))


def test_the_load_of_a_step_is_that_of_its_conversations():
    load = step_load(64, 16, LENGTHS, SHAPE, PACKING)
    assert (load.rows, load.row_tokens, load.tokens) == (16, 2000, 32000)
    assert (load.images, load.targets, load.pairs) == (64, 2560, 16 * 2000**2)
    separate = step_load(64, 52, LENGTHS, SHAPE, SEPARATE)
    assert (separate.images, separate.targets) == (256, 2560)
    trees = step_load(
        64, 16, LENGTHS, SHAPE, Packing(mode="shared_prefix", max_row_tokens=2048, attention="tree")
    )
    assert trees.pairs == 64 * (300**2 + 4 * 50 * 350)


def test_full_rows_hold_more_than_those_of_a_step():
    load = full_rows(3, LENGTHS, SHAPE, PACKING)
    assert load.rows == 3
    assert load.row_tokens == pytest.approx(2048)
    assert load.images == pytest.approx(3 * 2048 / 500)


def test_rows_that_do_not_divide_name_the_nearest_that_do():
    division = divide(40, 8, 1)
    assert (division.passes, division.rows) == (5, 40)
    with pytest.raises(
        ValueError, match=r"40 rows a step do not divide by 16 ranks x 1.*32 and 48 rows, or 10 and 20"
    ):
        divide(40, 16, 1)
    with pytest.raises(
        ValueError, match=r"3 rows.*do not divide by 8 ranks.*the nearest that do: 8 rows, or 1 and 3 ranks"
    ):
        divide(3, 8, 1)


def test_the_best_division_takes_as_few_passes_as_memory_allows():
    assert best_division(40, 8, 4) == divide(48, 8, 3)  # five rows a rank: two passes of three
    assert best_division(40, 8, 64) == divide(40, 8, 5)
    assert best_division(3, 8, 2) == divide(8, 8, 1)
