import random
import re

import pytest

from locvlm.world.pretraining.text import Dialogue, document, random_things, tokenizer_lines
from locvlm.world.shapes import CLASSES

TALK = Dialogue(
    frame="Talk. USER: {question} ASSISTANT: ",
    later="USER: {question} ASSISTANT: ",
    end="</s>",
    where=("Where is {category} as {repr}?",),
    located="At {loc}",
    absent="Nowhere",
    what=("What is at {loc}?",),
    found="A {category}.",
    representation="box",
)


def test_layouts_hold_distinct_classes_inside_the_canvas():
    for seed in range(200):
        things = random_things(random.Random(seed))
        assert len({t.category for t in things}) == len(things)
        for t in things:
            assert 0 <= t.box[0] < t.box[2] <= 1
            assert 0 <= t.box[1] < t.box[3] <= 1


def test_answers_about_a_listing_are_right():
    asked = {"where": 0, "absent": 0, "what": 0}
    for seed in range(300):
        text = document(random.Random(seed), 96, TALK)
        if not text.startswith("Talk.") or "Describe it." in text:
            continue
        listing = text.split("\nW")[0].split("\nHow")[0]
        for name, answer in re.findall(r"Where is ([a-z ]+) as box\? ASSISTANT: ([^<]+)</s>", text):
            if answer == "Nowhere":
                asked["absent"] += 1
                assert not re.search(rf"\b{name}\b", listing)
            else:
                asked["where"] += 1
                assert answer.removeprefix("At ") in listing
                assert name in listing
        for box, answer in re.findall(r"What is at (\([\d, ]+\))\? ASSISTANT: A ([^<]+)\.</s>", text):
            asked["what"] += 1
            assert box in listing
            assert answer in listing
    assert min(asked.values()) > 30


def test_sums_are_right():
    rng, checked = random.Random(0), 0
    for _ in range(400):
        text = document(rng, 96, TALK)
        for listed, small, large in re.findall(
            r"smallest of ([\d, ]+) is (\d+) and the largest is (\d+)", text
        ):
            numbers = [int(v) for v in listed.split(", ")]
            assert (min(numbers), max(numbers)) == (int(small), int(large))
            checked += 1
        for a, middle, b in re.findall(r"Halfway between (\d+) and (\d+) is (\d+)", text):
            assert abs((int(a) + int(middle)) / 2 - int(b)) <= 0.5
    assert checked > 5


def test_measures_are_those_of_the_box_as_it_is_written():
    checked = 0
    for seed in range(400):
        said = re.findall(
            r"is at \((\d+), (\d+), (\d+), (\d+)\)\. Its left edge is at (\d+) and its right edge at (\d+)",
            document(random.Random(seed), 96, TALK),
        )
        for x1, _, x2, _, left, right in said:
            assert (x1, x2) == (left, right)
            checked += 1
    assert checked > 5


def test_text_is_seeded_and_names_every_class():
    lines = list(tokenizer_lines(random.Random(1), 600, 96, TALK))
    assert lines == list(tokenizer_lines(random.Random(1), 600, 96, TALK))
    joined = "\n".join(lines)
    assert all(name in joined for name in CLASSES)
    with pytest.raises(KeyError):  # a prompt with an unknown slot is the caller's mistake, not silent text
        list(tokenizer_lines(random.Random(0), 50, 96, Dialogue(**{**fields(), "where": ("{what}?",)})))


def fields():
    return {name: getattr(TALK, name) for name in TALK.__dataclass_fields__}
