"""Tree attention computes what the dense mask computes: logits, loss and every gradient."""

import pytest
import torch

from locvlm.constants import NO_SAMPLE
from locvlm.model import tree_attention
from locvlm.model.tree_attention import TREE_ATTENTION, GroupShape, lay_out_trees

LENGTHS = {  # (prefix, branches) per tree, per row
    "one tree": [[(5, [3, 1, 4])]],
    "several trees in rows of unlike length": [[(5, [3, 1]), (2, [4, 2, 6])], [(5, [2])]],
    "a tree without branches": [[(4, []), (3, [2, 2])]],
    "text only beside images": [[(1, [3]), (6, [2, 2, 2, 2])], [(6, [5]), (1, [1, 1])]],
}


def rows_of(shapes: list) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """sample_ids, branch_ids and position_ids (R, L), padded to the longest row and two tokens more."""
    rows = []
    for trees in shapes:
        row = []
        for number, (prefix, branches) in enumerate(trees):
            row += [(number, 0, place) for place in range(prefix)]
            row += [(number, b + 1, prefix + i) for b, size in enumerate(branches) for i in range(size)]
        rows.append(row)
    length = max(map(len, rows)) + 2
    padded = [row + [(NO_SAMPLE, 0, 0)] * (length - len(row)) for row in rows]
    return tuple(torch.tensor(padded).unbind(-1))


def run(model, shapes: list, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    sample_ids, branch_ids, position_ids = rows_of(shapes)
    real = torch.nonzero(sample_ids.flatten() != NO_SAMPLE).squeeze(1)
    model.zero_grad()
    output = model(
        input_ids=torch.randint(3, 60, sample_ids.shape, generator=generator),
        position_ids=position_ids,
        sample_ids=sample_ids,
        branch_ids=branch_ids,
        target_index=real,
        target_ids=torch.randint(3, 60, real.shape, generator=generator),
        target_weights=torch.rand(real.shape, generator=generator, dtype=torch.float64),
        return_logits=True,
    )
    output.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return output.loss.detach(), output.logits.detach(), gradients


@pytest.fixture
def each_tree_apart(monkeypatch):
    """Groups of their own for trees that would leave a single place empty: tests' trees are small."""
    monkeypatch.setattr(tree_attention, "SPARE_PAIRS", 0)


@pytest.mark.parametrize("shapes", LENGTHS.values(), ids=LENGTHS)
def test_tree_attention_equals_the_dense_mask(shapes, build_model):
    loss, logits, gradients = run(build_model(attention=TREE_ATTENTION), shapes)
    plain_loss, plain_logits, plain_gradients = run(build_model(attention="sdpa"), shapes)
    assert abs(loss - plain_loss) <= 1e-12 * plain_loss
    assert (logits - plain_logits).abs().max() <= 1e-12 * plain_logits.abs().max()
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("each_tree_apart")
def test_groups_compute_it_too(build_model):
    rows = [row for shapes in LENGTHS.values() for row in shapes]
    test_tree_attention_equals_the_dense_mask(rows, build_model)


def test_every_token_has_one_place_and_padding_has_none():
    sample_ids, branch_ids, _ = rows_of(LENGTHS["text only beside images"])
    layout = lay_out_trees(sample_ids, branch_ids)
    assert layout.groups == (GroupShape(trees=4, prefix=6, branches=4, branch=5),)
    in_trees = torch.nonzero(sample_ids.flatten() != NO_SAMPLE).flatten()
    places = layout.places[in_trees]
    assert torch.equal(layout.tokens[places], in_trees)
    assert len(places.unique()) == len(in_trees)
    assert (layout.places[sample_ids.flatten() == NO_SAMPLE] == len(layout.tokens)).all()  # behind all places
    empty = torch.ones(len(layout.tokens), dtype=torch.bool).index_fill(0, places, False)
    assert (layout.tokens[empty] == 0).all()
    (bias,) = layout.prefix_biases
    assert bias is not None
    assert torch.equal(bias.flatten() < 0, empty[: 4 * 6])


@pytest.mark.usefixtures("each_tree_apart")
def test_trees_of_other_sizes_are_computed_apart_and_nothing_is_computed_for_nothing():
    sample_ids, branch_ids, _ = rows_of([[(1, [3, 3]), (6, [2, 2])], [(6, [2, 2]), (1, [3, 3]), (4, [1])]])
    layout = lay_out_trees(sample_ids, branch_ids)
    assert layout.groups == (GroupShape(2, 6, 2, 2), GroupShape(2, 1, 2, 3), GroupShape(1, 4, 1, 1))
    assert layout.prefix_biases == (None, None, None)
    in_trees = torch.nonzero(sample_ids.flatten() != NO_SAMPLE).flatten()
    assert torch.equal(layout.tokens.sort().values, in_trees)
    assert torch.equal(layout.tokens[layout.places[in_trees]], in_trees)


def test_a_tree_joins_others_until_too_much_is_computed_for_nothing():
    small, large = (1, [4]), (400, [40] * 10)
    sample_ids, branch_ids, _ = rows_of([[large, small], [small, small]])
    groups = lay_out_trees(sample_ids, branch_ids).groups
    assert groups == (GroupShape(1, 400, 10, 40), GroupShape(3, 1, 1, 4))


def test_large_trees_are_computed_one_by_one():
    sample_ids, branch_ids, _ = rows_of([[(400, [40] * 10)] * 2])
    assert lay_out_trees(sample_ids, branch_ids).groups == (GroupShape(1, 400, 10, 40),) * 2


def test_what_is_not_packed_runs_as_sdpa(build_model):
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 7, [0] * 2 + [1] * 5])
    outputs = [
        build_model(attention=name)(input_ids=ids, attention_mask=mask).logits
        for name in (TREE_ATTENTION, "sdpa")
    ]
    assert torch.equal(*outputs)
