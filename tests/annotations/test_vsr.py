import json

import pytest

from locvlm.annotations.vsr import KINDS, read_vsr

ROW = {
    "image": "000000239417.jpg",
    "image_link": "http://images.cocodataset.org/train2017/000000239417.jpg",
    "caption": "The bench is at the right side of the train.",
    "label": 0,
    "relation": "at the right side of",
}


def write(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_captions_of_an_image_are_one_record(tmp_path):
    other = {**ROW, "caption": "The train is upon the bench.", "label": 1, "relation": "upon"}
    path = write(tmp_path / "test.jsonl", ROW, {**ROW, "image": "1.jpg"}, other)
    record, second = read_vsr(path)
    assert (record.id, record.image, record.width) == ("000000239417", "000000239417.jpg", 0)
    assert [(q.question, q.answer) for q in record.queries] == [
        (ROW["caption"], "false"),
        (other["caption"], "true"),
    ]
    assert record.queries[0].source == {
        "question_id": 1,
        "options": ["true", "false"],
        "relation": "at the right side of",
        "relation_kind": "adjacency",
    }
    assert record.queries[1].source["relation_kind"] == "unallocated"  # a word that no kind has
    assert second.image == "1.jpg"


def test_the_link_tells_in_which_of_cocos_folders_an_image_is(tmp_path):
    [record] = read_vsr(write(tmp_path / "test.jsonl", ROW), folders="splits")
    assert (record.id, record.image) == ("000000239417", "train2017/000000239417.jpg")
    path = write(tmp_path / "test.jsonl", {**ROW, "image_link": "http://x.org/239417.jpg"})
    with pytest.raises(ValueError, match=r"test\.jsonl:1: image_link must name train2017 or val2017"):
        list(read_vsr(path, folders="splits"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "the label must be 0 .false. or 1 .true., got 2"),
        ({"label": "1"}, "got '1'"),
        ({"label": None}, "got None"),
        ({"caption": " "}, "got 'caption' = ' '"),
        ({"image": 3}, "got 'image' = 3"),
        ({"relation": None}, "got 'relation' = None"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"test\.jsonl:2: .*{message}"):
        list(read_vsr(write(tmp_path / "test.jsonl", ROW, {**ROW, **change})))
    with pytest.raises(ValueError, match="there are none"):
        list(read_vsr(write(tmp_path / "empty.jsonl")))


def test_the_real_file_and_its_kinds_of_relations(shared_data):
    records = list(read_vsr(shared_data / "vsr" / "random_dev.jsonl"))
    queries = [query for record in records for query in record.queries]
    assert (len(records), len(queries)) == (1017, 1097)
    assert sum(query.answer == "true" for query in queries) == 564
    published = {}
    for line in (shared_data / "vsr" / "rel_meta_category_dict.txt").read_text().splitlines():
        kind, _, words = line.partition(":")
        for word in filter(None, map(str.strip, words.split(","))):
            published.setdefault(word, kind.lower())  # a word named twice is of the first kind
    assert {word: kind for kind, words in KINDS.items() for word in words} == published
