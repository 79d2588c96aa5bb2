import pytest

from locvlm.annotations.coco_classes import COCO_CLASSES
from locvlm.building.captioning.class_words import _OTHER_WORDS, names_class


@pytest.mark.parametrize("category", COCO_CLASSES)
def test_every_class_is_named_by_itself_and_its_words_and_not_by_another_thing(category):
    assert names_class(f"A {category} on the left.", category)
    assert names_class(f"The {category.title()}'s shadow", category)
    for word in _OTHER_WORDS.get(category, "").split():
        assert names_class(f"a {word}, seen from above", category)
    assert not names_class("something purple to the left of a xylophone", category)


def test_the_table_has_no_class_that_is_not_one():
    assert set(_OTHER_WORDS) <= set(COCO_CLASSES)


@pytest.mark.parametrize(
    ("description", "category", "is_named"),
    [
        ("two women near a fridge", "person", True),
        ("two women near a fridge", "refrigerator", True),
        ("two women near a fridge", "oven", False),
        ("people at the beach", "person", True),
        ("Children play with geese", "person", True),
        ("Children play with geese", "bird", True),
        ("a tall glass of red wine", "wine glass", True),
        ("two wine glasses", "wine glass", True),
        ("a dog on the left", "hot dog", False),
        ("a hotdog in a bun", "hot dog", True),
        ("knives on a board", "knife", True),
        ("buses in a row", "bus", True),
        ("a bush in front", "bus", False),
        ("a carpet under the table", "car", False),
        ("cars on the road", "car", True),
        ("puppies asleep", "dog", True),
        ("one ski in the snow", "skis", True),
        ("a pair of scissors", "scissors", True),
        ("mice on a desk", "mouse", True),
        ("tomatoes", "tomato", True),
        ("leaves on the ground", "leaf", True),
        ("the top of the hat", "top hat", True),
        ("a box with a bow", "gift box", True),
        ("a house at the top", "top hat", False),
        ("the sheep's wool", "sheep", True),
        ("a TV screen", "tv", True),
    ],
)
def test_singular_plural_and_last_words(description, category, is_named):
    assert names_class(description, category) is is_named
