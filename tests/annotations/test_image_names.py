import json

import pytest

from locvlm.annotations.image_names import image_key, read_image_keys, read_visual_genome


def test_an_image_of_coco_is_the_same_under_both_names():
    names = (
        "COCO_val2014_000000310196.jpg",
        "val2017/000000310196.jpg",
        "train2014/COCO_train2014_000000310196.jpg",
    )
    assert {image_key(name) for name in names} == {"coco 310196"}
    assert image_key("000000310197.jpg") != image_key(names[0])
    assert image_key("images/n578564.jpg") == "n578564"
    assert image_key("2370799.jpg") == "2370799"  # Visual Genome's number is not COCO's


@pytest.mark.parametrize(
    "text",
    [
        "COCO_val2014_000000000009.jpg\n\n  n1.jpg\n",
        json.dumps(
            {"info": {}, "images": [{"id": 9, "file_name": "000000000009.jpg"}, {"file_name": "n1.jpg"}]}
        ),
        json.dumps({"images": [{"file_name": "000000000009.jpg"}, {"file_name": "n1.jpg"}]}, indent=1),
        '{"image": "000000000009.jpg", "label": "yes"}\n{"image": "n1.jpg"}\n{"image": null}\n',
        '{"image": "000000000009.jpg", "images": 3}\n{"image": "n1.jpg"}\n',
        json.dumps(
            [{"image": "train2017/000000000009.jpg"}, {"image": "n1.jpg"}, {"id": "text only"}], indent=1
        ),
    ],
)
def test_every_form_of_list_is_read(tmp_path, text):
    path = tmp_path / "list"
    path.write_text(text)
    assert read_image_keys(path) == {"coco 9", "n1"}


@pytest.mark.parametrize("content", [b"", b'{"image": 3}', b"[1]", b'{"image": "a.jpg"', b"\xff\xfe"])
def test_what_names_no_image_is_refused(tmp_path, content):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        read_image_keys(path)


def test_visual_genome_tells_which_of_its_images_are_cocos(tmp_path):
    path = tmp_path / "image_data.json"
    rows = [{"image_id": 2370799, "coco_id": 9, "url": "x"}, {"image_id": 1, "coco_id": None, "flickr_id": 3}]
    path.write_text(json.dumps(rows))
    assert read_visual_genome(path) == {image_key("2370799.jpg"): image_key("COCO_val2014_000000000009.jpg")}
    path.write_text(json.dumps([{"image_id": 1}]))
    with pytest.raises(ValueError, match=r"expected Visual Genome's image_data\.json"):
        read_visual_genome(path)


def test_a_real_pope_file_and_a_real_coco_file(shared_data):
    assert len(read_image_keys(shared_data / "pope" / "coco_pope_random.json")) == 20
    assert len(read_image_keys(shared_data / "coco" / "annotations" / "instances_val2017.json")) == 44
