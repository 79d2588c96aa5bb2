"""The tree mask, against the picture in its docstring and against a plain double loop."""

import pytest
import torch

from locvlm.constants import NO_SAMPLE
from locvlm.model.attention import require_masked_attention, tree_block_mask, tree_mask


def allowed(mask: torch.Tensor) -> torch.Tensor:
    return mask[:, 0] == 0


def test_the_mask_is_the_one_drawn_in_the_docstring():
    picture = """
        x . . . . . . .
        x x . . . . . .
        x x x . . . . .
        x x x x . . . .
        x x . . x . . .
        . . . . . x . .
        . . . . . x x .
        . . . . . . . x
    """
    expected = torch.tensor([[cell == "x" for cell in line.split()] for line in picture.strip().splitlines()])
    mask = tree_mask(
        torch.tensor([[0, 0, 0, 0, 0, 1, 1, NO_SAMPLE]]),
        torch.tensor([[0, 0, 1, 1, 2, 0, 1, 0]]),
        dtype=torch.float32,
    )
    assert mask.shape == (1, 1, 8, 8)
    assert torch.equal(allowed(mask)[0], expected)


def test_the_mask_equals_its_plain_definition_on_random_rows():
    generator = torch.Generator().manual_seed(0)
    sample_ids = torch.randint(-1, 3, (4, 12), generator=generator).sort(dim=1, descending=True).values
    branch_ids = torch.randint(0, 3, (4, 12), generator=generator)
    got = allowed(tree_mask(sample_ids, branch_ids, dtype=torch.float64))
    for row in range(4):
        for query in range(12):
            for key in range(12):
                same = sample_ids[row, query] == sample_ids[row, key] != NO_SAMPLE
                path = branch_ids[row, key] in (0, branch_ids[row, query])
                assert got[row, query, key] == (query == key or bool(same and path and key <= query))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_mask_is_additive_in_the_asked_dtype_and_no_row_is_empty(dtype):
    mask = tree_mask(torch.full((2, 5), NO_SAMPLE), torch.zeros(2, 5, dtype=torch.long), dtype=dtype)
    assert mask.dtype == dtype
    assert set(mask.unique().tolist()) == {0.0, torch.finfo(dtype).min}
    assert torch.equal(allowed(mask)[0], torch.eye(5, dtype=torch.bool))


def test_shapes_that_differ_and_kernels_without_masks_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        tree_mask(torch.zeros(1, 4), torch.zeros(1, 5), dtype=torch.float32)
    with pytest.raises(ValueError, match="sdpa"):
        require_masked_attention("flash_attention_2")


def test_the_block_mask_is_the_dense_one():
    from torch.nn.attention.flex_attention import create_mask

    generator = torch.Generator().manual_seed(0)
    sample_ids = torch.randint(-1, 3, (3, 200), generator=generator).sort(dim=1, descending=True).values
    branch_ids = torch.randint(0, 3, (3, 200), generator=generator)
    block = tree_block_mask(sample_ids, branch_ids)
    assert block.shape == (3, 1, 200, 200)
    dense = create_mask(block.mask_mod, 3, 1, 200, 200, device="cpu")
    assert torch.equal(dense, tree_mask(sample_ids, branch_ids, dtype=torch.float32) == 0)
