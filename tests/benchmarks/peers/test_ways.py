"""Every way, trained for two steps in this process."""

from importlib.util import find_spec

import pytest

from locvlm.benchmarks.peers import ours, padded
from locvlm.benchmarks.peers.way import Counts
from locvlm.constants import IGNORE_INDEX

NEEDS_TRL = pytest.mark.skipif(not find_spec("trl"), reason='needs TRL: pip install -e ".[bench]"')


def train(way):
    """(losses of the steps, what was counted)"""
    counts = Counts()
    counts.watch(way.trainer.model)
    way.train()
    losses = [row["loss"] for row in way.trainer.state.log_history if "loss" in row]
    return losses, counts


@pytest.fixture(scope="session")
def by_us(work):
    return train(ours.build(work, "ours"))


@pytest.fixture(scope="session")
def by_trainer(work):
    return train(padded.build(work, "trainer"))


def require_same_training(found, expected):
    """The losses of both steps, the second of which follows from the update after the first; the targets."""
    losses, counts = found
    assert losses == pytest.approx(expected[0], rel=1e-5)  # fp32, other orders of summation
    assert counts.supervised == expected[1].supervised


def test_transformers_trainer_learns_what_we_learn_and_reads_each_image_for_every_pair(by_us, by_trainer):
    assert len(by_us[0]) == 2
    require_same_training(by_trainer, by_us)
    assert by_us[1].images == 4
    assert by_trainer[1].images == 12
    assert by_trainer[1].tokens > 1.5 * by_us[1].tokens  # a prefix for every pair
    assert by_trainer[1].slots > by_trainer[1].tokens


def test_grouped_by_length_the_same_pairs_come_in_another_order(work, by_trainer):
    _, counts = train(padded.build(work, "trainer_grouped", grouped=True))
    assert (counts.tokens, counts.supervised) == (by_trainer[1].tokens, by_trainer[1].supervised)
    assert counts.slots <= by_trainer[1].slots


def test_the_collator_pads_on_the_right_and_labels_answers_alone(work):
    trainer = padded.build(work, "collated").trainer
    samples = [trainer.train_dataset[k] for k in range(4)]
    batch = trainer.data_collator(samples)
    assert batch["pixel_values"].shape == (4, 3, 56, 56)
    for row, sample in enumerate(samples):
        length = len(sample["input_ids"])
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (
            batch["input_ids"].shape[1] - length
        )
        assert batch["labels"][row, length:].eq(IGNORE_INDEX).all()
        learned = sample["labels"][sample["labels"] != IGNORE_INDEX]
        answer = trainer.train_dataset.pairs[row].completion
        assert trainer.processing_class.decode(learned) == answer


@NEEDS_TRL
@pytest.mark.parametrize("as_on_gpu", [False, True])
def test_trl_learns_what_we_learn(work, by_us, by_trainer, as_on_gpu, monkeypatch):
    from trl.trainer import utils

    from locvlm.benchmarks.peers import trl

    monkeypatch.setattr(utils, "_use_triton", utils._use_triton)  # put back afterwards
    found = train(trl.build(work, f"trl{as_on_gpu}", as_on_gpu=as_on_gpu))
    require_same_training(found, by_us)
    assert (found[1].slots, found[1].images) == (by_trainer[1].slots, by_trainer[1].images)
