import hashlib
import json
import pickle

import pytest

from locvlm.geometry import Box
from locvlm.io import read_records, write_records
from locvlm.records import Query, Record

LOCALIZE = "data_builders/localize_instruct.py"
MERGE = "data_builders/merge.py"


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def phrases_of(path, objective):
    return [q.phrase for record in read_records(path) for q in record.queries if q.objective == objective]


def test_localize_instruct_writes_records_and_a_manifest(run, instances, tmp_path):
    out = tmp_path / "out" / "localize.jsonl"
    run(LOCALIZE, "--instances", instances, "--out", out, "--negatives-per-image", 3)
    records = list(read_records(out))
    assert len(records) == 9  # image 3 holds one class four times
    for record in records:
        kinds = [query.objective for query in record.queries]
        assert (kinds.count("locpred"), kinds.count("revloc"), kinds.count("negpred")) == (4, 4, 3)
        present = {query.phrase for query in record.queries if query.objective == "locpred"}
        assert not present & {query.phrase for query in record.queries if query.objective == "negpred"}
    manifest = manifest_of(out)
    assert manifest["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert manifest["inputs"] == {str(instances): hashlib.sha256(instances.read_bytes()).hexdigest()}
    assert manifest["arguments"]["seed"] == 0
    assert manifest["arguments"]["negatives_per_image"] == 3
    assert manifest["counts"]["records"] == 9
    assert manifest["counts"]["queries"] == {"locpred": 36, "negpred": 27, "revloc": 36}
    assert 0.5 <= manifest["counts"]["prompt_only_accuracy"] <= 1
    ledgers = manifest["ledgers"] + manifest["input_ledgers"]
    dropped = {ledger["name"]: ledger["reasons"] for ledger in ledgers}
    assert dropped["images"]["no object to ask about"]["count"] == 1
    assert dropped["annotations"] == {}


def test_localize_instruct_is_deterministic_for_a_seed(run, instances, tmp_path):
    outs = [tmp_path / f"{name}.jsonl" for name in "abc"]
    for out, seed in zip(outs, (0, 0, 1), strict=True):
        run(LOCALIZE, "--instances", instances, "--out", out, "--seed", seed)
    a, b, c = (out.read_bytes() for out in outs)
    assert a == b
    assert a != c


def test_localize_instruct_options(run, instances, tmp_path):
    out = tmp_path / "localize.jsonl"
    run(
        LOCALIZE,
        "--instances",
        instances,
        "--out",
        out,
        "--allow-repeated",
        "--limit",
        4,
        "--negatives",
        "uniform",
    )
    records = list(read_records(out))
    assert [record.id for record in records] == ["0", "1", "2", "3"]
    assert sum(query.objective == "locpred" for query in records[3].queries) == 4
    arguments = ("--instances", instances, "--out", out, "--min-area", 401)
    assert "made by other arguments (allow_repeated" in run(LOCALIZE, *arguments, fails=True)
    message = run(LOCALIZE, *arguments, "--overwrite", fails=True)
    assert "nothing in it can be asked about" in message
    assert len(list(read_records(out))) == 4  # what stood is not replaced by nothing


def test_too_many_unusable_boxes_stop_the_builder(run, instances, tmp_path):
    edit(instances, lambda data: data["annotations"][0].update(bbox=[5, 5, 0, 20]))
    out = tmp_path / "localize.jsonl"
    message = run(LOCALIZE, "--instances", instances, "--out", out, fails=True)
    assert "dropped 1 of 40 items" in message
    assert "box without area" in message
    assert not out.exists()
    run(LOCALIZE, "--instances", instances, "--out", out, "--max-dropped-fraction", 0.05)
    assert manifest_of(out)["input_ledgers"][0]["reasons"]["box without area"]["count"] == 1


def test_a_box_that_is_not_a_number_is_dropped_and_counted(run, instances, tmp_path):
    edit(instances, lambda data: data["annotations"][0].update(bbox=[5, 5, float("nan"), 20]))
    out = tmp_path / "localize.jsonl"
    run(LOCALIZE, "--instances", instances, "--out", out, "--max-dropped-fraction", 0.05)
    reasons = manifest_of(out)["input_ledgers"][0]["reasons"]
    assert reasons["bbox is not four finite numbers"]["count"] == 1


def test_clipped_boxes_are_counted(run, instances, tmp_path):
    edit(instances, lambda data: data["annotations"][1].update(bbox=[90, 5, 20, 20]))
    out = tmp_path / "localize.jsonl"
    run(LOCALIZE, "--instances", instances, "--out", out)
    assert manifest_of(out)["facts"]["repairs"] == {"box clipped to the image": 1}


def test_images_without_file_are_dropped_and_counted(run, instances, tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for k in range(9):
        (root / f"{k:03d}.jpg").touch()
    arguments = ("--instances", instances, "--image-root", root, "--out", tmp_path / "localize.jsonl")
    assert "no image file: 9 (009.jpg)" in run(LOCALIZE, *arguments, fails=True)
    run(LOCALIZE, *arguments, "--max-dropped-fraction", 0.1)
    assert "9" not in {record.id for record in read_records(tmp_path / "localize.jsonl")}
    edit(instances, lambda data: data["images"][0].update(file_name="../000.jpg"))
    assert "must stay inside its root" in run(LOCALIZE, *arguments, "--overwrite", fails=True)


def test_a_captions_file_given_for_instances_is_refused(run, tmp_path):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [], "annotations": []}))
    message = run(LOCALIZE, "--instances", path, "--out", tmp_path / "out.jsonl", fails=True)
    assert "expected a COCO file with a list of 'categories'" in message


