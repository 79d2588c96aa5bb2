"""What prompts share is found, and the cache with room holds what the library's holds."""

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from locvlm.model.shared_prefix import PromptGroup, RoomyLayer, read_prefixes


def states(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(
    ("prompts", "starts", "length"),
    [
        (((1, 4, 5, 6), (1, 4, 7)), (), 2),
        (((1, 4, 5), (1, 4, 5)), (), 2),  # each keeps its last token
        (((1, 4, 5),), (), 2),
        (((1, 4), (1, 4, 5, 6)), (), 1),
        (((1, 4, 5, 6, 7), (1, 4, 5, 6, 8)), (3, 4), 2),  # and the one before its answer
        (((1, 4), (2, 4)), (), 0),
    ],
)
def test_the_prefix_is_what_all_prompts_start_with(prompts, starts, length):
    group = PromptGroup(pixel_values=None, prompts=prompts, answer_starts=starts)
    assert group.prefix_length == length


def test_a_layer_with_room_holds_what_the_librarys_layer_holds():
    stock = DynamicLayer()
    stock.update(states(2, 3, 5, 4), states(2, 3, 5, 4))
    rows = torch.tensor([0, 0, 1, 1, 1])
    roomy = RoomyLayer(stock, rows, room=6)
    stock.batch_select_indices(rows)
    address = roomy.keys.data_ptr()
    for new in (4, 1):
        added = states(5, 3, new, 4), states(5, 3, new, 4) * 2
        for a, b in zip(roomy.update(*added), stock.update(*added), strict=True):
            assert torch.equal(a, b)
        assert roomy.get_seq_length() == stock.get_seq_length()
        assert roomy.get_mask_sizes(1) == stock.get_mask_sizes(1)
    assert roomy.keys.data_ptr() == address  # nothing was copied
    for change in ("reorder_cache", "batch_select_indices"):
        kept = torch.tensor([4, 0, 2])
        getattr(roomy, change)(kept)
        getattr(stock, change)(kept)
        assert torch.equal(roomy.keys, stock.keys)
        assert torch.equal(roomy.values, stock.values)
        for layer in (roomy, stock):
            layer.batch_select_indices(torch.tensor([0, 1, 2, 2, 1]))
    added = states(5, 3, 1, 4), states(5, 3, 1, 4)
    assert torch.equal(roomy.update(*added)[0], stock.update(*added)[0])


def test_rows_hold_prompts_with_padding_before_prefix_and_rest(build_model):
    model = build_model().eval()
    groups = [
        PromptGroup(pixel_values=None, prompts=((1, 5, 6, 7), (1, 5, 8))),
        PromptGroup(pixel_values=None, prompts=((1, 9),)),
    ]
    rows = read_prefixes(model, groups, pad_token_id=61, room=3, repeats=2)
    assert rows.input_ids.tolist() == [[1, 5, 6, 7], [1, 5, 61, 8], [61, 1, 61, 9]]
    assert rows.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1]]
    assert rows.num_cached == rows.cache.get_seq_length() == 2
    assert rows.cache.layers[0].keys.shape[0] == 6
    assert isinstance(rows.cache, DynamicCache)
    assert rows.by_group("abc", 2) == [["a", "b"], ["c"]]
