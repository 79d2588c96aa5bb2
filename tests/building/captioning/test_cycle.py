import pytest

from locvlm.building.captioning.captioner import Answer
from locvlm.building.captioning.cycle import (
    ELSEWHERE,
    NO_BOX,
    NOT_SHOWN,
    CycleCheck,
    cycle_prompts,
    found_again,
)
from locvlm.building.captioning.sift import Described
from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import Box
from locvlm.io import Ledger
from locvlm.records import ImageAnnotation, ObjectAnnotation

WIDE = (400, 100)  # stretched, and padded or cropped to a square: other places on the canvas
BOX = Box(200, 20, 280, 90)
NARROW = Box(5, 20, 60, 90)  # beyond the square in the middle


def image() -> ImageAnnotation:
    objects = (
        ObjectAnnotation(category="dog", box_px=BOX),
        ObjectAnnotation(category="cat", box_px=NARROW),
    )
    return ImageAnnotation(image_id="7", image="7.jpg", width=WIDE[0], height=WIDE[1], objects=objects)


def described() -> list[Described]:
    return [Described(item=item, text=f"a {item.category} by the door") for item in image().objects]


def check_with(frame="stretch", codec="ivb", location="bbox", **options) -> CycleCheck:
    contract = CoordinateContract(canvas=224, patch=14, frame=frame, codec=codec, location=location)
    return CycleCheck(model=None, contract=contract, **{"min_iou": 0.5, **options})


def said(check: CycleCheck, box: Box) -> str:
    """What a model that sees the box at this place of the image answers."""
    return f"It is located at {check.contract.write(box, check.contract.frame_for(WIDE))}"


def result(check: CycleCheck, *texts: str) -> tuple[list[str], dict[str, int]]:
    ledger = Ledger("descriptions")
    kept = found_again(image(), described(), [Answer(text=text) for text in texts], check, ledger)
    return [d.item.category for d in kept], dict(ledger.dropped)


@pytest.mark.parametrize("codec", ["ivb", "nfp", "diga"])
@pytest.mark.parametrize("frame", ["stretch", "pad"])
def test_boxes_are_read_by_the_contract_of_the_model(frame, codec):
    check = check_with(frame, codec, min_iou=0.8)
    assert result(check, said(check, BOX), said(check, NARROW)) == (["dog", "cat"], {})
    assert result(check, said(check, NARROW), said(check, BOX)) == ([], {ELSEWHERE: 2})


def test_a_box_of_another_frame_is_elsewhere():
    padded, stretched = check_with("pad"), check_with("stretch")
    assert result(padded, said(stretched, BOX), said(padded, NARROW)) == (["cat"], {ELSEWHERE: 1})


def test_an_object_that_the_frame_does_not_show_cannot_be_found():
    check = check_with("crop")  # the middle 100 pixels: half of the dog, nothing of the cat
    half = Box(200, 20, 250, 90)
    assert result(check, said(check, half), "(0, 0, 5, 5)") == (["dog"], {NOT_SHOWN: 1})


@pytest.mark.parametrize("text", ["", "There is no such object in the image", "(1, 2)", "(900, 1, 2, 3)"])
def test_an_answer_without_a_box_finds_nothing(text):
    check = check_with()
    assert result(check, text, said(check, NARROW)) == (["cat"], {NO_BOX: 1})


def test_the_threshold_is_an_overlap():
    check = check_with(min_iou=0.4)
    shifted = Box(240, 20, 320, 90)  # 40 of 120 pixels in common
    assert result(check, said(check, shifted), said(check, NARROW))[0] == ["cat"]
    assert result(check_with(min_iou=0.3), said(check, shifted), said(check, NARROW))[0] == ["dog", "cat"]


def test_objects_are_asked_for_in_the_words_of_training_drawn_by_seed_and_object():
    first, second = cycle_prompts(image(), described(), check_with())
    assert "a dog by the door" in first
    assert "a cat by the door" in second
    assert "(x1,y1,x2,y2) bbox" in first
    assert cycle_prompts(image(), described()[1:], check_with()) == (second,)
    wordings = {cycle_prompts(image(), described()[:1], check_with(seed=seed)) for seed in range(40)}
    assert len(wordings) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_iou": 0.0}, "above 0 and up to 1"),
        ({"min_iou": 1.5}, "above 0 and up to 1"),
        ({"location": "point"}, "this model's contract has points"),
    ],
)
def test_what_cannot_be_checked_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        check_with(**options)
