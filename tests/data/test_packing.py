import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.packing import (
    OverlongSampleError,
    PackingConfig,
    as_trees,
    filler_tree,
    merge_branches,
    pack_rows,
    plan_step,
)
from locvlm.data.tokenize import Branch, TokenizedSample
from locvlm.records import Sample, Turn

PAD = 0


def branch(ids, supervised_from=0):
    return Branch(ids=list(ids), supervised=tuple(i >= supervised_from for i in range(len(ids))))


def sample(name="s", prefix=(1, 9, 9), branches=((20, 21, 22), (30, 31)), supervised_from=1, num_images=1):
    return TokenizedSample(
        id=name,
        prefix_ids=list(prefix),
        branches=tuple(branch(ids, supervised_from) for ids in branches),
        num_images=num_images,
    )


def random_samples(count, seed=0):
    rng = random.Random(seed)
    return [
        sample(
            name=f"s{i}",
            prefix=range(1, rng.randint(2, 20)),
            branches=[
                [100 + rng.randint(0, 9) for _ in range(rng.randint(2, 12))] for _ in range(rng.randint(1, 4))
            ],
        )
        for i in range(count)
    ]


def plan(samples, *, world_size=1, accumulation=1, rows_per_pass=1, **config):
    return plan_step(
        samples,
        PackingConfig(**config),
        accumulation=accumulation,
        rows_per_accumulation=world_size * rows_per_pass,
        pad_token_id=PAD,
    )


def targets(tree):
    return list(zip(tree.target_states.tolist(), tree.target_ids.tolist(), strict=True))


def test_every_branch_continues_from_the_prefix_and_is_predicted_from_its_last_state():
    (tree,) = as_trees(sample(supervised_from=0), "shared_prefix")
    assert tree.ids.tolist() == [1, 9, 9, 20, 21, 22, 30, 31]
    assert tree.branch_ids.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert tree.positions.tolist() == [0, 1, 2, 3, 4, 5, 3, 4]
    assert targets(tree) == [(2, 20), (3, 21), (4, 22), (2, 30), (6, 31)]


def test_plain_captions_of_one_token_all_hang_on_the_one_prefix_state():
    (tree,) = as_trees(sample(branches=[[40], [41], [42]], supervised_from=0), "shared_prefix")
    assert targets(tree) == [(2, 40), (2, 41), (2, 42)]


def test_only_supervised_tokens_are_targets():
    (tree,) = as_trees(sample(supervised_from=1), "shared_prefix")
    assert targets(tree) == [(3, 21), (4, 22), (6, 31)]


def test_separate_gives_each_branch_its_own_prefix_and_image():
    trees = as_trees(sample(supervised_from=0), "separate", sample_index=7)
    assert [tree.ids.tolist() for tree in trees] == [[1, 9, 9, 20, 21, 22], [1, 9, 9, 30, 31]]
    assert [(tree.has_image, tree.sample_index) for tree in trees] == [(True, 7)] * 2
    assert targets(trees[1]) == [(2, 30), (3, 31)]


def test_multi_turn_joins_the_branches_into_one_dialogue():
    turns = [Turn(question=f"q{i}", answer=f"a{i}") for i in range(3)]
    given = Sample(id="x", image="a.jpg", branches=((turns[0],), (turns[1], turns[2])))
    assert merge_branches(given, "multi_turn").branches == (tuple(turns),)
    assert merge_branches(given, "shared_prefix") is given


def test_text_only_without_prefix_needs_an_unsupervised_first_token():
    (tree,) = as_trees(sample(prefix=(), num_images=0, supervised_from=1), "shared_prefix")
    assert tree.positions.tolist() == [0, 1, 2, 0, 1]
    assert targets(tree) == [(0, 21), (1, 22), (3, 31)]
    with pytest.raises(ValueError, match="no state comes before it"):
        as_trees(sample(prefix=(), num_images=0, supervised_from=0), "shared_prefix")


def test_a_sample_without_supervised_tokens_is_refused_by_name():
    with pytest.raises(ValueError, match=r"sample 's': no token is supervised"):
        as_trees(sample(supervised_from=99), "shared_prefix")


def test_branches_that_exceed_a_row_are_split_whole_with_a_copy_of_the_prefix():
    given = sample(branches=[[20, 21], [30, 31], [40, 41], [50, 51]], supervised_from=0)
    trees = as_trees(given, "shared_prefix", max_row_tokens=7)
    assert [tree.ids.tolist() for tree in trees] == [[1, 9, 9, 20, 21, 30, 31], [1, 9, 9, 40, 41, 50, 51]]
    whole = as_trees(given, "shared_prefix")
    assert sum(len(tree.target_ids) for tree in trees) == len(whole[0].target_ids)


