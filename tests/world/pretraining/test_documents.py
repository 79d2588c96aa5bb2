import random
import re

import pytest

from locvlm.coords.ivb import IVB
from locvlm.world.backbones import VISION
from locvlm.world.pretraining import documents, layout_tokens
from locvlm.world.pretraining.documents import ANSWER, DECISION, SLOT, absent_classes, apart, mixture
from locvlm.world.pretraining.layout_tokens import thing_token
from locvlm.world.scenes import overlap_share
from locvlm.world.shapes import CLASSES


@pytest.fixture
def unmistaken(monkeypatch):
    """No token takes its thing for something else."""

    def make(thing, rng, *, center=None, mistaken=0.0):
        return thing_token(thing, rng, center=center, mistaken=0.0)

    for module in (documents, layout_tokens):
        monkeypatch.setattr(module, "thing_token", make)


def things_shown(doc):
    """Class -> box of the layout tokens."""
    return {token.word: token.box for _, token in doc.slots if token.box is not None}


def supervised(doc):
    return [k for k, weight in enumerate(doc.weights) if weight >= ANSWER]


def of_kind(writer, kind, seed):
    return writer.write_kind(kind, random.Random(seed), (2, 3))


@pytest.mark.parametrize("kind", documents.EARLY)
def test_documents_are_seeded_and_their_slots_hold_the_layout_tokens(writer, kind):
    for seed in range(10):
        doc = of_kind(writer, kind, seed)
        assert doc.ids == of_kind(writer, kind, seed).ids
        assert len(doc.ids) == len(doc.weights)
        assert all(doc.ids[k] == SLOT and doc.weights[k] == 0 for k, _ in doc.slots)
        assert (kind in ("recall", "list_dialogue", "text")) == (not doc.slots)


@pytest.mark.parametrize("kind", ["set_dialogue", "grid_dialogue"])
def test_answers_about_a_layout_are_right(writer, decode, unmistaken, monkeypatch, kind):
    checked = {"where": 0, "absent": 0, "what": 0}
    codec = IVB(num_bins=VISION.canvas)
    monkeypatch.setattr(documents, "NOTATIONS", {"ivb": 1, "nfp": 0, "diga": 0})
    for seed in range(60):
        doc = of_kind(writer, kind, seed)
        boxes = things_shown(doc)
        text = decode([1 if k == SLOT else k for k in doc.ids])
        for name, answer in re.findall(
            r"(?:described|described the) (" + "|".join(CLASSES) + r")\b.{0,60}?ASSISTANT: (It is located at "
            r"\([\d, ]+\)|There is no such object)",
            text,
        ):
            if answer.startswith("It"):
                said = codec.decode(answer, "bbox")
                assert max(abs(a - b) for a, b in zip(said, boxes[name], strict=True)) <= codec.max_error
                checked["where"] += 1
            else:
                assert name not in boxes
                checked["absent"] += 1
        for place, name in re.findall(r"(\(\d[\d, ]+\))[^()]*\? ASSISTANT: There is a ([a-z ]+)\.", text):
            said = codec.decode(place, "bbox")
            assert max(abs(a - b) for a, b in zip(said, boxes[name], strict=True)) <= codec.max_error
            checked["what"] += 1
    assert min(checked.values()) > 15, checked


def test_sides_are_told_right(writer, decode, unmistaken):
    seen = set()
    for seed in range(200):
        doc = of_kind(writer, "grid_dialogue", seed)
        boxes = things_shown(doc)
        text = decode([1 if k == SLOT else k for k in doc.ids])
        names = "(" + "|".join(CLASSES) + ")"
        sides = "(to the left of|to the right of|above|below)"
        for asked, side, reference in re.findall(rf"The {names} is {sides} the {names}\.", text):
            across, down = (sum(boxes[asked][k::2]) - sum(boxes[reference][k::2]) for k in (0, 1))
            told = {"left": across < 0, "right": across > 0, "above": down < 0, "below": down > 0}
            assert told[side.split()[-2] if side.startswith("to") else side]
            seen.add(side)
    assert len(seen) == 4


def test_documents_are_written_in_every_notation(writer, decode):
    forms = (r"\(0\.\d{4}(, [01]\.\d{4}){3}\)", r"\(\d+(, \d+){3}\)", r"\(\d(, -?\d+){5}\)")
    found = dict.fromkeys(forms, 0)
    for seed in range(60):
        text = decode([1 if k == SLOT else k for k in of_kind(writer, "singles", seed).ids])
        matching = [form for form in forms if re.search(form, text)]
        assert len(matching) <= 1  # a document keeps to one
        for form in matching:
            found[form] += 1
    assert min(found.values()) >= 5


def test_the_first_token_of_a_where_answer_weighs_more(writer, encode, talk):
    sides = {piece for words in documents.SIDE_WORDS for said in words for piece in encode(said)}
    decisions = {encode(talk.located)[0], encode(talk.absent)[0]}
    seen = set()
    for seed in range(100):
        doc = of_kind(writer, "grid_dialogue", seed)
        heavy = {doc.ids[k] for k, weight in enumerate(doc.weights) if weight == DECISION}
        assert heavy <= decisions | sides
        seen |= heavy
    assert seen == decisions | sides


def test_a_prompt_goes_on_as_the_model_s_tokenizer_goes_on(writer, encode, talk):
    """After an image and a line's end a question begins without a space, unlike a text of its own."""
    doc, _ = writer.lookup(random.Random(0), 2, layout="grid")
    after = doc.ids[doc.slots[-1][0] + 1 :]
    assert after[0] == encode("\n")[-1]
    assert after[1] not in {encode(prompt)[0] for prompt in talk.where}


def test_a_lookup_ends_where_the_answer_begins(writer, decode):
    for layout in ("list", "grid"):
        doc, thing = writer.lookup(random.Random(1), 3, layout=layout)
        text = decode([1 if k == SLOT else k for k in doc.ids])
        assert text.endswith("ASSISTANT:")
        assert thing.category in text


def test_what_a_list_repeats_is_supervised(writer, decode):
    doc = of_kind(writer, "recall", 3)
    assert 0.4 < len(supervised(doc)) / len(doc.ids) < 0.6


def test_the_mixture_turns_from_single_things_to_grids():
    assert mixture(0.0) == documents.EARLY
    assert mixture(1.0) == documents.LATER
    shares = [mixture(p / 20)["grid_dialogue"] for p in range(21)]
    assert shares == sorted(shares)


def test_no_thing_of_a_grid_hides_another():
    for seed in range(100):
        things = apart(random.Random(seed), (4,))
        pairs = [(a, b) for k, a in enumerate(things) for b in things[k + 1 :]]
        assert all(overlap_share(a.box, b.box) <= documents.OVERLAP for a, b in pairs)


def test_absent_classes_are_absent():
    things = apart(random.Random(0), (4,))
    assert not {t.category for t in things}.intersection(absent_classes(random.Random(0), things, 30))
