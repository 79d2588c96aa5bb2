import json
from collections import Counter
from pathlib import Path

import pytest

from locvlm.annotations.whatsup import Caption, read_caption, read_whatsup, read_whatsup_pairs

RELATIONS = ("to the left of", "to the right of", "on", "under")


def entry(first=0, folder="controlled_images", relations=RELATIONS):
    """An image of a mug relative to a table, whose right caption has relation number `first`."""
    name = relations[first].replace("to the ", "").replace(" ", "_")
    captions = [f"A mug {relation} a table" for relation in relations]
    order = [captions[first], *(text for text in captions if text != captions[first])]
    return {"image_path": f"data/{folder}/mug_{name}_table.jpeg", "caption_options": order}


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A mug to the right of a knife", ("mug", "knife", "right")),
        ("A beer bottle on a armchair", ("beer bottle", "armchair", "on")),
        ("A mug in front of a plate.", ("mug", "plate", "front")),
        ("A photo of a dining table on the bottom", ("dining table", "", "bottom")),
        ("A photo of a TV on the left", ("TV", "", "left")),
        ("A photo of a dog below a bench", ("dog", "bench", "below")),
        ("A photo of the cart to the front of the green trees", ("cart", "green trees", "front")),
        ("a photo of green trees on top of a hill", ("green trees", "hill", "above")),
    ],
)
def test_captions_name_objects_and_their_relation(caption, expected):
    assert read_caption(caption) == Caption(
        **dict(zip(("first", "second", "relation"), expected, strict=True))
    )


@pytest.mark.parametrize(
    "caption", ["", "A mug", "A mug beside a table", "A photo of a mug on the table top left"]
)
def test_other_captions_are_not_read_as_something_else(caption):
    assert read_caption(caption) in (None, Caption(first="mug", second="table top left", relation="on"))


def test_two_way_questions_are_those_of_the_paper(tmp_path):
    rows = [entry(first) for first in range(4)]
    asked = [record.queries[0] for record in read_whatsup(write(tmp_path / "a.json", rows))]
    sides = "Is the mug to the left of or to the right of the table? Answer left or right."
    layers = "Is the mug on or under the table? Choose from the two options."
    assert [(q.question, q.answer) for q in asked] == [
        (sides, "left"),
        (sides, "right"),
        (layers, "on"),
        (layers, "under"),
    ]
    assert [q.source["options"] for q in asked] == [["left", "right"]] * 2 + [["on", "under"]] * 2
    assert [q.source["group"] for q in asked] == ["mug/table/left"] * 2 + ["mug/table/on"] * 2
    assert {q.source["set"] for q in asked} == {"mug/table"}


def test_four_way_questions_offer_all_relations_in_one_order(tmp_path):
    [record] = read_whatsup(write(tmp_path / "a.json", [entry(2)]), form="four-way")
    assert (record.id, record.image) == ("mug_on_table", "controlled_images/mug_on_table.jpeg")
    assert record.queries[0].source["options"] == ["left", "right", "on", "under"]
    assert record.queries[0].answer == "on"


def test_captions_are_offered_in_an_order_that_the_seed_and_the_image_draw(tmp_path):
    """Option 0 of the file is always right; among equally likely ones the first would be taken."""
    rows = [entry(0) | {"image_path": f"data/controlled_images/{i}.jpeg"} for i in range(400)]
    path = write(tmp_path / "a.json", rows)
    records = list(read_whatsup(path, form="captions"))
    places = Counter(q.source["options"].index(q.answer) for record in records for q in record.queries)
    assert set(places) == {0, 1, 2, 3}
    assert all(70 < number < 130 for number in places.values())  # 100 each, 3.5 standard deviations
    alone = write(tmp_path / "b.json", rows[5:6])
    assert next(read_whatsup(alone, form="captions")).queries == records[5].queries
    assert list(read_whatsup(path, form="captions", seed=1)) != records


