import json

import pytest

from locvlm.io import read_json, read_records

PROGRAM = "data_builders/vqa_pairs.py"
SUFFIX = "\nAnswer the question using a single word or phrase."


@pytest.fixture
def gqa(tmp_path):
    """Six questions about n0, five about n1, ... one about n5."""
    entries = {
        str(100 + 10 * image + k): {"question": f"Is it {k}?", "imageId": f"n{image}", "answer": "yes"}
        for image in range(6)
        for k in range(6 - image)
    }
    path = tmp_path / "gqa.json"
    path.write_text(json.dumps(entries))
    return path


def vqav2(folder, subtype, *, first_image=1):
    """Two questions about one image, the files of a split."""
    questions = [
        {"question_id": 10 * first_image + k, "image_id": first_image, "question": "?"} for k in range(2)
    ]
    answers = [{"answer": answer} for answer in ("b", "a", "a", "b", "a", "c", "c", "c", "a", "b")]
    annotations = [{**{k: v for k, v in q.items() if k != "question"}, "answers": answers} for q in questions]
    paths = [folder / f"{subtype}_{name}.json" for name in ("questions", "annotations")]
    for path, name, rows in zip(paths, ("questions", "annotations"), (questions, annotations), strict=True):
        path.write_text(json.dumps({"data_subtype": subtype, name: rows}))
    return paths


def manifest_of(path):
    return read_json(path.with_name(f"{path.name}.manifest.json"))


def reasons(path):
    return {
        reason: entry["count"]
        for ledger in manifest_of(path)["input_ledgers"]
        for reason, entry in ledger["reasons"].items()
    }


def test_gqa_gives_one_record_an_image_with_the_request_for_a_short_answer(run, gqa, tmp_path):
    out = tmp_path / "gqa_train.jsonl"
    run(PROGRAM, "gqa", "--questions", gqa, "--out", out)
    records = list(read_records(out))
    assert [(record.id, len(record.queries)) for record in records] == [(f"n{k}", 6 - k) for k in range(6)]
    assert records[0].image == "n0.jpg"
    assert (records[0].queries[1].question, records[0].queries[1].answer) == (f"Is it 1?{SUFFIX}", "yes")
    assert records[5].source == {"data_set": "gqa", "question_ids": ["150"]}
    assert manifest_of(out)["counts"]["queries"] == {"vqa": 21}


def test_a_cap_keeps_the_same_questions_in_every_order_of_the_file(run, gqa, tmp_path):
    out, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(PROGRAM, "gqa", "--questions", gqa, "--out", out, "--max-per-image", 2)
    assert reasons(out) == {"more than --max-per-image": 4 + 3 + 2 + 1}
    kept = {record.id: record.source["question_ids"] for record in read_records(out)}
    assert all(ids == sorted(ids) and len(ids) <= 2 for ids in kept.values())
    turned = tmp_path / "turned.json"
    turned.write_text(json.dumps(dict(reversed(read_json(gqa).items()))))
    run(PROGRAM, "gqa", "--questions", turned, "--out", other, "--max-per-image", 2)
    assert {record.id: sorted(record.source["question_ids"]) for record in read_records(other)} == kept
    run(PROGRAM, "gqa", "--questions", gqa, "--out", other, "--max-per-image", 2, "--seed", 1, "--overwrite")
    assert {record.id: record.source["question_ids"] for record in read_records(other)} != kept


def test_shards_merge_to_the_whole_and_limit_counts_images(run, gqa, tmp_path):
    whole = tmp_path / "whole.jsonl"
    run(PROGRAM, "gqa", "--questions", gqa, "--out", whole, "--limit", 5)
    parts = [tmp_path / f"part{k}.jsonl" for k in range(2)]
    for k, part in enumerate(parts):
        run(PROGRAM, "gqa", "--questions", gqa, "--out", part, "--limit", 5, "--shard", f"{k}/2")
    run("data_builders/merge.py", "--out", tmp_path / "merged.jsonl", *parts)
    assert (tmp_path / "merged.jsonl").read_bytes() == whole.read_bytes()
    assert len(list(read_records(whole))) == 5


def test_questions_of_one_image_in_several_files_share_a_record(run, gqa, tmp_path):
    more = tmp_path / "more.json"
    more.write_text(json.dumps({"999": {"question": "Is it late?", "imageId": "n5", "answer": "no"}}))
    out = tmp_path / "out.jsonl"
    run(PROGRAM, "gqa", "--questions", gqa, more, "--out", out)
    assert list(read_records(out))[-1].source["question_ids"] == ["150", "999"]


def test_vqav2_answers_with_the_most_frequent_of_the_ten(run, tmp_path):
    train, val = vqav2(tmp_path, "train2014"), vqav2(tmp_path, "val2014", first_image=2)
    out = tmp_path / "vqav2.jsonl"
    files = ("--questions", train[0], val[0], "--annotations", train[1], val[1])
    run(PROGRAM, "vqav2", *files, "--out", out, "--image-names", "2014-folders")
    records = list(read_records(out))
    assert [record.image for record in records] == [
        "train2014/COCO_train2014_000000000001.jpg",
        "val2014/COCO_val2014_000000000002.jpg",
    ]
    assert {query.answer for record in records for query in record.queries} == {"a"}
    run(PROGRAM, "vqav2", *files[:2], *files[3:5], "--out", out, "--overwrite")
    assert [record.image for record in read_records(out)] == ["COCO_train2014_000000000001.jpg"]
    message = run(PROGRAM, "vqav2", *files[:-1], "--out", tmp_path / "x.jsonl", fails=True)
    assert "2 --questions and 1 --annotations" in message
    message = run(
        PROGRAM,
        "vqav2",
        "--questions",
        train[0],
        "--annotations",
        val[1],
        "--out",
        tmp_path / "x",
        fails=True,
    )
    assert "give the two files of one split" in message


