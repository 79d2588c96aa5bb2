from collections import Counter
from itertools import islice

import pytest

from locvlm.data.mixture import Draw, Mixture, Source


def source(name, **values):
    return Source(name=name, path=f"{name}.jsonl", **values)


def stream(mixture, first_step=0):
    step = first_step
    while True:
        yield from mixture.step(step)
        step += 1


def draws(mixture, count):
    return list(islice(stream(mixture), count))


def test_one_source_comes_exactly_once_per_epoch_in_a_new_order():
    mixture = Mixture([source("a")], [10], seed=0, conversations_per_step=4)
    order = draws(mixture, 20)
    first, second = [d.item for d in order[:10]], [d.item for d in order[10:]]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert [d.epoch for d in order] == [0] * 10 + [1] * 10


def test_the_order_depends_on_the_seed_and_nothing_else():
    def order(seed):
        return draws(Mixture([source("a")], [50], seed=seed, conversations_per_step=7), 50)

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_any_step_can_be_read_without_the_ones_before():
    sources = [source("a"), source("b", weight=0.5)]
    read = Mixture(sources, [30, 21], seed=3, conversations_per_step=8)
    expected = [read.step(step) for step in range(40)]
    for step in (39, 0, 17, 5):
        assert Mixture(sources, [30, 21], seed=3, conversations_per_step=8).step(step) == expected[step]


def test_weights_count_passes_per_epoch():
    mixture = Mixture(
        [source("once"), source("half", weight=0.5), source("twice", weight=2.0)],
        [10, 8, 3],
        seed=0,
        conversations_per_step=5,
    )
    assert mixture.epoch_draws == 10 + 4 + 6
    epochs = [draws(mixture, 40)[:20], draws(mixture, 40)[20:]]
    for epoch in epochs:
        assert Counter(d.source for d in epoch) == {0: 10, 1: 4, 2: 6}
        assert sorted(d.item for d in epoch if d.source == 2) == [0, 0, 1, 1, 2, 2]
    halves = [{d.item for d in epoch if d.source == 1} for epoch in epochs]
    assert halves[0] | halves[1] == set(range(8))
    assert [d.epoch for d in epochs[0] if d.source == 2] == [
        0,
        0,
        0,
        1,
        1,
        1,
    ]  # wording differs between passes


def test_every_step_has_about_the_shares_of_the_mixture():
    mixture = Mixture([source("a"), source("b")], [3000, 1000], seed=0, conversations_per_step=16)
    for step in range(300):
        assert 11 <= Counter(d.source for d in mixture.step(step))[0] <= 13


def test_another_source_leaves_the_order_of_the_first_alone():
    alone = Mixture([source("a")], [20], seed=0, conversations_per_step=4)
    mixed = Mixture([source("b"), source("a")], [20, 20], seed=0, conversations_per_step=4)
    assert [d.item for d in draws(alone, 20)] == [d.item for d in draws(mixed, 40) if d.source == 1]


def test_a_source_may_begin_and_end_and_goes_on_where_it_was():
    mixture = Mixture(
        [source("easy", until_step=3), source("all", from_step=2)],
        [100, 100],
        seed=0,
        conversations_per_step=10,
    )
    shares = [Counter(d.source for d in mixture.step(step)) for step in range(6)]
    assert shares == [{0: 10}, {0: 10}, {0: 5, 1: 5}, {1: 10}, {1: 10}, {1: 10}]
    seen = [d.item for step in range(13) for d in mixture.step(step) if d.source == 1]
    assert sorted(seen[:100]) == list(range(100))
    easy = [d for step in range(3) for d in mixture.step(step) if d.source == 0]
    assert len({d.item for d in easy}) == 25
    assert mixture.has_schedule


def test_steps_after_the_last_source_has_ended_are_refused():
    mixture = Mixture([source("a", until_step=3)], [10], seed=0, conversations_per_step=2)
    assert len(mixture.step(2)) == 2
    with pytest.raises(ValueError, match="end at step 3"):
        mixture.step(3)


def test_a_gap_between_sources_is_refused():
    with pytest.raises(ValueError, match="no source is active at step 3"):
        Mixture(
            [source("a", until_step=3), source("b", from_step=5)], [10, 10], seed=0, conversations_per_step=2
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": 0.0}, "weight must be greater than 0"),
        ({"weight": float("nan")}, "weight must be greater than 0"),
        ({"from_step": 5, "until_step": 5}, "from_step < until_step"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        source("a", **values)


def test_names_must_differ():
    with pytest.raises(ValueError, match="a name of its own"):
        Mixture([source("a"), source("a")], [1, 1], seed=0, conversations_per_step=1)


def test_a_tiny_source_still_appears():
    mixture = Mixture([source("a", weight=0.1)], [2], seed=0, conversations_per_step=1)
    assert mixture.step(0)[0] in (Draw(0, 0, 0), Draw(0, 1, 0))


def test_the_state_names_the_epoch_and_refuses_another_order():
    mixture = Mixture([source("a")], [10], seed=0, conversations_per_step=4)
    state = mixture.state(5)
    assert (state["seed"], state["epoch"], state["step"]) == (0, 2, 5)
    mixture.require_same_order(state)
    other = Mixture([source("a")], [11], seed=0, conversations_per_step=4)
    with pytest.raises(ValueError, match="sources"):
        other.require_same_order(state)