def test_a_sample_that_no_row_holds_is_an_error_naming_it():
    with pytest.raises(OverlongSampleError) as error:
        as_trees(sample(name="coco/9"), "shared_prefix", max_row_tokens=5)
    for part in ("'coco/9'", "prefix of 3", "3 in branch 0", "make 6", "max_row_tokens is 5"):
        assert part in str(error.value)


def test_overlong_samples_are_dropped_and_reported_if_asked():
    samples = [sample(name="long", branches=[range(20, 40)]), sample(name="short")]
    with pytest.raises(ValueError, match="'long'"):
        plan(samples, max_row_tokens=10)
    result = plan(samples, max_row_tokens=10, overlong="drop")
    assert [(index, "'long'" in why) for index, why in result.dropped] == [(0, True)]
    assert {tree.sample_id for rows in result.passes for row in rows for tree in row} == {"short"}
    assert result.num_targets == 3


def test_rows_are_balanced_and_hold_every_tree_once():
    trees = [tree for s in random_samples(200) for tree in as_trees(s, "shared_prefix")]
    rows = pack_rows(trees, 16, 10_000)
    sizes = [sum(tree.num_tokens for tree in row) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 0.05 * max(sizes)
    assert sorted(id(tree) for row in rows for tree in row) == sorted(id(tree) for tree in trees)


def test_rows_fill_up_to_the_limit_where_balancing_alone_would_overflow():
    for sizes in ([6, 6, 4, 4, 4], [5, 5, 4, 4, 3, 3]):  # the first balances to 6 4 4 and 6 4: 14 of 12
        trees = [
            as_trees(sample(prefix=(1,), branches=[range(20, 19 + size)]), "separate")[0] for size in sizes
        ]
        rows = pack_rows(trees, 2, 12)
        assert all(sum(tree.num_tokens for tree in row) <= 12 for row in rows), sizes


def test_a_step_that_does_not_fit_says_which_accumulation_would():
    samples = [sample(name=f"s{i}") for i in range(12)]  # 8 tokens each, 2 to a row of 20
    with pytest.raises(ValueError, match=r"96 tokens in 12 trees .* accumulation 3 would fit \(now 2\)"):
        plan(samples, world_size=2, accumulation=2, max_row_tokens=20)
    plan(samples, world_size=2, accumulation=3, max_row_tokens=20)


def test_one_rank_of_four_passes_and_two_ranks_of_two_get_the_same_rows():
    def rows_as_text(result, world_size):
        return sorted(
            str([tree.ids.tolist() for tree in row])
            for rank in range(world_size)
            for rows in result.rows_of(rank, rows_per_pass=2)
            for row in rows
        )

    samples = random_samples(30)
    one = plan(samples, accumulation=4, rows_per_pass=2)
    two = plan(samples, world_size=2, accumulation=2, rows_per_pass=2)
    assert one.num_targets == two.num_targets == sum(sum(b.supervised) for s in samples for b in s.branches)
    assert len(rows_as_text(one, 1)) == 8
    assert rows_as_text(one, 1) == rows_as_text(two, 2)


@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), rows_per_pass=st.sampled_from([1, 2]))
def test_rows_are_the_same_for_any_number_of_ranks(seed, count, rows_per_pass):
    samples = random_samples(count, seed)
    found = set()
    for world_size, accumulation in ((1, 12), (2, 6), (3, 4), (6, 2), (12, 1)):
        step = plan(samples, world_size=world_size, accumulation=accumulation, rows_per_pass=rows_per_pass)
        rows = [row for rank in range(world_size) for own in step.rows_of(rank, rows_per_pass) for row in own]
        found.add(str(sorted(str([tree.ids.tolist() for tree in row]) for row in rows)))
        assert sorted({tree.sample_index for row in rows for tree in row} - {-1}) == list(range(count))
    assert len(found) == 1


def test_rows_without_samples_hold_a_filler_of_no_weight():
    result = plan([sample()], accumulation=3)
    filler = result.passes[2][0][0]
    assert filler.weight == 0.0
    assert not filler.has_image
    assert len(filler.target_ids) == 1
    assert result.num_targets == 3


def test_a_step_of_dropped_samples_only_still_divides_by_something():
    result = plan([sample()], max_row_tokens=4, overlong="drop")
    assert result.num_targets == 1.0


def test_packing_does_not_touch_its_input():
    samples = random_samples(5)
    before = repr(samples)
    plan(samples, accumulation=2)
    assert repr(samples) == before


def test_a_filler_is_two_tokens_with_a_prefix_and_a_branch():
    tree = filler_tree(PAD)
    np.testing.assert_array_equal(tree.branch_ids, [0, 1])
    assert targets(tree) == [(0, PAD)]


def test_a_row_too_short_for_anything_is_refused():
    with pytest.raises(ValueError, match="max_row_tokens"):
        PackingConfig(max_row_tokens=1)
