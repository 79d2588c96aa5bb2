"""Image-caption pairs: the fast reader and the plain one agree, on what they read and on what they refuse."""

import json

import pytest

from locvlm.annotations.image_text import read_image_text
from locvlm.io import Ledger


def entry(number, question="<image>\nBriefly.", answer="a dog", **more):
    messages = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": f"c{number}", "image": f"{number}.jpg", "conversations": messages, **more}


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


def read(path, fast):
    """What is read and dropped, or the message of the error."""
    ledger = Ledger("captions")
    try:
        return list(read_image_text(path, ledger, fast=fast)), ledger.to_dict()
    except ValueError as error:
        return str(error)


EVERY_KIND = [
    entry(0),
    entry(1, question="Briefly.\n<image>", answer="  two\n words "),
    entry(2, id=7),
    without(entry(3), "id"),
    entry(4, answer="   "),  # dropped: empty
    entry(5, id="c0", answer="another"),  # dropped: the id is there twice
    entry(6, model="blip", extra={"deep": [1, None]}),
    {**entry(7), "conversations": [*entry(7)["conversations"], *entry(7, "And?", "é 🐕")["conversations"]]},
    {**entry(8), "conversations": [{"from": "gpt", "value": "Hi"}, *entry(8)["conversations"]]},
]


@pytest.mark.parametrize("fast", [True, False])
def test_pairs_are_read_and_drops_are_counted(tmp_path, fast):
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(EVERY_KIND))
    images, ledger = read(path, fast)
    third = f"{path}: entry 3"
    assert [image.image_id for image in images] == ["c0", "c1", "7", third, "c6", "c7", "c8"]
    assert [image.image for image in images] == [f"{k}.jpg" for k in (0, 1, 2, 3, 6, 7, 8)]
    assert images[1].captions == ("two words",)
    assert images[5].captions == ("é 🐕",)
    assert (images[0].width, images[0].height) == (0, 0)
    reasons = {reason: found["examples"] for reason, found in ledger["reasons"].items()}
    assert reasons == {"empty caption": ["c4"], "id is there twice": ["c0 (5.jpg)"]}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (entry(1, image=["1.jpg"]), None),  # one image in a list is read
        (entry(1, image=["1.jpg", "2.jpg"]), "entry 1: 2 images in one conversation are not supported"),
        (without(entry(1), "image"), 'entry 1: the conversation holds <image> but the entry has no "image"'),
        (without(entry(1, question="?"), "image"), "entry 1: expected an image with its caption"),
        (entry(1, image=""), 'entry 1: "image" must be a path'),
        (entry(1, question="no placeholder"), "entry 1: the entry has an image, so its first human turn"),
        (entry(1, answer=""), "entry 1: an answer is empty"),
        (entry(1, answer="see <image>"), "entry 1: 2 images in one conversation"),
        (entry(1, conversations=[]), "entry 1: turns must alternate"),
        (entry(1, answer=5), 'entry 1: message 1 must have "from" and "value" as text'),
        ("text", "entry 1: expected an object"),
    ],
)
def test_what_the_fast_reader_does_not_know_is_read_or_refused_like_the_plain_one_does(
    tmp_path, odd, message
):
    path = tmp_path / "chat.json"
    path.write_text(json.dumps([entry(0), odd]))
    found = read(path, fast=True)
    assert found == read(path, fast=False)
    if message is None:
        assert len(found[0]) == 2
    else:
        assert message in found


@pytest.mark.parametrize("text", ["[", '[{"id": NaN}]', "[1, 2", "", '"text"', "[\udcff]"])
def test_files_that_are_no_json_get_one_message_from_both(tmp_path, text):
    path = tmp_path / "chat.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    found = read(path, fast=True)
    assert found == read(path, fast=False)
    assert isinstance(found, str)


def test_json_lines_are_read_line_by_line(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in EVERY_KIND[:3]))
    images, _ = read(path, fast=True)
    assert [image.image_id for image in images] == ["c0", "c1", "7"]


def test_an_instances_file_is_not_taken_for_captions(tmp_path):
    path = tmp_path / "instances.json"
    image = {"id": 1, "file_name": "1.jpg", "width": 4, "height": 4}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}
    path.write_text(json.dumps({"images": [image], "annotations": [box], "categories": []}))
    assert "no 'caption'; expected a captions file" in read(path, fast=True)
