import json

import pytest

from locvlm.annotations.yes_no import read_yes_no

ROWS = [
    {
        "question_id": 1,
        "image": "COCO_val2014_000000000009.jpg",
        "text": "Is there a dog in the image?",
        "label": "yes",
    },
    {
        "question_id": 2,
        "image": "COCO_val2014_000000000025.jpg",
        "text": "Is there a cat in the image?",
        "label": "no",
    },
    {
        "question_id": 3,
        "image": "COCO_val2014_000000000009.jpg",
        "text": "Is there an apple in the imange?",
        "label": "No",
    },
]


def write(path, rows, *, as_array=False):
    path.write_text(json.dumps(rows, indent=1) if as_array else "\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("as_array", [False, True])
def test_both_published_forms_give_one_record_an_image(tmp_path, as_array):
    first, second = read_yes_no(write(tmp_path / "pope.json", ROWS, as_array=as_array))
    assert (first.id, first.image) == ("COCO_val2014_000000000009", "COCO_val2014_000000000009.jpg")
    assert [(q.question, q.category, q.answer, q.source) for q in first.queries] == [
        ("Is there a dog in the image?", "dog", "yes", {"question_id": 1}),
        ("Is there an apple in the imange?", "apple", "no", {"question_id": 3}),
    ]
    assert second.source == {"file": "pope.json"}


def test_a_question_of_another_form_has_no_category(tmp_path):
    (record,) = read_yes_no(write(tmp_path / "pope.json", [{**ROWS[0], "text": "Do you see a dog?"}]))
    assert (record.queries[0].category, record.queries[0].question) == ("", "Do you see a dog?")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "maybe"}, r'pope.json:2: the label must be "yes" or "no", got \'maybe\''),
        ({"label": None}, "pope.json:2: .*'label' = None"),
        ({"image": ""}, "pope.json:2: .*'image' = ''"),
        ({"question_id": 1}, "pope.json:2: the question_id 1 is there twice"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(tmp_path, change, message):
    path = write(tmp_path / "pope.json", [ROWS[0], {**ROWS[1], **change}])
    with pytest.raises(ValueError, match=message):
        list(read_yes_no(path))


def test_an_empty_file_and_one_that_is_no_json_are_refused(tmp_path):
    path = tmp_path / "pope.json"
    path.write_text("\n")
    with pytest.raises(ValueError, match="there are none"):
        list(read_yes_no(path))
    path.write_text("yes\n")
    with pytest.raises(ValueError, match=r"pope\.json:1: not valid JSON"):
        list(read_yes_no(path))
    with pytest.raises(ValueError, match="entry 1: expected a question, an object, got 3"):
        list(read_yes_no(write(path, [ROWS[0], 3], as_array=True)))


@pytest.mark.parametrize("setting", ["random", "popular", "adversarial"])
def test_real_pope_files(shared_data, setting):
    records = list(read_yes_no(shared_data / "pope" / f"coco_pope_{setting}.json"))
    queries = [query for record in records for query in record.queries]
    assert (len(records), len(queries)) == (20, 120)
    assert [query.answer for query in queries].count("yes") == 60
    assert all(query.category for query in queries)
    assert "Is there an umbrella in the image?" in {query.question for query in queries}
