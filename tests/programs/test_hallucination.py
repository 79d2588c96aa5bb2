import json
from collections import Counter
from itertools import combinations

import pytest
from PIL import Image

from locvlm.geometry import Box
from locvlm.io import read_json, read_records, write_records
from locvlm.records import Query, Record

PROGRAM = "data_builders/hallucination.py"
CLASSES = ["dog", "cat", "bus", "cow", "elk", "emu", "fox", "owl"]
CLASS_LIST = "Idx\tRatio\tTrain\tVal\tName\n" + "".join(
    f"{k}\t0.1\t9\t9\t{names}\n"
    for k, names in enumerate(
        ("wall", "sky", "tree", "rug, carpet", "bed", "sofa, couch", "lamp", "desk"), start=1
    )
)


@pytest.fixture
def instances(tmp_path):
    """19 images of 100 x 80 pixels with three of eight classes each, and one with a single class."""
    pairs = [*list(combinations(range(len(CLASSES)), 3))[::3], (0,)]
    images = [{"id": k, "file_name": f"{k:012d}.jpg", "width": 100, "height": 80} for k in range(len(pairs))]
    annotations = [
        {"id": 10 * k + c, "image_id": k, "category_id": c + 1, "bbox": [5, 5, 20, 20], "iscrowd": 0}
        for k, classes in enumerate(pairs)
        for c in classes
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def present_in(path):
    """Image id -> its classes, straight from an instances file."""
    data = read_json(path)
    names = {category["id"]: category["name"] for category in data["categories"]}
    there = {str(image["id"]): set() for image in data["images"]}
    for entry in data["annotations"]:
        there[str(entry["image_id"])].add(names[entry["category_id"]])
    return there


def manifest_of(path):
    return read_json(path.with_name(f"{path.name}.manifest.json"))


def answers_of(records):
    return Counter(query.answer for record in records for query in record.queries)


def test_hal_coco_asks_two_and_two_about_every_image_with_enough_classes(run, instances, tmp_path):
    out = tmp_path / "hal.jsonl"
    run(PROGRAM, "coco", "--instances", instances, "--out", out)
    records = list(read_records(out))
    there = present_in(instances)
    assert len(records) == 19
    for record in records:
        assert answers_of([record]) == {"yes": 2, "no": 2}
        for query in record.queries:
            assert (query.category in there[record.id]) is (query.answer == "yes")
            assert query.question == f"Is there {query.category} in image?"
    manifest = manifest_of(out)
    assert manifest["counts"]["answers"] == {"no": 38, "yes": 38}
    assert sum(manifest["counts"]["asked_absent"].values()) == 38
    selection = {ledger["name"]: ledger for ledger in manifest["input_ledgers"]}["images"]
    assert selection["reasons"]["fewer than 2 present classes"]["count"] == 1


@pytest.mark.parametrize(
    "kind",
    [("coco",), ("coco", "--negatives", "proportional"), ("pope", "--setting", "adversarial", "--images", 9)],
)
def test_shards_merge_to_the_whole_and_the_seed_decides(run, instances, tmp_path, kind):
    whole, again = tmp_path / "whole.jsonl", tmp_path / "again.jsonl"
    run(PROGRAM, *kind, "--instances", instances, "--out", whole)
    run(PROGRAM, *kind, "--instances", instances, "--out", again, "--seed", 1)
    assert whole.read_bytes() != again.read_bytes()
    parts = [tmp_path / f"part{k}.jsonl" for k in range(3)]
    for k, part in enumerate(parts):
        run(PROGRAM, *kind, "--instances", instances, "--out", part, "--shard", f"{k}/3")
    run("data_builders/merge.py", "--out", tmp_path / "merged.jsonl", *parts)
    assert (tmp_path / "merged.jsonl").read_bytes() == whole.read_bytes()
    counts = [manifest_of(path)["counts"] for path in (tmp_path / "merged.jsonl", whole)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("setting", ["random", "popular", "adversarial"])
def test_pope_sets_are_balanced_and_true(run, instances, tmp_path, setting):
    out = tmp_path / "pope.jsonl"
    arguments = ("pope", "--instances", instances, "--setting", setting, "--out", out)
    assert "19 images can be asked about, 500 are wanted" in run(PROGRAM, *arguments, fails=True)
    assert not out.exists()
    run(PROGRAM, *arguments, "--images", 12)
    records = list(read_records(out))
    there = present_in(instances)
    assert (len(records), answers_of(records)) == (12, {"yes": 36, "no": 36})
    for record in records:
        assert [query.answer for query in record.queries] == ["yes", "no"] * 3
        assert len({query.category for query in record.queries}) == 6
        for query in record.queries:
            assert (query.category in there[record.id]) is (query.answer == "yes")


def test_an_output_of_another_setting_is_not_replaced_unasked(run, instances, tmp_path):
    out = tmp_path / "pope.jsonl"
    arguments = ("pope", "--instances", instances, "--images", 12, "--out", out)
    run(PROGRAM, *arguments, "--setting", "popular")
    before = out.read_bytes()
    assert "already" in run(PROGRAM, *arguments, "--setting", "popular")
    assert "setting" in run(PROGRAM, *arguments, "--setting", "random", fails=True)
    assert out.read_bytes() == before
    run(PROGRAM, *arguments, "--setting", "random", "--overwrite")
    assert out.read_bytes() != before


@pytest.fixture
def ade(tmp_path):
    """ADEChallengeData2016 with four images: wall, sky, bed and one more class each."""
    root = tmp_path / "ADEChallengeData2016"
    for folder in ("images", "annotations"):
        (root / folder / "validation").mkdir(parents=True)
    (root / "objectInfo150.txt").write_text(CLASS_LIST)
    for k in range(4):
        name = f"ADE_val_{k + 1:08d}"
        Image.new("RGB", (20, 10)).save(root / "images" / "validation" / f"{name}.jpg")
        labels = Image.new("L", (20, 10), 1)
        labels.paste(2, (0, 0, 10, 10))
        labels.paste(5, (0, 0, 5, 5))
        labels.paste((3, 4, 6, 7)[k], (19, 0, 20, 2))
        labels.save(root / "annotations" / "validation" / f"{name}.png")
    return root


def test_hal_ade_leaves_out_the_classes_of_coco_and_lists_them(run, ade, tmp_path):
    out = tmp_path / "hal_ade.jsonl"
    run(PROGRAM, "ade", "--root", ade, "--out", out)
    records = list(read_records(out))
    assert [record.image for record in records] == [
        f"images/validation/ADE_val_{k:08d}.jpg" for k in range(1, 5)
    ]
    assert (records[0].width, records[0].height) == (20, 10)
    assert answers_of(records) == {"yes": 8, "no": 8}
    asked = {query.category for record in records for query in record.queries}
    assert not asked & {"bed", "sofa", "couch"}
    assert read_json(tmp_path / "hal_ade.jsonl.excluded_classes.json") == [
        {"index": 5, "names": ["bed"], "shared_name": "bed"},
        {"index": 6, "names": ["sofa", "couch"], "shared_name": "couch"},
    ]
    assert manifest_of(out)["facts"]["excluded_classes"] == ["bed", "sofa"]


def test_hal_ade_options(run, ade, tmp_path):
    out = tmp_path / "hal_ade.jsonl"
    run(PROGRAM, "ade", "--root", ade, "--out", out, "--min-area-fraction", 0.05, "--exclude", "carpet")
    for record in read_records(out):
        assert {query.category for query in record.queries if query.answer == "yes"} == {"wall", "sky"}
        assert "rug" not in {query.category for query in record.queries}
    message = run(
        PROGRAM, "ade", "--root", ade, "--out", out, "--exclude", "unicorn", "--overwrite", fails=True
    )
    assert "--exclude 'unicorn'" in message
    message = run(PROGRAM, "ade", "--root", ade, "--split", "test", "--out", tmp_path / "x", fails=True)
    assert "one of its splits (validation)" in message


def test_hal_ade_stops_over_unreadable_label_maps(run, ade, tmp_path):
    (ade / "annotations" / "validation" / "ADE_val_00000002.png").write_bytes(b"")
    out = tmp_path / "hal_ade.jsonl"
    assert "unreadable label map" in run(PROGRAM, "ade", "--root", ade, "--out", out, fails=True)
    assert not out.exists()
    run(PROGRAM, "ade", "--root", ade, "--out", out, "--max-dropped-fraction", 0.3)
    assert len(list(read_records(out))) == 3


def test_hal_act_asks_about_what_a_record_knows_of_a_video(run, tmp_path):
    def about(objective, name):
        box = None if objective == "negpred" else Box(0, 0, 9, 9)
        return Query(objective=objective, phrase=name, category=name, box_px=box)

    queries = [
        about("locpred", "dog"),
        about("revloc", "cat"),
        about("negpred", "bus"),
        about("negpred", "cow"),
    ]
    videos = [
        Record(id=f"v{k}", image=None, video=f"v{k}.mp4", width=64, height=48, queries=tuple(queries[k:]))
        for k in range(2)
    ]
    write_records(tmp_path / "videos.jsonl", videos)
    out = tmp_path / "hal_act.jsonl"
    run(PROGRAM, "act", "--records", tmp_path / "videos.jsonl", "--out", out)
    (record,) = read_records(out)  # the other video knows of one present class
    assert record.video == "v0.mp4"
    assert {(query.question, query.answer) for query in record.queries} == {
        ("Is there dog in video?", "yes"),
        ("Is there cat in video?", "yes"),
        ("Is there bus in video?", "no"),
        ("Is there cow in video?", "no"),
    }


def test_on_real_coco_the_sets_are_true_and_balanced_and_company_decides(run, shared_data, tmp_path):
    folder = shared_data / "coco"
    source = folder / "annotations" / "instances_val2017.json"
    there = present_in(source)
    out, page = tmp_path / "pope.jsonl", tmp_path / "preview.html"
    preview = ("--preview", page, "--image-root", folder / "val2017")
    run(
        PROGRAM,
        "pope",
        "--setting",
        "adversarial",
        "--images",
        20,
        "--instances",
        source,
        "--out",
        out,
        *preview,
    )
    records = list(read_records(out))
    assert answers_of(records) == {"yes": 60, "no": 60}
    assert "data:image/jpeg" in page.read_text()
    chosen = [there[record.id] for record in records]
    for record in records:
        used = set()
        for present, absent in zip(record.queries[::2], record.queries[1::2], strict=True):
            company = Counter(name for classes in chosen if present.category in classes for name in classes)
            assert present.category in there[record.id]
            assert absent.category not in there[record.id]
            left = company.keys() - there[record.id] - used
            assert company[absent.category] == max((company[name] for name in left), default=0)
            used.add(absent.category)
    run(PROGRAM, "coco", "--instances", source, "--out", tmp_path / "hal.jsonl")
    records = list(read_records(tmp_path / "hal.jsonl"))
    assert len(records) > 20
    assert answers_of(records) == {"yes": 2 * len(records), "no": 2 * len(records)}
