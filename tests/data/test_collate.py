import inspect

import numpy as np
import pytest
import torch

from locvlm.constants import NO_SAMPLE
from locvlm.data.clips import Frames
from locvlm.data.collate import collate
from locvlm.data.packing import as_trees, filler_tree
from locvlm.data.tokenize import Branch, TokenizedSample
from locvlm.model.locvlm import LocVLM
from locvlm.spec import VisionSpec

PAD = 0


def tree(name, prefix, branches, *, num_images=1, sample_index=0):
    given = TokenizedSample(
        id=name,
        prefix_ids=list(prefix),
        branches=tuple(Branch(ids=list(ids), supervised=(True,) * len(ids)) for ids in branches),
        num_images=num_images,
    )
    return as_trees(given, "shared_prefix", sample_index=sample_index)[0]


def image(value):
    return np.full((3, 4, 4), value, dtype=np.float32)


@pytest.fixture
def rows():
    first = tree("a", [1, 9, 9], [[20, 21], [30]], sample_index=0)
    second = tree("t", [1], [[50, 51]], num_images=0, sample_index=1)
    third = tree("b", [1, 9], [[40, 41, 42]], sample_index=2)
    return [[first, second], [third]]


def test_two_rows_by_hand(rows):
    batch = collate(rows, pixels={0: image(1), 2: image(2)}, pad_token_id=PAD, num_targets=8.0)
    none = NO_SAMPLE
    assert batch["input_ids"].tolist() == [
        [1, 9, 9, 20, 21, 30, 1, 50, 51, 0, 0, 0, 0, 0, 0, 0],
        [1, 9, 40, 41, 42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert batch["position_ids"].tolist() == [
        [0, 1, 2, 3, 4, 3, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert batch["sample_ids"].tolist() == [
        [0, 0, 0, 0, 0, 0, 1, 1, 1] + [none] * 7,
        [0, 0, 0, 0, 0] + [none] * 11,
    ]
    assert batch["branch_ids"].tolist() == [
        [0, 0, 0, 1, 1, 2, 0, 1, 1] + [0] * 7,
        [0, 0, 1, 1, 1] + [0] * 11,
    ]
    assert batch["target_index"].tolist() == [2, 3, 2, 6, 7, 17, 18, 19]
    assert batch["target_ids"].tolist() == [20, 21, 30, 50, 51, 40, 41, 42]
    assert batch["target_weights"].tolist() == [1.0] * 8
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == [1.0, 2.0]
    assert batch["num_targets"] == 8.0


def test_types_are_those_that_forward_takes(rows):
    batch = collate(rows, pixels={0: image(1), 2: image(2)}, pad_token_id=PAD, num_targets=8.0)
    assert {name: value.dtype for name, value in batch.items() if isinstance(value, torch.Tensor)} == {
        "input_ids": torch.int64,
        "position_ids": torch.int64,
        "sample_ids": torch.int32,
        "branch_ids": torch.int32,
        "target_index": torch.int64,
        "target_ids": torch.int64,
        "target_weights": torch.float32,
        "pixel_values": torch.float32,
    }


def test_rows_are_as_long_as_the_longest_rounded_up_to_eight():
    trees = [[tree("a", [1], [range(20, 27)])], [tree("b", [1], [range(20, 28)])]]  # 8 and 9 tokens
    pixels = {0: image(0)}
    assert collate(trees[:1], pixels=pixels, pad_token_id=PAD, num_targets=1.0)["input_ids"].shape == (1, 8)
    assert collate(trees, pixels=pixels, pad_token_id=PAD, num_targets=1.0)["input_ids"].shape == (2, 16)


def test_a_failed_image_keeps_its_place_and_loses_its_weight(rows):
    batch = collate(rows, pixels={0: image(0), 2: image(2)}, failed={0}, pad_token_id=PAD, num_targets=8.0)
    assert batch["target_weights"].tolist() == [0.0] * 3 + [1.0] * 5
    assert batch["pixel_values"].shape == (2, 3, 4, 4)
    assert batch["num_targets"] == 8.0


def test_a_batch_without_images_has_no_pixels_and_a_filler_no_weight():
    batch = collate([[filler_tree(PAD)]], pixels={}, pad_token_id=PAD, num_targets=5.0)
    assert "pixel_values" not in batch
    assert batch["target_weights"].tolist() == [0.0]
    assert batch["input_ids"].shape == (1, 8)


def test_an_image_shown_by_several_trees_appears_once_for_each():
    same = [tree("a", [1, 9], [[20]], sample_index=3), tree("a", [1, 9], [[21]], sample_index=3)]
    batch = collate([same], pixels={3: image(7)}, pad_token_id=PAD, num_targets=2.0)
    assert batch["pixel_values"].shape == (2, 3, 4, 4)


def test_keys_are_keywords_of_the_model(rows):
    batch = collate(rows, pixels={0: image(1), 2: image(2)}, pad_token_id=PAD, num_targets=8.0)
    keywords = {
        name
        for name, parameter in inspect.signature(LocVLM.forward).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    assert batch.keys() <= keywords


def test_images_videos_and_kept_features_are_told_in_order_of_appearance(rows):
    vision = VisionSpec(canvas=4, patch=2, num_frames=2, image_mean=(0.0,) * 3, image_std=(1.0,) * 3)
    levels = np.stack([np.full((3, 4, 4), 51, dtype=np.uint8), np.full((3, 4, 4), 102, dtype=np.uint8)])
    kept = torch.arange(12.0).reshape(6, 2)
    rows = [[*rows[0], tree("c", [1, 9], [[7]], sample_index=3)], rows[1]]
    shown = {0: Frames(levels, vision), 3: kept, 2: image(2)}
    batch = collate(rows, pixels=shown, pad_token_id=PAD, num_targets=9.0)
    assert batch["frames_per_visual"].tolist() == [2, -1, 0]
    assert batch["pixel_values"][:, 0, 0, 0].tolist() == pytest.approx([0.2, 0.4, 2.0])
    assert torch.equal(batch["pooled_features"], kept[None])
    assert set(batch) <= set(inspect.signature(LocVLM.forward).parameters)


def test_where_all_features_are_kept_there_are_no_pixels(rows):
    kept = {0: torch.zeros(6, 2, dtype=torch.bfloat16), 2: torch.ones(6, 2, dtype=torch.bfloat16)}
    batch = collate(rows, pixels=kept, pad_token_id=PAD, num_targets=8.0)
    assert "pixel_values" not in batch
    assert batch["frames_per_visual"].tolist() == [-1, -1]
    assert batch["pooled_features"].dtype == torch.bfloat16
    assert batch["pooled_features"][:, 0, 0].tolist() == [0, 1]
