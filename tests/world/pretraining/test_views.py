import random

import numpy as np
import pytest

from locvlm.world import backbones
from locvlm.world.captions import Thing
from locvlm.world.pretraining import views


def test_a_crop_keeps_what_is_mostly_inside_in_its_own_fractions():
    inside = Thing("mug", "red", "plain", (0.5, 0.5, 0.75, 0.75))
    outside = Thing("kite", "red", "plain", (0.0, 0.0, 0.2, 0.2))
    (kept,) = views.crop_things((inside, outside), (0.5, 0.25, 0.5))
    assert kept.category == "mug"
    assert kept.box == pytest.approx((0.0, 0.5, 0.5, 1.0))


def test_a_mirror_turns_boxes(scenes):
    (box,) = [t.box for t in views._mirrored((Thing("mug", "red", "plain", (0.1, 0.2, 0.4, 0.9)),))]
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
        x1, y1, x2, y2 = views.with_one_edge_moved(thing, random.Random(seed)).box
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


def test_every_scene_comes_once_before_any_comes_again(scenes, encode):
    made = views.Views(scenes, encode, seed=0)
    taken = [id(scene) for _ in range(4) for scene in made._next_scenes(4)]
    assert sorted(taken[:8]) == sorted(taken[8:]) == sorted(map(id, scenes))


def test_close_ups_show_one_thing(scenes):
    assert [len(s.things) for s in scenes if len(s.things) == 1]
    assert all(s.small.dtype == np.uint8 for s in scenes)
