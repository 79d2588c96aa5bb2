import math
import random

import numpy as np
import pytest
import torch

from locvlm.world import backbones
from locvlm.world.captions import Thing
from locvlm.world.pretraining import clip, views
from locvlm.world.pretraining.loop import PretrainRun

TINY_VISION = backbones.VisionSizes(width=32, layers=2, heads=2)
TINY_TEXT = backbones.CaptionSizes(width=32, layers=1, heads=2, embed=32)


@pytest.fixture(scope="module")
def scenes():
    return [views.store_scene(index, seed=0) for index in range(8)]


def test_a_crop_keeps_what_is_mostly_inside_in_its_own_fractions():
    inside = Thing("mug", "red", "plain", (0.5, 0.5, 0.75, 0.75))
    outside = Thing("kite", "red", "plain", (0.0, 0.0, 0.2, 0.2))
    (kept,) = views.crop_things((inside, outside), (0.5, 0.25, 0.5))
    assert kept.category == "mug"
    assert kept.box == pytest.approx((0.0, 0.5, 0.5, 1.0))


def test_a_mirror_turns_boxes(scenes):
    (box,) = [t.box for t in views._swapped((Thing("mug", "red", "plain", (0.1, 0.2, 0.4, 0.9)),))]
    assert box == pytest.approx((0.6, 0.2, 0.9, 0.9))


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_batches_are_normalised_images_with_words_for_the_whole_and_for_regions(scenes, encode, progress):
    batch = views.Views(scenes, encode, seed=0).batch(4, progress)
    canvas = backbones.VISION.canvas
    assert batch.pixels.shape == (4, 3, canvas, canvas)
    assert batch.pixels.abs().max() < 3
    assert sorted(set(batch.image_of.tolist())) == [0, 1, 2, 3]
    assert len(batch.captions) == 4
    assert len(batch.boxes) == len(batch.phrases) == len(batch.image_of)
    for ids in (batch.captions, batch.phrases):
        assert ids.shape[1] <= backbones.CAPTIONS.context
        assert ((ids == backbones.VOCAB - 1).sum(1) == 1).all()  # one end mark each
    assert (batch.boxes[:, :2] < batch.boxes[:, 2:]).all()
    assert batch.boxes.min() >= 0
    assert batch.boxes.max() <= 1


def test_a_thing_moves_by_one_edge_and_stays_a_thing():
    thing = Thing("mug", "red", "plain", (0.1, 0.4, 0.3, 0.95))
    for seed in range(200):
        x1, y1, x2, y2 = views.moved(thing, random.Random(seed)).box
        assert 0 <= x1 < x2 <= 1
        assert 0 <= y1 < y2 <= 1
        assert sum(a != b for a, b in zip((x1, y1, x2, y2), thing.box, strict=True)) == 1


def test_near_misses_keep_the_wording_and_mostly_differ(scenes, encode, decode):
    batch = views.Views(scenes, encode, seed=0).batch(8, 0.9)
    told = [
        [decode([k for k in row.tolist() if 2 < k < 900]) for row in ids]
        for ids in (batch.phrases, batch.near_misses)
    ]
    changed = [(a.split(), b.split()) for a, b in zip(*told, strict=True) if a != b]
    assert len(changed) > 0.3 * len(told[0])
    assert all(set(a).intersection(b) for a, b in changed)


def test_a_patch_that_fits_a_near_miss_as_well_pays_for_it():
    right, wrong = torch.eye(4)[:2], torch.eye(4)[2:]
    known = torch.zeros(2, dtype=torch.bool)
    scale = torch.tensor(20.0)
    sure = clip.place_loss(right, right, wrong, known, scale)
    unsure = clip.place_loss(right, right, right, known, scale)
    assert sure < 1e-6
    assert unsure.item() == pytest.approx(math.log(2), abs=1e-3)
    assert clip.place_loss(right, right, right, ~known, scale) < 1e-6  # says the same: no miss


def test_every_scene_comes_once_before_any_comes_again(scenes, encode):
    made = views.Views(scenes, encode, seed=0)
    taken = [id(scene) for _ in range(4) for scene in made._next_scenes(4)]
    assert sorted(taken[:8]) == sorted(taken[8:]) == sorted(map(id, scenes))


def test_regions_are_means_of_the_patches_they_cover():
    tokens = torch.arange(16.0).view(1, 16, 1).repeat(2, 1, 1) + torch.tensor([0.0, 100.0]).view(2, 1, 1)
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.75], [0.0, 0.0, 0.5, 0.25], [0.125, 0.0, 0.5, 0.25]])
    pooled = clip.pool_regions(tokens, torch.tensor([0, 0, 1]), boxes)
    # patch 9; patches 0 and 1; half of patch 0 and all of patch 1
    assert pooled.flatten().tolist() == pytest.approx([9.0, 0.5, 100 + 2 / 3])


def test_patches_are_drawn_from_under_their_box():
    tokens = torch.arange(16.0).view(1, 16, 1)
    boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(200, 4)
    drawn = clip.draw_patches(tokens, torch.zeros(200, dtype=torch.long), boxes).flatten().tolist()
    assert set(drawn) == {5.0, 6.0, 9.0, 10.0}


def test_short_captions_are_encoded_as_open_clip_encodes_padded_ones(encode):
    torch.manual_seed(0)
    model = backbones.build_clip(TINY_VISION, TINY_TEXT).eval()
    short = views.caption_tokens(["A red mug on the left.", "Two owls."], encode)
    padded = torch.zeros(2, backbones.CAPTIONS.context, dtype=torch.long)
    padded[:, : short.shape[1]] = short
    with torch.no_grad():
        expected = model.encode_text(padded, normalize=True)
        assert torch.allclose(clip.encode_captions(model, short), expected, atol=1e-5)


def test_close_ups_show_one_thing(scenes):
    assert [len(s.things) for s in scenes if len(s.things) == 1]
    assert all(s.small.dtype == np.uint8 for s in scenes)


@pytest.mark.parametrize("by_patch", [False, True])
def test_a_few_contrastive_steps_bring_the_loss_down(scenes, encode, caplog, by_patch):
    torch.manual_seed(0)
    model = backbones.build_clip(TINY_VISION, TINY_TEXT)
    run = PretrainRun(steps=30, batch=4, learning_rate=3e-3, warmup=3, log_every=29)
    with caplog.at_level("INFO"):
        clip.train_clip(model, views.Views(scenes, encode, seed=0), run, by_patch=by_patch)
    losses = [float(record.args[2]) for record in caplog.records]
    assert losses[-1] < losses[0] - 0.2
