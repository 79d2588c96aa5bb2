import math

import pytest
import torch

from locvlm.world import backbones
from locvlm.world.pretraining import clip, views
from locvlm.world.pretraining.loop import PretrainRun

TINY_VISION = backbones.VisionSizes(width=32, layers=2, heads=2)
TINY_TEXT = backbones.CaptionSizes(width=32, layers=1, heads=2, embed=32)


def test_a_patch_that_fits_a_near_miss_as_well_pays_for_it():
    right, wrong = torch.eye(4)[:2], torch.eye(4)[2:]
    known = torch.zeros(2, dtype=torch.bool)
    scale = torch.tensor(20.0)
    sure = clip.place_loss(right, right, wrong, known, scale)
    unsure = clip.place_loss(right, right, right, known, scale)
    assert sure < 1e-6
    assert unsure.item() == pytest.approx(math.log(2), abs=1e-3)
    assert clip.place_loss(right, right, right, ~known, scale) < 1e-6  # says the same: no miss


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


@pytest.mark.parametrize("by_patch", [False, True])
def test_a_few_contrastive_steps_bring_the_loss_down(scenes, encode, caplog, by_patch):
    torch.manual_seed(0)
    model = backbones.build_clip(TINY_VISION, TINY_TEXT)
    run = PretrainRun(steps=30, batch=4, learning_rate=3e-3, warmup=3, log_every=29)
    with caplog.at_level("INFO"):
        clip.train_clip(model, views.Views(scenes, encode, seed=0), run, by_patch=by_patch)
    losses = [float(record.args[2]) for record in caplog.records]
    assert losses[-1] < losses[0] - 0.2
