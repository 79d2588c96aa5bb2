import pytest

from locvlm.building.captioning.captioner import Answer
from locvlm.building.captioning.clean import SHARED, UNNAMED
from locvlm.building.captioning.sift import SiftRules, sift
from locvlm.geometry import Box
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation, ObjectAnnotation


def image_of(*categories: str) -> ImageAnnotation:
    objects = tuple(ObjectAnnotation(category=name, box_px=Box(1, 2, 30, 40)) for name in categories)
    return ImageAnnotation(image_id="7", image="7.jpg", width=64, height=48, objects=objects)


def sifted(image, *texts: str, **rules) -> tuple[list[tuple[str, str]], dict[str, int]]:
    ledger = Ledger("descriptions")
    kept = sift(image, [Answer(text=text) for text in texts], SiftRules(**rules), ledger)
    return [(d.item.category, d.text) for d in kept], dict(ledger.dropped)


def test_each_object_keeps_the_description_of_its_own():
    kept, dropped = sifted(image_of("dog", "cat"), "A dog by the door.", "The cat. It sleeps.")
    assert kept == [("dog", "A dog by the door"), ("cat", "The cat")]
    assert dropped == {}


def test_what_is_said_of_several_objects_describes_none_of_them():
    same = "A dog and a cat"
    kept, dropped = sifted(image_of("dog", "cat", "cow"), f"{same}.", same.upper(), "a cow")
    assert kept == [("cow", "a cow")]
    assert dropped == {SHARED: 2}


def test_also_if_only_one_of_them_could_be_meant():
    kept, dropped = sifted(image_of("dog", "cow"), "a dog", "a dog")
    assert kept == []
    assert dropped == {SHARED: 1, UNNAMED: 1}


def test_all_sentences_count_if_asked_for():
    assert sifted(image_of("cat"), "It sleeps. A cat.")[0] == []
    assert sifted(image_of("cat"), "It sleeps. A cat.", whole=True)[0] == [("cat", "It sleeps. A cat")]
    assert sifted(image_of("cat"), "a cat on a mat", max_words=4)[0] == []


def test_a_limit_of_no_words_is_refused():
    with pytest.raises(ValueError, match="max_words must be 1 or more"):
        SiftRules(max_words=0)