# ---- by descriptions


@pytest.fixture
def descriptions(instances, tmp_path):
    """As prefcoco writes them: of every object but those of images 3 and 4, and one of image 5."""
    data = json.loads(instances.read_text())
    names = {category["id"]: category["name"] for category in data["categories"]}
    records = []
    for image in data["images"]:
        own = [entry for entry in data["annotations"] if entry["image_id"] == image["id"]]
        queries = [
            Query(
                objective="revloc",
                phrase=f"the {names[entry['category_id']]} of image {image['id']}",
                category=names[entry["category_id"]],
                box_px=Box.from_xywh(*entry["bbox"]),
            )
            for entry in own[1 if image["id"] == 5 else 0 :]
        ]
        if image["id"] not in (3, 4):
            name = image["file_name"]
            records.append(
                Record(id=str(image["id"]), image=name, width=100, height=80, queries=tuple(queries))
            )
    write_records(tmp_path / "descriptions.jsonl", records)
    return tmp_path / "descriptions.jsonl"


def test_objects_go_by_descriptions_and_absent_ones_by_borrowed_ones(run, instances, descriptions, tmp_path):
    out = tmp_path / "out.jsonl"
    arguments = ("--descriptions", descriptions, "--negatives-per-image", 2)
    run(LOCALIZE, "--instances", instances, *arguments, "--out", out)
    records = {record.id: record for record in read_records(out)}
    assert sorted(records) == list("01256789")
    for record in records.values():
        by_objective = {name: [] for name in ("locpred", "revloc", "negpred")}
        for query in record.queries:
            by_objective[query.objective].append(query)
        assert len(by_objective["locpred"]) == (3 if record.id == "5" else 4)
        assert {query.phrase for query in by_objective["locpred"]} == {
            f"the {query.category} of image {record.id}" for query in by_objective["revloc"]
        }
        present = {query.category for query in by_objective["locpred"]}
        assert len(by_objective["negpred"]) == 2
        for query in by_objective["negpred"]:
            assert query.category not in present
            assert query.phrase.startswith(f"the {query.category} of image ")
            assert not query.phrase.endswith(record.id)
    manifest = manifest_of(out)
    assert list(manifest["inputs"]) == [str(instances), str(descriptions)]
    ledgers = {ledger["name"]: ledger for ledger in manifest["ledgers"] + manifest["input_ledgers"]}
    assert ledgers["objects"]["reasons"]["no description"]["count"] == 5
    assert (ledgers["objects"]["kept"], ledgers["descriptions"]["kept"]) == (31, 31)
    assert manifest["counts"]["prompt_only_accuracy_by_length"] == 0.5


def test_undescribed_objects_can_go_by_their_label(run, instances, descriptions, tmp_path):
    out = tmp_path / "out.jsonl"
    arguments = ("--instances", instances, "--descriptions", descriptions, "--out", out)
    run(LOCALIZE, *arguments, "--undescribed", "label")
    assert len(phrases_of(out, "locpred")) == 36
    assert len([phrase for phrase in phrases_of(out, "locpred") if " " not in phrase]) == 5
    assert any(" " not in phrase for phrase in phrases_of(out, "negpred"))


def test_descriptions_of_other_objects_are_counted_and_of_other_images_refused(
    run, instances, descriptions, tmp_path
):
    lines = [json.loads(line) for line in descriptions.read_text().splitlines()]
    lines[0]["queries"][0]["box_px"][0] += 1
    descriptions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ("--instances", instances, "--descriptions", descriptions, "--out", tmp_path / "out.jsonl")
    assert "dropped 1 of 31 items" in run(LOCALIZE, *arguments, fails=True)
    run(LOCALIZE, *arguments, "--max-dropped-fraction", 0.04)
    for line in lines:
        line["id"] = f"x{line['id']}"
    descriptions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    message = run(LOCALIZE, *arguments, "--overwrite", fails=True)
    assert "describes none of the 10 images" in message


