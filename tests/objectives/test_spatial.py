from collections import Counter

import pytest

from locvlm.geometry import Box
from locvlm.objectives.spatial import SpatialConfig, build_spatial_records
from locvlm.records import ImageAnnotation, ObjectAnnotation


def at(category, x, y, **more):
    """An object centred at fractions of a 100 x 200 image."""
    cx, cy = 100 * x, 200 * y
    return ObjectAnnotation(category=category, box_px=Box(cx - 5, cy - 5, cx + 5, cy + 5), **more)


def image_of(*objects):
    return ImageAnnotation(image_id="1", image="1.jpg", width=100, height=200, objects=objects)


def ask(image, *, axis="horizontal", form="direct", **config):
    return list(build_spatial_records(image, axis=axis, form=form, config=SpatialConfig(**config)))


def questions(records):
    return [(record.queries[0].question, record.queries[0].answer) for record in records]


DOG_ALONE = image_of(at("dog", 0.2, 0.2), at("cat", 0.8, 0.8), at("bus", 0.9, 0.9))


def test_both_orders_are_asked_and_gold_is_the_side_of_the_object_asked_for():
    first, second = questions(ask(DOG_ALONE))
    other = "cat" if "cat" in first[0] else "bus"
    assert first == (f"Which side of {other} is dog located?", "left")
    assert second == (f"Which side of dog is {other} located?", "right")
    assert [answer for _, answer in questions(ask(DOG_ALONE, axis="vertical"))] == ["above", "below"]


def test_the_in_context_form_is_the_papers():
    direct, icl = ask(DOG_ALONE), ask(DOG_ALONE, form="icl")
    a, c = "dog", direct[0].source["reference"]
    b = ({"cat", "bus"} - {c}).pop()
    assert questions(icl) == [
        (
            f"Q: Which side of {a} is {b} located? A: The {a} is located to the left of {b}. "
            f"Q: Which side of {b} is {a} located? A: The {b} is located to the right of {a}. "
            f"Q: Which side of {c} is {a} located?",
            "left",
        ),
        (
            f"Q: Which side of {b} is {a} located? A: The {b} is located to the right of {a}. "
            f"Q: Which side of {a} is {b} located? A: The {a} is located to the left of {b}. "
            f"Q: Which side of {a} is {c} located?",
            "right",
        ),
    ]
    above = questions(ask(DOG_ALONE, axis="vertical", form="icl"))[0][0]
    assert "A: The dog is located above " in above
    assert " is located below dog." in above


def test_gold_by_the_exemplars_is_the_other_side():
    assert [a for _, a in questions(ask(DOG_ALONE, gold="exemplar"))] == ["right", "left"]
    assert questions(ask(DOG_ALONE, gold="exemplar"))[0][0] == questions(ask(DOG_ALONE))[0][0]
    with pytest.raises(ValueError, match="gold must be one of asked, exemplar, got 'paper'"):
        SpatialConfig(gold="paper")


@pytest.mark.parametrize(
    "objects",
    [
        (at("dog", 0.2, 0.5), at("cat", 0.8, 0.5)),  # two objects
        (at("dog", 0.2, 0.5), at("cat", 0.1, 0.5), at("bus", 0.3, 0.5)),  # all on one side
        (at("dog", 0.2, 0.5), at("cat", 0.8, 0.5), at("bus", 0.59, 0.5)),  # one in the middle fifth
        (at("dog", 0.2, 0.5), at("cat", 0.8, 0.5), at("cat", 0.9, 0.5)),  # not of different classes
        (at("dog", 0.2, 0.5), at("cat", 0.8, 0.5), at("bus", 0.9, 0.5, is_crowd=True)),
    ],
)
def test_images_that_do_not_qualify_ask_nothing(objects):
    assert ask(image_of(*objects)) == []


def test_the_middle_fifth_ends_at_a_tenth_from_the_middle():
    inside = image_of(at("dog", 0.2, 0.5), at("cat", 0.8, 0.5), at("bus", 0.6, 0.5))
    outside = image_of(at("dog", 0.2, 0.5), at("cat", 0.8, 0.5), at("bus", 0.61, 0.5))
    assert (len(ask(inside)), len(ask(outside))) == (0, 2)


def test_answers_are_balanced_and_either_side_can_hold_the_single_object():
    images = [
        ImageAnnotation(
            image_id=str(k),
            image=f"{k}.jpg",
            width=100,
            height=200,
            objects=(at("a", 0.1, 0.5), at("b", 0.2, 0.5), at("c", 0.8, 0.5), at("d", 0.9, 0.5)),
        )
        for k in range(60)
    ]
    records = [record for image in images for record in ask(image, form="icl")]
    answers = Counter(record.queries[0].answer for record in records)
    assert answers == {"left": 60, "right": 60}
    first = Counter(record.queries[0].answer for record in records[::2])
    assert min(first["left"], first["right"]) > 15
    assert len({record.id for record in records}) == 120


def test_the_released_filter_asks_in_one_direction_only():
    image = image_of(at("dog", 0.2, 0.2), at("cat", 0.3, 0.5), at("bus", 0.45, 0.9))
    assert questions(ask(image, release_filter=True)) == [
        ("Which side of dog is bus located?", "right"),  # dog 15-25, cat 25-35, bus 40-50
        ("Which side of cat is bus located?", "right"),
    ]
    vertical = ask(image, axis="vertical", release_filter=True)
    assert {record.queries[0].answer for record in vertical} == {"below"}
    with pytest.raises(ValueError, match="use it with --form direct"):
        ask(image, form="icl", release_filter=True)


def test_a_record_tells_axis_form_side_and_objects():
    record = ask(DOG_ALONE)[0]
    assert record.id == "1-horizontal-direct-0"
    assert (record.width, record.height, record.image) == (100, 200, "1.jpg")
    reference = record.source["reference"]
    assert record.source == {
        "image_id": "1",
        "axis": "horizontal",
        "form": "direct",
        "side": "left",
        "gold": "asked",
        "reference": reference,
        "asked": "dog",
        "boxes_px": {
            reference: [75, 155, 85, 165] if reference == "cat" else [85, 175, 95, 185],
            "dog": [15, 35, 25, 45],
        },
    }
    assert ask(DOG_ALONE, split="val2017")[0].source["split"] == "val2017"
