import json

import pytest

from locvlm.annotations.vqa import (
    SHORT_ANSWER,
    most_frequent,
    read_gqa,
    read_llava_questions,
    read_vqav2,
    records_of_questions,
)
from locvlm.io import Ledger, record_from_json, record_to_json


def vqav2_files(folder, *, subtype="train2014", num=3):
    questions = [
        {"question_id": 10 + k, "image_id": 1 + k // 2, "question": f" What is {k}? "} for k in range(num)
    ]
    annotations = [
        {
            "question_id": 10 + k,
            "image_id": 1 + k // 2,
            "question_type": "what is",
            "answer_type": "other",
            "answers": [{"answer": f"a{k}", "answer_id": n, "answer_confidence": "yes"} for n in range(10)],
        }
        for k in reversed(range(num))
    ]
    paths = folder / "questions.json", folder / "annotations.json"
    for path, name, rows in zip(paths, ("questions", "annotations"), (questions, annotations), strict=True):
        path.write_text(json.dumps({"info": {}, "data_subtype": subtype, name: rows}))
    return paths


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def gqa_file(folder, **entries):
    path = folder / "gqa.json"
    path.write_text(json.dumps(entries))
    return path


GQA = {"question": "Is it red?", "imageId": "n1", "answer": "yes", "isBalanced": True, "semantic": [{"x": 1}]}


def test_vqav2_keeps_ten_answers_and_types_for_scoring(tmp_path):
    ledger = Ledger()
    read = list(read_vqav2(*vqav2_files(tmp_path), ledger))
    assert [item.question_id for item in read] == ["10", "11", "12"]  # as the questions file has them
    assert read[0].image == "COCO_train2014_000000000001.jpg"
    assert (read[2].question, read[2].answer) == ("What is 2?", "a2")
    assert read[1].facts == {"answers": ["a1"] * 10, "question_type": "what is", "answer_type": "other"}
    assert ledger.num_kept == 3


@pytest.mark.parametrize(
    ("subtype", "names", "image"),
    [
        ("val2014", "2014-folders", "val2014/COCO_val2014_000000000001.jpg"),
        ("test-dev2015", "2014", "COCO_test2015_000000000001.jpg"),
        ("train2014", "2017", "000000000001.jpg"),
    ],
)
def test_images_are_named_as_their_folder_has_them(tmp_path, subtype, names, image):
    files = vqav2_files(tmp_path, subtype=subtype, num=1)
    (question,) = read_vqav2(*files, Ledger(), names=names)
    assert question.image == image


def test_the_most_frequent_answer_and_among_equals_the_first():
    assert most_frequent(["no", "yes", "yes", "no", "yes"]) == "yes"
    assert most_frequent(["b", "a", "a", "b", "c"]) == "b"
    assert most_frequent([]) == ""


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        (
            1,
            lambda d: d.update(data_subtype="val2014"),
            "train2014.*val2014; give the two files of one split",
        ),
        (1, lambda d: d["annotations"].pop(), "asks 10 about image 1, .*annotations.json about nothing"),
        (1, lambda d: d["annotations"][0].update(image_id=9), "asks 12 about image 2, .* about image 9"),
        (
            1,
            lambda d: d["annotations"].append(d["annotations"][0]),
            "annotations.json: the question_id 12 is .* twice",
        ),
        (
            0,
            lambda d: d["questions"].append(d["questions"][0]),
            "questions.json: the question_id 10 is there twice",
        ),
        (1, lambda d: d["annotations"][1].pop("answers"), r"annotations\[1\]"),
        (
            1,
            lambda d: d["annotations"][1]["answers"].append({"answer": 3}),
            r"annotations\[1\].answers\[10\].answer",
        ),
        (0, lambda d: d.pop("questions"), 'expected a VQAv2 questions file, with "questions"'),
    ],
)
def test_vqav2_files_that_do_not_fit_are_refused(tmp_path, which, change, message):
    files = vqav2_files(tmp_path)
    edit(files[which], change)
    with pytest.raises(ValueError, match=message):
        list(read_vqav2(*files, Ledger()))


def test_questions_and_annotations_given_the_wrong_way_round_are_refused(tmp_path):
    questions, annotations = vqav2_files(tmp_path)
    with pytest.raises(ValueError, match=r"annotations\.json: expected a VQAv2 questions file"):
        list(read_vqav2(annotations, questions, Ledger()))


def test_annotations_of_further_questions_are_ignored(tmp_path):
    files = vqav2_files(tmp_path)
    edit(files[0], lambda data: data.update(questions=data["questions"][:1]))
    assert len(list(read_vqav2(*files, Ledger()))) == 1


def test_a_question_without_answer_is_dropped_and_counted(tmp_path):
    files = vqav2_files(tmp_path)
    edit(files[1], lambda data: data["annotations"][0].update(answers=[{"answer": " "}] * 10))
    ledger = Ledger()
    assert len(list(read_vqav2(*files, ledger))) == 2
    assert dict(ledger.dropped) == {"no answer": 1}


