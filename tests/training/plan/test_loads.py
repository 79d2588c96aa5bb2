import pytest
import torch

from locvlm.constants import NO_SAMPLE
from locvlm.training.plan.flops import tree_pairs
from locvlm.training.plan.loads import add_loads, count_tree_pairs, executed_load, useful_load
from locvlm.training.plan.shapes import Scope

# a row of two trees, prefix 2 with branches of 2 and 1, prefix 1 with a branch of 1; a row of one, padded
SAMPLE_IDS = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, NO_SAMPLE] + [NO_SAMPLE] * 4])
BRANCH_IDS = torch.tensor([[0, 0, 1, 1, 2, 0, 1, 1], [0, 1, 1, 0, 0, 0, 0, 0]])


def test_pairs_of_a_tree_are_its_prefix_squared_and_each_branch_with_prefix_and_itself():
    first = 2 * 2 + 2 * (2 + 2) + 1 * (2 + 1)
    second = 1 * 1 + 2 * (1 + 2)
    assert count_tree_pairs(SAMPLE_IDS, BRANCH_IDS) == first + second + (1 * 1 + 2 * (1 + 2))


def test_branches_without_a_prefix_see_themselves():
    assert count_tree_pairs(torch.zeros(1, 3, dtype=torch.int32), torch.tensor([[1, 1, 2]])) == 2 * 2 + 1


def test_equal_trees_count_as_the_planner_counts_them(small_case):
    case = small_case(Scope(stage="stage2"), attention="tree")
    executed = executed_load(case.batch, "tree")
    assert executed == case.load
    assert executed.pairs == tree_pairs(8, 4 + 25, 3, 12)


def test_useful_is_what_is_no_padding():
    batch = {
        "sample_ids": SAMPLE_IDS,
        "branch_ids": BRANCH_IDS,
        "target_ids": torch.zeros(3),
        "target_weights": torch.tensor([1.0, 1.0, 0.0]),
    }
    useful, executed = useful_load(batch), executed_load(batch, "sdpa")
    assert (useful.tokens, executed.tokens) == (11, 16)
    assert (useful.targets, executed.targets) == (2, 3)
    assert (useful.images, executed.pairs) == (0, 2 * 8**2)
    together = add_loads([useful, executed])
    assert together.tokens == pytest.approx(27)
    assert together.rows == 4