def test_the_real_file_has_whole_pairs_and_only_relations_of_subset_b(shared_data):
    path = shared_data / "whatsup" / "controlled_clevr_dataset.json"
    asked = [record.queries[0] for record in read_whatsup(path)]
    assert len(asked) == 80
    assert {q.source["axis"] for q in asked} == {"left-right", "front-behind"}
    assert {q.answer for q in asked} == {"left", "right", "front", "behind"}
    assert any("in front of or behind the" in q.question for q in asked)
    # the authors tell pairs by file names: mug_right_of_knife
    names = [Path(row["image_path"]).stem.split("_") for row in json.loads(path.read_text())]
    expected = Counter((name[0], name[-1], name[1] in ("left", "right")) for name in names)
    found = Counter((*q.source["set"].split("/"), q.source["axis"] == "left-right") for q in asked)
    assert found == expected
    assert Counter(expected.values()) == {1: 62, 2: 9}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image_path": "a.jpeg"}], "entry 0: expected image_path and four different caption_options"),
        ([{**entry(), "caption_options": ["A mug on a table"] * 4}], "four different"),
        ([entry(), entry()], "entry 1: the image .* is there twice"),
        ([entry(relations=("beside", "near", "on", "under"))], "expected captions of What'sUp A"),
        ([], "expected a list of images"),
        ({"a": 1}, "expected a list of images"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, rows, message):
    with pytest.raises(ValueError, match=rf"a\.json.*{message}"):
        list(read_whatsup(write(tmp_path / "a.json", rows)))


def test_pairs_ask_for_the_right_relation_or_the_wrong_one(tmp_path):
    one = [397133, "A photo of a dining table on the bottom", "A photo of a dining table on the top"]
    two = [37777, "A photo of a dog to the left of a bench", "A photo of a dog to the right of a bench"]
    records = list(read_whatsup_pairs(write(tmp_path / "coco.json", [one, two, one]), images="coco"))
    assert [record.image for record in records] == ["000000397133.jpg", "000000037777.jpg"]
    assert len(records[0].queries) == 2
    [query] = records[1].queries
    wordings = {
        "left": "Is the dog to the left of a bench or to the right of a bench? Give a short answer.",
        "right": "Is the dog to the right of a bench or to the left of a bench? Give a short answer.",
    }
    assert query.question == wordings[query.source["options"][0]]
    assert query.answer == "left"
    for query in records[0].queries:
        first, second = query.source["options"]
        assert (
            query.question == f"Is the dining table on the {first} or on the {second}? Give a short answer."
        )


def test_gqas_depth_is_asked_in_the_papers_words(tmp_path):
    row = [2354786, "A photo of a cart in front of a tree", "A photo of a cart behind a tree"]
    [record] = read_whatsup_pairs(write(tmp_path / "gqa.json", [row]), images="gqa")
    assert record.image == "2354786.jpg"
    assert record.queries[0].answer == "front"
    wordings = {
        "front": "Is the cart to the front of a tree or to the behind of a tree? Give a short answer.",
        "behind": "Is the cart to the behind of a tree or to the front of a tree? Give a short answer.",
    }
    assert record.queries[0].question == wordings[record.queries[0].source["options"][0]]


def test_which_relation_is_named_first_is_a_fair_draw_that_only_the_row_decides(tmp_path):
    rows = [[i, "A photo of a dog on the left", "A photo of a dog on the right"] for i in range(400)]
    path = write(tmp_path / "coco.json", rows)
    firsts = [r.queries[0].source["options"][0] for r in read_whatsup_pairs(path, images="coco")]
    assert 160 < firsts.count("left") < 240  # 200, 4 standard deviations
    again = [r.queries[0].source["options"][0] for r in read_whatsup_pairs(path, images="coco")]
    assert again == firsts
    other = [r.queries[0].source["options"][0] for r in read_whatsup_pairs(path, images="coco", seed=1)]
    assert other != firsts


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, "A photo of a dog on the left"], r"expected \[image id, right caption, wrong caption\]"),
        ([1, "A photo of a dog on the left", "A photo of a cat on the right"], "the same objects"),
        ([1, "A dog", "A cat"], "the same objects"),
    ],
)
def test_a_wrong_pair_is_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=rf"coco\.json: entry 0: .*{message}"):
        list(read_whatsup_pairs(write(tmp_path / "coco.json", [row]), images="coco"))