@pytest.mark.parametrize("text", ["", '{"questions": [', '{"questions": [NaN]}', "\ufeff{}"])
def test_what_is_no_json_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "gqa.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"gqa\.json"):
        list(read_gqa(path, Ledger()))


def test_gqa_keeps_the_types_for_scoring(tmp_path):
    types = {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"}
    entries = {"7": {**GQA, "types": types}, "8": {**GQA, "question": "Is it red? ", "isBalanced": False}}
    first, second = read_gqa(gqa_file(tmp_path, **entries), Ledger())
    assert (first.question_id, first.image, first.answer) == ("7", "n1.jpg", "yes")
    assert first.facts == {"types": types, "isBalanced": True}
    assert (second.question, second.facts["isBalanced"], second.facts["types"]) == ("Is it red?", False, {})


def test_a_gqa_entry_of_another_form_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected GQA questions by id: .*missing required field `imageId`"):
        list(read_gqa(gqa_file(tmp_path, **{"7": {"question": "?", "answer": "no"}}), Ledger()))
    with pytest.raises(ValueError, match="Expected `str`, got `int`"):
        list(read_gqa(gqa_file(tmp_path, **{"7": {**GQA, "answer": 3}}), Ledger()))


def test_a_list_of_llava_gets_its_answers_from_the_questions_file(tmp_path):
    answered = list(read_gqa(gqa_file(tmp_path, **{"7": GQA, "8": {**GQA, "answer": "no"}}), Ledger()))
    path = tmp_path / "llava.jsonl"
    row = {"question_id": "8", "image": "n1.jpg", "text": f"Is it blue?{SHORT_ANSWER}", "category": "default"}
    path.write_text(json.dumps(row))
    (question,) = read_llava_questions(path, answered)
    assert (question.question, question.answer, question.image) == ("Is it blue?", "no", "n1.jpg")
    path.write_text(json.dumps(row) + "\n" + json.dumps(row))
    with pytest.raises(ValueError, match=r"llava\.jsonl:2: the question_id 8 is there twice"):
        list(read_llava_questions(path, answered))
    path.write_text(json.dumps({**row, "question_id": 9}))
    with pytest.raises(ValueError, match=r"llava\.jsonl:1: question 9 has no answer"):
        list(read_llava_questions(path, answered))
    path.write_text(json.dumps({"question_id": 8}))
    with pytest.raises(ValueError, match="expected question_id, image and text"):
        list(read_llava_questions(path, answered))


def test_a_record_holds_all_questions_of_an_image_and_survives_the_disk(tmp_path):
    first, second = records_of_questions(read_vqav2(*vqav2_files(tmp_path), Ledger()), data_set="vqav2")
    assert (first.id, len(first.queries), len(second.queries)) == ("COCO_train2014_000000000001", 2, 1)
    assert first.source == {"data_set": "vqav2"}
    assert first.queries[1].source == {
        "question_id": "11",
        "answers": ["a1"] * 10,
        "question_type": "what is",
        "answer_type": "other",
    }
    assert record_from_json(json.loads(json.dumps(record_to_json(first)))) == first


def test_two_images_of_one_name_are_refused(tmp_path):
    answered = list(read_gqa(gqa_file(tmp_path, **{"7": GQA, "8": GQA}), Ledger()))
    path = tmp_path / "llava.jsonl"
    rows = [
        {"question_id": k, "image": f"{folder}/n1.jpg", "text": "?"} for k, folder in ((7, "a"), (8, "b"))
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"two images with the name n1: a/n1\.jpg and b/n1\.jpg"):
        list(records_of_questions(read_llava_questions(path, answered)))


def test_real_vqav2(shared_data):
    folder = shared_data / "vqa_gqa"
    questions = read_vqav2(folder / "vqav2_questions.json", folder / "vqav2_annotations.json", Ledger())
    (record,) = records_of_questions(questions)
    assert (folder / record.image).is_file()
    assert [query.answer for query in record.queries] == ["net", "pitcher", "orange"]
    assert record.queries[0].source["answers"].count("net") == 6
    assert record.queries[0].question == "What is this photo taken looking through?"


def test_real_gqa(shared_data):
    folder = shared_data / "vqa_gqa"
    (record,) = records_of_questions(read_gqa(folder / "gqa_questions_a.json", Ledger()))
    assert (folder / record.image).is_file()
    assert (record.queries[0].question, record.queries[0].answer) == (
        "What is hanging above the chalkboard?",
        "picture",
    )
    assert record.queries[0].source["types"]["structural"] == "query"
    (record,) = records_of_questions(read_gqa(folder / "gqa_questions_b.json", Ledger()))
    assert (record.image, record.queries[0].source["isBalanced"]) == ("n166008.jpg", False)
