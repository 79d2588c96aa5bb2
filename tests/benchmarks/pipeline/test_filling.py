import pytest

from locvlm.benchmarks.pipeline.filling import (
    LLAVA,
    OURS,
    WAYS,
    Setting,
    draw,
    grouped_as_llava,
    grouped_as_transformers,
    measure_fill,
)
from locvlm.data.packing import as_trees
from locvlm.data.tokenize import Branch, TokenizedSample

SETTING = Setting(conversations=8, ranks=2, accumulation=3, row_tokens=300)


def sample(length, name="s"):
    branch = Branch(ids=[5] * (length - 1), supervised=(False,) + (True,) * (length - 2))
    return TokenizedSample(id=name, prefix_ids=[1], branches=(branch,), num_images=0)


def tree(length):
    return as_trees(sample(length), "shared_prefix")[0]


def lengths(step):
    return [[[sum(t.num_tokens for t in row) for row in rows] for rows in ranks] for ranks in step]


def test_a_rectangle_counts_whole_and_ranks_wait_for_the_largest():
    ranks = [[[tree(16)], [tree(8)]], [[tree(40)], [tree(30), tree(10)]]]  # rectangles of 32 and 80
    fill = measure_fill([[ranks]])
    assert fill.of_rows == pytest.approx(104 / 112)
    assert fill.while_waiting == pytest.approx(104 / 160)


def test_rows_are_rounded_up_as_batches_are():
    assert measure_fill([[[[[tree(17)]]]]]).of_rows == pytest.approx(17 / 24)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_computes_every_conversation_once(way):
    samples = [sample(20 + 7 * number % 90, str(number)) for number in range(32)]
    steps = WAYS[way](samples, SETTING)
    names = [t.sample_id for step in steps for ranks in step for rows in ranks for row in rows for t in row]
    assert sorted(name for name in names if name) == sorted(s.id for s in samples)
    assert [len(step) for step in steps] == [3 if way == OURS else 1] * 4
    assert all(len(ranks) == 2 for step in steps for ranks in step)


def test_llava_gives_ranks_the_same_sum_and_lets_them_pad():
    step = grouped_as_llava([sample(length) for length in (90, 80, 70, 60, 50, 40, 30, 20)], SETTING)[0]
    assert [sum(rows) for ranks in lengths(step) for rows in ranks] == [220, 220]
    assert lengths(step)[0] == [[90, 60, 50, 20], [80, 70, 40, 30]]


def test_transformers_puts_the_longest_of_fifty_batches_together():
    drawn = draw([sample(length) for length in range(10, 90)], 400)
    first, *_, last = grouped_as_transformers(drawn, SETTING)
    assert min(min(rows) for ranks in lengths(first) for rows in ranks) > 80
    assert measure_fill([first]).of_rows > measure_fill(WAYS[LLAVA](drawn, SETTING)).of_rows
    assert max(max(rows) for ranks in lengths(last) for rows in ranks) < 90


def test_draws_begin_again_when_all_were_drawn():
    samples = [sample(10, name) for name in "abc"]
    drawn = draw(samples, 7)
    assert len(drawn) == 7
    assert sorted(s.id for s in drawn[:3]) == sorted(s.id for s in drawn[3:6]) == ["a", "b", "c"]
    assert drawn == draw(samples, 7)