# ---- by referring expressions


@pytest.fixture
def refs(tmp_path):
    """UNC's pickle about image 3 (four elks) and image 0 (dog, cat, bus, cow) for train; image 1 for val."""
    rows = []
    for number, (image, annotation, split, *sentences) in enumerate(
        [
            (3, 12, "train", "elk top left", "left one"),
            (3, 13, "train", "elk top right"),
            (0, 1, "train", "a cat"),
            (1, 4, "val", "some cat"),
        ]
    ):
        rows.append(
            {
                "ref_id": number,
                "ann_id": annotation,
                "image_id": image,
                "category_id": 1,
                "file_name": f"COCO_train2014_{image:012}_{annotation}.jpg",
                "split": split,
                "sentences": [{"sent": text, "raw": text, "sent_id": k} for k, text in enumerate(sentences)],
            }
        )
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps(rows))
    return path


def test_referring_expressions_are_asked_sentence_by_sentence(run, instances, refs, tmp_path):
    edit(instances, lambda data: [e.update(category_id=5) for e in data["annotations"] if e["image_id"] == 3])
    out = tmp_path / "out.jsonl"
    arguments = ("--refcoco", refs, "--refs-split", "train", "--instances", instances)
    run(LOCALIZE, *arguments, "--out", out)
    first, second = read_records(out)
    asked = {(q.objective, q.phrase, q.category) for q in second.queries}
    assert asked == {
        *(
            (objective, phrase, "elk")
            for objective in ("locpred", "revloc")
            for phrase in ("elk top left", "left one", "elk top right")
        ),
        ("negpred", "a cat", "cat"),
    }
    absent = {query.phrase for query in first.queries if query.objective == "negpred"}
    assert absent == {"elk top left", "elk top right"}  # "left one" may be anything
    run(LOCALIZE, *arguments, "--one-phrase", "--out", tmp_path / "one.jsonl")
    assert len(phrases_of(tmp_path / "one.jsonl", "locpred")) == 3
    message = run(LOCALIZE, "--refcoco", refs, "--out", tmp_path / "x.jsonl", fails=True)
    assert "give --instances, or --negatives-per-image 0" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to read"),
        (("--refcoco", "a", "--instances", "b", "--descriptions", "c"), "without --refcoco"),
        (("--refcoco", "a", "--descriptions", "c"), "without --refcoco"),
    ],
)
def test_inputs_that_do_not_fit_each_other_are_refused(run, tmp_path, arguments, message):
    assert message in run(LOCALIZE, *arguments, "--out", tmp_path / "out.jsonl", fails=True)


# ---- as every builder


@pytest.mark.parametrize("by", ["label", "description"])
def test_merged_shards_are_the_unsharded_file(run, instances, descriptions, tmp_path, by):
    source = ("--instances", instances, "--hard-negatives", 0.5, "--seed", 3)
    if by == "description":
        source += ("--descriptions", descriptions, "--limit", 9)
    whole = tmp_path / "whole.jsonl"
    run(LOCALIZE, *source, "--out", whole)
    parts = [tmp_path / f"part-{index}.jsonl" for index in range(3)]
    for index, part in enumerate(parts):
        run(LOCALIZE, *source, "--shard", f"{index}/3", "--out", part)
    run(MERGE, "--out", tmp_path / "merged.jsonl", *parts)
    assert (tmp_path / "merged.jsonl").read_bytes() == whole.read_bytes()
    merged, manifest = manifest_of(tmp_path / "merged.jsonl"), manifest_of(whole)
    assert {**merged, "output": ""} == {**manifest, "output": ""}


def test_the_same_again_is_left_alone(run, instances, tmp_path):
    out = tmp_path / "out.jsonl"
    run(LOCALIZE, "--instances", instances, "--out", out)
    before = out.stat().st_mtime_ns
    assert "is there already" in run(LOCALIZE, "--instances", instances, "--out", out)
    assert out.stat().st_mtime_ns == before


def test_real_coco_with_a_preview(run, shared_data, tmp_path):
    folder = shared_data / "coco"
    instances = folder / "annotations" / "instances_train2017.json"
    out, page = tmp_path / "localize.jsonl", tmp_path / "preview.html"
    arguments = ("--image-root", folder / "train2017", "--hard-negatives", 0.5, "--preview", page)
    run(LOCALIZE, "--instances", instances, *arguments, "--out", out)
    assert sum(len(record.queries) for record in read_records(out)) > 300
    assert page.read_text().count("<article>") == 24
