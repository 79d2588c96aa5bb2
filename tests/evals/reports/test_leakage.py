"""Images that were trained on are known again under their other names, and others never."""

import json

import pytest

from locvlm.evals.parse import YesNo
from locvlm.evals.reports.leakage import read_trained_on, split_by_training
from locvlm.io import write_records
from locvlm.records import Query, Record


@pytest.fixture
def about(judged):
    """about("a.jpg"): a question about the image."""
    return lambda image: judged(YesNo(True), image=image, answer="yes")


def test_an_image_of_val2014_is_known_among_those_of_train2017(tmp_path, about):
    (tmp_path / "names.txt").write_text("train2017/000000000042.jpg\n000000000139.jpg\n")
    names = [
        "COCO_val2014_000000000042.jpg",
        "COCO_val2014_000000000043.jpg",
        "val2017/000000000139.jpg",
        None,
    ]
    clean, seen = split_by_training(
        [about(name) for name in names], read_trained_on([tmp_path / "names.txt"])
    )
    assert [row.prediction.image for row in seen] == [names[0], names[2]]
    assert [row.prediction.image for row in clean] == [names[1], None]


def test_records_manifests_and_other_lists_name_images(tmp_path, about):
    query = Query(objective="negpred", phrase="kite")
    write_records(tmp_path / "a.jsonl", [Record(id="a", image="n1.jpg", width=9, height=9, queries=(query,))])
    (tmp_path / "a.jsonl.manifest.json").write_text("{}")
    (tmp_path / "llava.json").write_text(json.dumps([{"id": "b", "image": "gqa/images/77.jpg"}, {"id": "c"}]))
    trained_on = read_trained_on([tmp_path / "a.jsonl.manifest.json", tmp_path / "llava.json"])
    assert trained_on.knows(about("images/n1.jpg"))
    assert trained_on.knows(about("77.png"))
    assert not trained_on.knows(about("78.jpg"))


def test_visual_genome_tells_which_images_are_cocos(tmp_path, about):
    (tmp_path / "names.txt").write_text("COCO_train2014_000000000042.jpg\n2315.jpg\n")
    entries = [
        {"image_id": 7, "coco_id": 42},
        {"image_id": 8, "coco_id": None},
        {"image_id": 2315, "coco_id": 43},
    ]
    (tmp_path / "image_data.json").write_text(json.dumps(entries))
    trained_on = read_trained_on([tmp_path / "names.txt"], tmp_path / "image_data.json")
    assert trained_on.knows(about("7.jpg"))
    assert trained_on.knows(about("val2017/000000000043.jpg"))  # trained on under Visual Genome's name
    assert not trained_on.knows(about("8.jpg"))
    assert not read_trained_on([tmp_path / "names.txt"]).knows(about("7.jpg"))


def test_places_in_a_set_are_no_names(tmp_path, about):
    (tmp_path / "world.txt").write_text("000000.jpg\n000017.jpg\n")
    with pytest.raises(ValueError, match=r"world\.txt only numbers its images, as 000000 does.*leave it out"):
        read_trained_on([tmp_path / "world.txt"])
    (tmp_path / "mixed.txt").write_text("000017.jpg\ndog.jpg\n")
    trained_on = read_trained_on([tmp_path / "mixed.txt"])
    assert not trained_on.knows(about("000017.jpg"))
    assert trained_on.knows(about("dog.png"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*gone\.jsonl; --trained-on takes record files"):
        read_trained_on([tmp_path / "gone.jsonl"])
    with pytest.raises(ValueError, match=r"no file .*gone\.jsonl;"):
        read_trained_on([tmp_path / "gone.jsonl.manifest.json"])
