import random
from dataclasses import replace

import pytest

from locvlm.answering.conventions import CONVENTIONS, find_convention, verbatim
from locvlm.coords.codec import build_codec
from locvlm.geometry import Box
from locvlm.objectives.locpred import PROMPTS
from locvlm.records import Query

RNG = random.Random(0)
WHERE = Query(objective="locpred", phrase="the {odd} cup", box_px=Box(10, 20, 30, 40))


@pytest.mark.parametrize("name", CONVENTIONS)
def test_words_hold_what_they_ask_about_and_what_is_written_is_read(name):
    contract, words = find_convention(name)
    assert contract is not None
    frame = contract.frame_for((200, 100))
    text = contract.write(WHERE.box_px, frame)
    assert "the {odd} cup" in words(WHERE, location_text=text, rng=RNG)
    absent = replace(WHERE, objective="negpred", box_px=None)
    assert words(absent, location_text=None, rng=RNG) == words(WHERE, location_text=text, rng=RNG)
    described = words(replace(WHERE, objective="revloc"), location_text=text, rng=RNG)
    assert text in described
    assert "odd" not in described
    read = contract.read(described, frame)
    assert isinstance(read, Box)
    error_px = build_codec(name, canvas=1, patch=1).max_error * 200
    assert max(abs(a - b) for a, b in zip(read, WHERE.box_px, strict=True)) <= error_px + 1e-9
    with pytest.raises(ValueError, match="needs its location"):
        words(replace(WHERE, objective="revloc"), location_text=None, rng=RNG)


def test_canvas_and_patch_of_a_convention_without_a_model_do_not_matter():
    for convention in CONVENTIONS.values():
        contracts = [convention.contract(), convention.contract(canvas=224, patch=14)]
        texts = {c.write(WHERE.box_px, c.frame_for((200, 100))) for c in contracts}
        assert len(texts) == 1


def test_a_model_without_a_convention_is_asked_what_the_data_set_asks_and_nothing_about_locations():
    assert find_convention("none") == (None, verbatim)
    assert verbatim(Query(objective="vqa", question="Why?"), location_text=None, rng=RNG) == "Why?"
    with pytest.raises(ValueError, match="no way of writing locations"):
        verbatim(WHERE, location_text=None, rng=RNG)


def test_a_checkpoint_of_ours_lends_its_contract_and_the_words_of_training(tiny_world):
    contract, words = find_convention(str(tiny_world.init))
    assert (contract.codec, contract.frame, contract.canvas) == ("ivb", "stretch", 56)
    question = words(replace(WHERE, phrase="cup"), location_text="-", rng=RNG)
    assert question in {p.format(category="cup", repr="(x1,y1,x2,y2) bbox") for p in PROMPTS}


@pytest.mark.parametrize("name", ["ferret", "llava-hf/llava-1.5-7b-hf", ""])
def test_an_unknown_convention_is_refused_with_the_list(name):
    with pytest.raises(ValueError, match=r"one of llava, kosmos2, shikra, thousand, none, or a checkpoint"):
        find_convention(name)


def test_a_folder_without_a_contract_lends_none(foreign):
    with pytest.raises(ValueError, match=r"whose config\.json holds locvlm\.contract"):
        find_convention(str(foreign("llava")))
