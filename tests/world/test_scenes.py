import numpy as np
import pytest
from PIL import Image

from locvlm.world.scenes import MAX_SIDE, MIN_SIDE, MIN_VISIBLE, make_scene, make_sprite
from locvlm.world.shapes import CLASSES
from locvlm.world.textures import BACKGROUNDS, TILE, background_tile, pattern_mask

NUM_SCENES = 120


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(5, index) for index in range(NUM_SCENES)]


def test_a_scene_depends_on_seed_and_index_alone(scenes):
    again = make_scene(5, 7)
    assert np.array_equal(np.asarray(again.image), np.asarray(scenes[7].image))
    assert [o.box_px for o in again.objects] == [o.box_px for o in scenes[7].objects]
    other = make_scene(6, 7)
    assert other.image.size != again.image.size or not np.array_equal(
        np.asarray(other.image), np.asarray(again.image)
    )


def test_there_are_thirty_classes_and_all_are_drawn(scenes):
    assert len(CLASSES) >= 30
    assert {o.category for s in scenes for o in s.objects} == set(CLASSES)
    assert all(1 <= len(name.split()) <= 2 for name in CLASSES)


def test_boxes_are_the_extent_of_the_visible_pixels(scenes):
    for scene in scenes:
        taken = np.zeros((scene.image.height, scene.image.width), dtype=int)
        for seen in scene.objects:
            assert seen.mask.shape == taken.shape
            rows, columns = np.nonzero(seen.mask)
            assert seen.box_px == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            taken += seen.mask
        assert taken.max() == 1  # a pixel belongs to one object


def test_sides_aspects_and_counts_keep_to_the_promise(scenes):
    for scene in scenes:
        assert 2 <= len(scene.objects) <= 4
        for seen in scene.objects:
            width, height = (seen.box_px[k + 2] - seen.box_px[k] for k in (0, 1))
            across, down = width / scene.image.width, height / scene.image.height
            assert min(across, down) >= MIN_SIDE
            assert max(across, down) <= MAX_SIDE
            assert 0.5 <= width / height <= 2
            assert 0.5 <= across / down <= 2
            assert seen.visible_fraction >= MIN_VISIBLE


def test_about_three_scenes_in_ten_have_an_occluded_object(scenes):
    occluded = sum(any(o.visible_fraction < 0.95 for o in s.objects) for s in scenes) / len(scenes)
    assert 0.18 < occluded < 0.42


def test_some_scenes_hold_two_of_a_kind(scenes):
    doubled = sum(len({o.category for o in s.objects}) < len(s.objects) for s in scenes)
    assert 1 <= doubled < 0.25 * len(scenes)


def test_objects_are_drawn_where_their_masks_are(scenes):
    # an object that was drawn elsewhere would look like its surroundings, so compare its inside with the ring
    # around it
    differing = total = 0
    for scene in scenes[:40]:
        pixels = np.asarray(scene.image, dtype=float)
        anything = np.any([o.mask for o in scene.objects], axis=0)
        for seen in scene.objects:
            x1, y1, x2, y2 = seen.box_px
            near = np.zeros_like(anything)
            near[max(0, y1 - 6) : y2 + 6, max(0, x1 - 6) : x2 + 6] = True
            inside, around = pixels[seen.mask], pixels[near & ~anything]
            total += 1
            apart = np.abs(inside.mean(0) - around.mean(0)).max() > 12
            differing += bool(apart or inside.std() > 1.5 * around.std())
    assert differing > 0.9 * total


@pytest.mark.parametrize("category", CLASSES)
def test_a_sprite_fills_its_size(category):
    for seed in range(3):
        sprite = make_sprite(np.random.default_rng(seed), category, (60, 48))
        assert sprite.size == (60, 48)
        rows, columns = np.flatnonzero(sprite.mask.any(1)), np.flatnonzero(sprite.mask.any(0))
        assert columns[0] <= 2
        assert columns[-1] >= 56
        assert rows[0] <= 2
        assert rows[-1] >= 44
        assert 0.15 < sprite.mask.mean() < 1.0


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_have_texture(name):
    tile = background_tile(name, 0)
    assert tile.size == (TILE, TILE)
    assert np.asarray(tile, dtype=float).std(axis=(0, 1)).max() > 3


def test_an_unknown_pattern_is_refused():
    with pytest.raises(ValueError, match="striped, dotted or checked"):
        pattern_mask("tartan")


def test_scenes_differ_in_size(scenes):
    assert len({s.image.size for s in scenes}) > 50
    assert any(s.image.width < s.image.height for s in scenes)
    assert all(isinstance(s.image, Image.Image) and s.image.mode == "RGB" for s in scenes)
