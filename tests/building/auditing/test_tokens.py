"""Lengths are those of the tokenization of training."""

import pytest

from locvlm.building.auditing.entries import read_audited
from locvlm.building.auditing.tokens import measure_tokens
from locvlm.building.preview import LOCVLM_B
from locvlm.data.tokenize import load_tokenizer, tokenize_samples
from locvlm.io import Ledger
from locvlm.world.backbones import TOKENIZER_FILE, WEIGHTS, write_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(WEIGHTS / TOKENIZER_FILE, folder)
    return load_tokenizer(folder)


@pytest.fixture
def measured(write, tokenizer):
    """measured(rows): (lengths, the entries)."""

    def measure(rows, name="a.jsonl"):
        entries = list(read_audited(write(name, rows), Ledger("entries")))
        lengths = measure_tokens(
            entries, tokenizer, contract=LOCVLM_B, conversation="vicuna_v1", num_frames=8
        )
        return lengths, entries

    return measure


def test_lengths_are_those_of_the_samples_of_training(measured, tokenizer, row):
    box = [10, 10, 30, 50]
    rows = [
        row("n1", ("locpred", "dog", box), ("negpred", "a very long description of a cat", None)),
        row("n2", ("revloc", "cow", box)),
    ]
    lengths, entries = measured(rows)
    samples = [entry.as_sample(LOCVLM_B) for entry in entries]
    tokenized = tokenize_samples(samples, tokenizer, "vicuna_v1", 256, num_video_tokens=264)
    for k, item in enumerate(tokenized):
        dialogues = [len(item.prefix_ids) + len(branch.ids) for branch in item.branches]
        assert lengths.longest[k] == max(dialogues)
        assert lengths.packed[k] == sum(dialogues) - len(item.prefix_ids) * (len(dialogues) - 1)
        assert lengths.longest[k] > 256  # the image takes a token for each of its 16 x 16 patches
    assert lengths.packed[0] > lengths.longest[0]
    assert lengths.packed[1] == lengths.longest[1]
    assert lengths.ledger.num_kept == 2


def test_a_video_takes_its_frames_beside_a_picture(measured, row):
    query = ("negpred", "cat", None)
    lengths, _ = measured([row("n1", query), row("n1", query, image=None, video="n1.mp4")])
    assert lengths.packed[1] - lengths.packed[0] == 8


def test_what_cannot_be_tokenized_is_counted_and_the_rest_measured(measured, row):
    phrases = ["cat", "an <image> of a cat", "dog"]
    lengths, _ = measured([row(f"n{k}", ("negpred", phrase, None)) for k, phrase in enumerate(phrases)])
    assert len(lengths.packed) == lengths.ledger.num_kept == 2
    assert lengths.ledger.dropped == {"cannot be tokenized": 1}
    assert "must not hold '<image>'" in lengths.ledger.examples["cannot be tokenized"][0]


def test_records_that_ask_nothing_have_no_length(measured, row):
    assert len(measured([row("n1"), row("n2", ("negpred", "cat", None))])[0].packed) == 1