def test_images_of_evaluations_are_left_out_under_either_name(run, tmp_path):
    train, val = vqav2(tmp_path, "train2014"), vqav2(tmp_path, "val2014", first_image=2)
    pope = tmp_path / "pope.json"
    pope.write_text('{"image": "COCO_val2014_000000000002.jpg"}\n{"image": "000000000007.jpg"}\n')
    out = tmp_path / "out.jsonl"
    files = ("--questions", train[0], val[0], "--annotations", train[1], val[1])
    run(PROGRAM, "vqav2", *files, "--image-names", "2017", "--leave-out", pope, "--out", out)
    assert [record.image for record in read_records(out)] == ["000000000001.jpg"]
    assert reasons(out) == {"its image is to be left out": 2}
    assert manifest_of(out)["facts"] == {"images_to_leave_out": 2}
    assert str(pope) in manifest_of(out)["inputs"]
    everything = tmp_path / "all.txt"
    everything.write_text("000000000001.jpg\n000000000002.jpg\n")
    message = run(
        PROGRAM, "vqav2", *files, "--leave-out", everything, "--out", tmp_path / "x.jsonl", fails=True
    )
    assert "nothing in it can be asked about" in message
    assert not (tmp_path / "x.jsonl").exists()


def test_gqa_images_are_recognised_as_cocos_by_visual_genome(run, gqa, tmp_path):
    entries = {"1": {"question": "Is it red?", "imageId": "2370799", "answer": "no"}, **read_json(gqa)}
    gqa.write_text(json.dumps(entries))
    genome, out = tmp_path / "image_data.json", tmp_path / "out.jsonl"
    genome.write_text(json.dumps([{"image_id": 2370799, "coco_id": 7}, {"image_id": 4, "coco_id": None}]))
    leave_out = tmp_path / "list.txt"
    leave_out.write_text("COCO_val2014_000000000007.jpg\nn0.jpg\n")
    arguments = ("gqa", "--questions", gqa, "--leave-out", leave_out, "--out", out)
    run(PROGRAM, *arguments)
    assert [record.id for record in read_records(out)] == ["2370799", "n1", "n2", "n3", "n4", "n5"]
    run(PROGRAM, *arguments, "--visual-genome", genome, "--overwrite")
    assert [record.id for record in read_records(out)] == ["n1", "n2", "n3", "n4", "n5"]
    assert reasons(out) == {"its image is to be left out": 7}


def test_a_file_given_twice_is_noticed(run, gqa, tmp_path):
    message = run(PROGRAM, "gqa", "--questions", gqa, gqa, "--out", tmp_path / "out.jsonl", fails=True)
    assert "is a file given twice?" in message
    assert not (tmp_path / "out.jsonl").exists()


def test_questions_without_answer_stop_the_builder(run, gqa, tmp_path):
    entries = read_json(gqa)
    entries["100"]["answer"] = " "
    gqa.write_text(json.dumps(entries))
    out = tmp_path / "out.jsonl"
    assert "dropped 1 of 21 items" in run(PROGRAM, "gqa", "--questions", gqa, "--out", out, fails=True)
    assert not out.exists()
    run(PROGRAM, "gqa", "--questions", gqa, "--out", out, "--max-dropped-fraction", 0.1)
    assert reasons(out) == {"no answer": 1}


def test_the_files_are_those_that_the_configuration_names(repo_root):
    config = (repo_root / "train" / "configs" / "locvlm_l_stage2_vqa.yaml").read_text()
    text = (repo_root / PROGRAM).read_text()
    for name in ("gqa_train.jsonl", "vqav2_train.jsonl"):
        assert f"path: data/{name}" in config
        assert f"--out {name}" in text


def test_real_questions_become_records_with_a_preview(run, shared_data, tmp_path):
    folder = shared_data / "vqa_gqa"
    out, page = tmp_path / "vqav2.jsonl", tmp_path / "page.html"
    files = (
        "--questions",
        folder / "vqav2_questions.json",
        "--annotations",
        folder / "vqav2_annotations.json",
    )
    run(PROGRAM, "vqav2", *files, "--out", out, "--preview", page, "--image-root", folder)
    (record,) = read_records(out)
    assert [query.answer for query in record.queries] == ["net", "pitcher", "orange"]
    assert record.queries[0].question == f"What is this photo taken looking through?{SUFFIX}"
    assert "data:image/jpeg" in page.read_text()
    gqa = (folder / "gqa_questions_a.json", folder / "gqa_questions_b.json")
    run(PROGRAM, "gqa", "--questions", *gqa, "--out", tmp_path / "gqa.jsonl")
    assert [record.image for record in read_records(tmp_path / "gqa.jsonl")] == ["n578564.jpg", "n166008.jpg"]
