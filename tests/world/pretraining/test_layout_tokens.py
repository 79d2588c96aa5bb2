import random

import pytest
import torch

from locvlm.world import backbones
from locvlm.world.captions import BACKDROPS, Thing
from locvlm.world.drawing import COLORS
from locvlm.world.pretraining import layout_tokens
from locvlm.world.pretraining.layout_tokens import GROUND_WORDS, LayoutToken, grid_tokens, thing_token
from locvlm.world.shapes import CLASSES

MUG = Thing("mug", "red", "plain", (0.25, 0.5, 0.75, 1.0))


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return torch.nn.Embedding(backbones.VOCAB, backbones.LANGUAGE.width)


@pytest.fixture
def exact(monkeypatch):
    """No noise, no lengths."""
    monkeypatch.setattr(layout_tokens, "BOX_NOISE", 0.0)
    monkeypatch.setattr(layout_tokens, "MAX_LENGTH_RATIO", 1.0)


def test_every_word_that_a_token_may_say_is_in_the_tokenizer(encode):
    assert set(GROUND_WORDS) == set(BACKDROPS)
    for word in (*GROUND_WORDS.values(), *COLORS, "striped", "dotted", "checked"):
        assert len(encode(word)) == 1, word
    assert all(len(encode(name)) <= 2 for name in CLASSES)


def test_a_grid_shows_things_where_they_are_and_ground_elsewhere():
    grid = backbones.VISION.spec.grid
    for seed in range(20):
        tokens = grid_tokens([MUG], "grass", random.Random(seed))
        assert len(tokens) == grid * grid
        about = [k for k, token in enumerate(tokens) if token.box is not None]
        inside = {r * grid + c for r in range(grid // 2, grid) for c in range(grid // 4, 3 * grid // 4)}
        assert set(about) <= inside
        assert len(about) > 0.7 * len(inside)
        assert {tokens[k].word for k in range(grid * grid) if k not in about} == {"grass"}
        assert all(
            token.center == ((k % grid + 0.5) / grid, (k // grid + 0.5) / grid)
            for k, token in enumerate(tokens)
        )


def test_a_thing_is_sometimes_mistaken_but_its_box_stays():
    tokens = [thing_token(MUG, random.Random(seed), mistaken=0.5) for seed in range(100)]
    assert 30 < sum(token.word == "mug" for token in tokens) < 70
    assert {token.box for token in tokens} == {MUG.box}
    assert {token.look for token in tokens} == {"red", ""}


def test_a_token_is_the_sum_of_its_parts(embedder, embedding, encode, exact):
    center = (0.5, 0.5)
    bare, colored, placed = embedder(
        embedding,
        [
            LayoutToken("top hat", "", None, center),
            LayoutToken("top hat", "red", None, center),
            LayoutToken("top hat", "", MUG.box, center),
        ],
    )
    words = embedding.weight[encode("top hat")].mean(0)
    red = embedding.weight[encode("red")[0]]
    assert torch.allclose(colored - bare, layout_tokens.LOOK_SHARE * red, atol=1e-5)
    assert torch.allclose((placed - bare).norm(), words.norm(), rtol=1e-4)  # a box is as long as a word
    assert torch.allclose((bare - words).norm(), layout_tokens.CENTRE_SHARE * words.norm(), rtol=1e-4)


def test_near_boxes_have_near_codes(embedder, embedding, exact):
    boxes = [(0.25, 0.5, 0.75, 1.0), (0.26, 0.5, 0.75, 1.0), (0.7, 0.1, 0.9, 0.3)]
    first, near, far = embedder(embedding, [LayoutToken("mug", "", box, (0.5, 0.5)) for box in boxes])
    assert (first - near).norm() < 0.4 * (first - far).norm()
    assert (first - near).norm() > 0


def test_vectors_come_in_all_lengths_up_to_the_longest(embedder, embedding):
    lengths = embedder(embedding, [LayoutToken("mug", "", MUG.box, (0.5, 0.5))] * 400).norm(dim=1)
    assert (
        0.8 * layout_tokens.MAX_LENGTH_RATIO
        < lengths.max() / lengths.min()
        < 1.3 * layout_tokens.MAX_LENGTH_RATIO
    )


def test_gradients_reach_the_words(embedder, embedding, encode):
    embedder(embedding, [thing_token(MUG, random.Random(0), mistaken=0)]).sum().backward()
    assert embedding.weight.grad[encode("mug")[0]].abs().sum() > 0


def test_tokens_without_any_look_have_none(embedder, embedding):
    assert embedder(embedding, [LayoutToken("mug", "", None, (0.5, 0.5))] * 3).shape == (3, 192)
