import random

import pytest

from locvlm.world.captions import (
    BACKDROPS,
    CAPTIONS_PER_SCENE,
    Thing,
    article,
    caption,
    describe,
    place,
    reach,
    relation,
    rich_caption,
    scene_captions,
    size_word,
    things_of,
)
from locvlm.world.scenes import make_scene
from locvlm.world.textures import BACKGROUNDS


def thing(box, category="mug", color="red", pattern="plain"):
    return Thing(category, color, pattern, box)


def test_every_background_has_words():
    assert set(BACKDROPS) == set(BACKGROUNDS)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0.0, 0.0, 0.2, 0.2), "at the top left"),
        ((0.4, 0.4, 0.6, 0.6), "in the middle"),
        ((0.8, 0.4, 1.0, 0.6), "on the right"),
        ((0.4, 0.8, 0.6, 1.0), "at the bottom"),
    ],
)
def test_places_are_where_the_thing_is(box, words):
    assert place(thing(box)) == words


def test_relations_follow_the_larger_distance():
    left, right, low = thing((0, 0, 0.2, 0.2)), thing((0.7, 0.1, 0.9, 0.3)), thing((0.1, 0.7, 0.3, 0.9))
    assert relation(left, right) == "to the left of"
    assert relation(right, left) == "to the right of"
    assert relation(left, low) == "above"
    assert relation(low, left) == "below"


def test_sizes_in_words():
    assert size_word(thing((0, 0, 0.13, 0.13))) == "tiny"
    assert size_word(thing((0, 0, 0.3, 0.3))) == ""
    assert size_word(thing((0, 0, 0.5, 0.5))) == "huge"


def test_reach_names_both_edges():
    texts = {reach(thing((0.0, 0.5, 0.2, 0.98)), random.Random(k)) for k in range(20)}
    assert "reaching from the left edge to the far left" in texts
    assert "reaching from the middle to the very bottom" in texts


def test_descriptions_name_what_is_there():
    said = describe(thing((0, 0, 0.14, 0.14), "owl", "orange", "dotted"), random.Random(0), detail=1.0)
    assert said == "a tiny orange dotted owl"
    assert describe(thing((0, 0, 0.3, 0.3), "owl"), random.Random(0), detail=0.0) == "an owl"
    assert article("umbrella") == "an umbrella"


def test_captions_are_sentences_about_the_scene_and_repeatable():
    scene = make_scene(3, 0)
    texts = scene_captions(scene, 3, 0)
    assert texts == scene_captions(scene, 3, 0)
    assert len(texts) == CAPTIONS_PER_SCENE
    names = [o.category for o in scene.objects]
    for text in texts:
        assert text[0].isupper()
        assert text.endswith(".")
        assert any(name in text.lower() for name in names)


def test_rich_captions_name_everything():
    scene = make_scene(3, 1)
    text = rich_caption(things_of(scene), scene.background, random.Random(0)).lower()
    assert all(o.category in text for o in scene.objects)


def test_captions_vary():
    things = [thing((0, 0, 0.3, 0.3)), thing((0.6, 0.6, 0.9, 0.9), "kite", "blue")]
    assert len({caption(things, "wood", random.Random(k)) for k in range(60)}) > 30
