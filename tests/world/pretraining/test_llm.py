import copy
import itertools

import pytest
import torch

from locvlm.world import backbones
from locvlm.world.pretraining.documents import Document
from locvlm.world.pretraining.layout_tokens import LayoutEmbedder, LayoutToken
from locvlm.world.pretraining.llm import embed, embed_document, fill_rows, train_llm
from locvlm.world.pretraining.loop import PretrainRun

TOKEN = LayoutToken("mug", "", (0.1, 0.2, 0.3, 0.4), (0.2, 0.3))


def document(*ids, weight=1.0):
    doc = Document()
    doc.write(ids, weight)
    return doc


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return backbones.build_llm(backbones.LanguageSizes(width=32, layers=1, heads=2, mlp=64))


def test_rows_begin_with_a_document_and_cut_the_last():
    rows = fill_rows(itertools.cycle([document(5, 6, 7), document(8)]).__next__, length=4, rows=3)
    # documents of 4 and 2 ids in turn fill rows of 5; the next row takes the next document
    assert rows.ids.tolist() == [[1, 5, 6, 7, 1], [1, 5, 6, 7, 1], [1, 5, 6, 7, 1]]
    assert rows.weights.tolist()[0] == [0, 1, 1, 1, 0]


def test_layout_tokens_beyond_the_cut_are_left_out():
    doc = document(5)
    doc.show([TOKEN] * 3)
    rows = fill_rows(itertools.repeat(doc).__next__, length=7, rows=1)
    # 1 5 . . . 1 5 . | the last id is only predicted, never read
    assert rows.slots.tolist() == [[0, 2], [0, 3], [0, 4]]
    assert len(rows.tokens) == 3


def test_layout_tokens_stand_in_their_slots(tiny, encode, monkeypatch):
    monkeypatch.setattr("locvlm.world.pretraining.layout_tokens.BOX_NOISE", 0.0)
    monkeypatch.setattr("locvlm.world.pretraining.layout_tokens.MAX_LENGTH_RATIO", 1.0)
    embedder, embedding = LayoutEmbedder(encode, 32), tiny.get_input_embeddings()
    doc = document(5)
    doc.show([TOKEN])
    doc.write([6], 1.0)
    vectors = embed_document(tiny, doc, embedder)
    assert torch.equal(vectors[0, [0, 1, 3]], embedding(torch.tensor([1, 5, 6])))
    assert torch.equal(vectors[0, 2], embedder(embedding, [TOKEN])[0])


def test_rows_without_layout_tokens_are_plain_embeddings(tiny, encode):
    ids = torch.tensor([[1, 5, 6]])
    vectors = embed(tiny, ids, torch.empty(0, 2), [], LayoutEmbedder(encode, 32))
    assert torch.equal(vectors, tiny.get_input_embeddings()(ids))


def test_a_few_steps_bring_the_loss_down(tiny, encode, caplog):
    shown = document(5, 6, 7, 8, 2)
    shown.show([TOKEN])
    shown.write([9, 2], 1.0)
    documents = itertools.cycle([shown, document(9, 10, 11, 2)])
    run = PretrainRun(steps=20, batch=2, learning_rate=1e-2, warmup=2, log_every=19)
    with caplog.at_level("INFO"):
        train_llm(tiny, lambda progress: next(documents), LayoutEmbedder(encode, 32), run, length=32)
    losses = [float(record.args[2]) for record in caplog.records]
    assert losses[-1] < 0.5 * losses[0]


def test_a_token_of_no_weight_counts_for_nothing(tiny, encode, caplog):
    """The id that is never supervised may be any; the loss of the first step stays."""
    losses = []
    for never_supervised in (9, 10):
        doc = document(5, 6)
        doc.write([never_supervised], 0.0)
        caplog.clear()
        with caplog.at_level("INFO"):
            documents = itertools.repeat(doc)
            # a row ends with that id: it is predicted, never read
            train_llm(
                copy.deepcopy(tiny),
                lambda progress, left=documents: next(left),
                LayoutEmbedder(encode, 32),
                PretrainRun(steps=1, batch=1),
                length=3,
            )
        losses.append(float(caplog.records[0].args[2]))
    assert losses[0] == losses[1]
