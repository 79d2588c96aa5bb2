import json
from collections import Counter
from pathlib import Path

import pytest

from locvlm.evals.readers import READERS, checked_options
from locvlm.evals.task import TaskData

DATA = {  # reader -> (file below shared/data, options, objective, images, questions)
    "pope": ("pope/coco_pope_random.json", {}, "vqa", 20, 120),
    "gqa": ("vqa_gqa/gqa_questions_a.json", {}, "vqa", 1, 1),
    "vqav2": (
        "vqa_gqa/vqav2_questions.json",
        {"annotations": "vqa_gqa/vqav2_annotations.json"},
        "vqa",
        1,
        3,
    ),
    "refcoco": ("refcoco/refcocog_val_sample.json", {}, "locpred", 188, 400),
    "vsr": ("vsr/random_dev.jsonl", {"folders": "splits"}, "vqa", 1017, 1097),
    "whatsup": ("whatsup/controlled_clevr_dataset.json", {"form": "captions", "seed": 3}, "vqa", 80, 80),
}


@pytest.mark.parametrize("reader", DATA)
def test_every_published_form_gives_one_record_an_image(shared_data, reader):
    file, options, objective, num_images, num_questions = DATA[reader]
    data = TaskData(reader=reader, file=file, options=options, objective=objective).below(shared_data)
    records = list(data.records())
    assert len(records) == len({record.id for record in records}) == num_images
    asked = [query for record in records for query in record.queries if query.objective == objective]
    assert len(asked) == num_questions
    assert all(data.file.startswith(str(shared_data)) and file.is_file() for file in data.files)


def test_vqa_questions_carry_the_ten_answers_and_gqas_their_types(shared_data):
    file, options, *_ = DATA["vqav2"]
    data = TaskData(reader="vqav2", file=file, options=options, objective="vqa").below(shared_data)
    [record] = data.records()
    assert all(len(query.source["answers"]) == 10 for query in record.queries)
    assert {query.source["answer_type"] for query in record.queries} <= {"yes/no", "number", "other", ""}
    [record] = READERS["gqa"](shared_data / DATA["gqa"][0])
    assert record.queries[0].source["types"]["structural"] == "query"


def test_an_object_is_described_once_and_looked_for_by_each_of_its_expressions(shared_data):
    rows = json.loads((shared_data / DATA["refcoco"][0]).read_text())
    queries = [q for record in READERS["refcoco"](shared_data / DATA["refcoco"][0]) for q in record.queries]
    described = [query for query in queries if query.objective == "revloc"]
    assert len(described) == len({row["img_id"] for row in rows}) == 213
    said = Counter(text for query in described for text in query.source["references"])
    assert said.total() == len(rows) == 400  # twice where two people said the same
    assert said == Counter(query.phrase for query in queries if query.objective == "locpred")
    assert all(query.phrase == query.source["references"][0] for query in described)


@pytest.mark.parametrize(
    ("reader", "options", "message"),
    [
        ("popes", {}, r"unknown reader 'popes', expected one of records, pope, .*did you mean 'pope'"),
        ("pope", {"split": "val"}, "the reader pope has no option 'split', it has none"),
        ("refcoco", {"splits": "val"}, "no option 'splits', it has instances, split; did you mean 'split'"),
        ("vqav2", {}, "the reader vqav2 needs the option 'annotations'"),
        ("vsr", {"folders": "two"}, "options.folders must be one of 'one', 'splits'"),
        ("whatsup", {"seed": "0"}, "options.seed must be int"),
    ],
)
def test_a_wrong_reader_or_option_is_named(reader, options, message):
    with pytest.raises(ValueError, match=message):
        TaskData(reader=reader, file="x", objective="vqa", options=options)


def test_options_that_are_files_are_below_the_data_root_too():
    options = {"annotations": "vqav2/val.json", "names": "2017"}
    data = TaskData(reader="vqav2", file="q.json", objective="vqa", options=options, image_root="coco")
    located = data.below(Path("/data"))
    assert (located.file, located.image_root) == ("/data/q.json", "/data/coco")
    assert located.files == (Path("/data/q.json"), Path("/data/vqav2/val.json"))
    assert checked_options("vqav2", located.options)["names"] == "2017"
    assert located.below(Path("/elsewhere")) == located  # paths of this machine stay


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path):
    options = {"annotations": "vqav2/val.json"}
    data = TaskData(reader="vqav2", file="q.json", objective="vqa", options=options, source="https://x.org")
    (tmp_path / "q.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no file val\.json at .*vqav2/val\.json; get it: https://x\.org"):
        data.below(tmp_path).records()


def test_the_sum_of_a_record_file_is_its_own_and_of_others_that_of_files_and_options(tmp_path):
    for name, text in (("a", "1"), ("b", "2"), ("c", "3")):
        (tmp_path / name).write_text(text)
    alone = TaskData(file="a", objective="vqa").below(tmp_path).sha256()
    assert alone == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"  # of "1"

    def of(annotations, **options):
        chosen = {"annotations": annotations, **options}
        return TaskData(reader="vqav2", file="a", objective="vqa", options=chosen).below(tmp_path).sha256()

    assert len({alone, of("b"), of("c"), of("b", names="2017")}) == 4
    assert of("b") == of("b")
