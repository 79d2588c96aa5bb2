import hashlib
import json
import subprocess
import sys

import pytest

from locvlm.annotations.instruct import read_llava
from locvlm.io import read_records

CLASSES = ["dog", "cat", "bus", "cow", "elk", "emu", "fox", "owl"]


@pytest.fixture
def run(repo_root, tmp_path):
    def run_program(program, *arguments, fails=False):
        command = [sys.executable, str(repo_root / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr

    return run_program


@pytest.fixture
def instances(tmp_path):
    """Ten images of 100 x 80 pixels with 4 of 8 classes each, corner by corner; image 3 has a class twice."""
    corners = [(5, 5), (70, 5), (5, 55), (70, 55)]
    images, annotations = [], []
    for k in range(10):
        images.append({"id": k, "file_name": f"{k:03d}.jpg", "width": 100, "height": 80})
        for c, (x, y) in enumerate(corners):
            category = 1 + (k if k == 3 else k + c) % len(CLASSES)
            annotations.append(
                {
                    "id": 4 * k + c,
                    "image_id": k,
                    "category_id": category,
                    "bbox": [x, y, 20, 20],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


LOCALIZE = "data_builders/localize_instruct.py"


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
    dropped = {ledger["name"]: ledger["reasons"] for ledger in manifest["ledgers"]}
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
    message = run(LOCALIZE, "--instances", instances, "--out", out, "--min-area", 401, fails=True)
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
    assert manifest_of(out)["ledgers"][0]["reasons"]["box without area"]["count"] == 1


def test_clipped_boxes_are_counted(run, instances, tmp_path):
    edit(instances, lambda data: data["annotations"][1].update(bbox=[90, 5, 20, 20]))
    out = tmp_path / "localize.jsonl"
    run(LOCALIZE, "--instances", instances, "--out", out)
    assert manifest_of(out)["counts"]["repairs"] == {"box clipped to the image": 1}


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
    assert "must stay inside its root" in run(LOCALIZE, *arguments, fails=True)


def test_a_captions_file_given_for_instances_is_refused(run, tmp_path):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [], "annotations": []}))
    message = run(LOCALIZE, "--instances", path, "--out", tmp_path / "out.jsonl", fails=True)
    assert "expected a COCO file with a list of 'categories'" in message


def test_stage1_pairs_makes_one_record_per_captioned_image(run, tmp_path):
    path, out = tmp_path / "captions.json", tmp_path / "stage1.jsonl"
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 64, "height": 48} for k in range(3)]
    captions = [{"id": k, "image_id": k // 2, "caption": f"A dog, {k}."} for k in range(4)]
    path.write_text(json.dumps({"images": images, "annotations": captions}))
    run("data_builders/stage1_pairs.py", "--captions", path, "--out", out)
    records = list(read_records(out))
    assert [[query.answer for query in record.queries] for record in records] == [
        ["A dog, 0.", "A dog, 1."],
        ["A dog, 2.", "A dog, 3."],
    ]
    assert records[0].image == "0.jpg"
    manifest = manifest_of(out)
    assert manifest["counts"]["queries"] == {"caption": 4}
    assert manifest["ledgers"][1]["reasons"]["no caption"]["count"] == 1


def test_stage1_pairs_reads_llava_pretraining_files(run, tmp_path):
    path, out = tmp_path / "chat.json", tmp_path / "stage1.jsonl"
    messages = [{"from": "human", "value": "Briefly.\n<image>"}, {"from": "gpt", "value": "a dog"}]
    path.write_text(json.dumps([{"id": "1", "image": "0/1.jpg", "conversations": messages}, {"id": "2"}]))
    message = run("data_builders/stage1_pairs.py", "--captions", path, "--out", out, fails=True)
    assert "chat.json: entry 1" in message
    assert not out.exists()
    run("data_builders/stage1_pairs.py", "--captions", path, "--out", out, "--limit", 1)
    (record,) = read_records(out)
    assert (record.image, record.queries[0].answer) == ("0/1.jpg", "a dog")


def test_coco_spatial_writes_balanced_files_per_form_and_axis(run, instances, tmp_path):
    run("data_builders/coco_spatial.py", "--instances", instances, "--out", tmp_path / "spatial")
    names = [
        f"coco_spatial_{form}_{axis}" for form in ("direct", "icl") for axis in ("horizontal", "vertical")
    ]
    assert sorted(p.name for p in (tmp_path / "spatial").glob("*.jsonl")) == sorted(
        f"{n}.jsonl" for n in names
    )
    for name in names:
        path = tmp_path / "spatial" / f"{name}.jsonl"
        assert len(list(read_records(path))) == 18
        answers = manifest_of(path)["counts"]["answers"]
        assert sorted(answers.values()) == [9, 9]
        assert set(answers) == ({"left", "right"} if "horizontal" in name else {"above", "below"})


def test_coco_spatial_options(run, instances, tmp_path):
    arguments = ("--instances", instances, "--out", tmp_path / "spatial")
    run(
        "data_builders/coco_spatial.py",
        *arguments,
        "--axis",
        "horizontal",
        "--form",
        "direct",
        "--release-filter",
    )
    (path,) = (tmp_path / "spatial").glob("*.jsonl")
    assert manifest_of(path)["counts"]["answers"] == {"right": 36}
    message = run("data_builders/coco_spatial.py", *arguments, "--release-filter", fails=True)
    assert "use it with --form direct" in message


@pytest.mark.parametrize("layout", ["multi_turn", "separate"])
def test_records_are_rendered_to_llava_json(run, instances, tmp_path, layout):
    records, out = tmp_path / "localize.jsonl", tmp_path / "llava.json"
    run(LOCALIZE, "--instances", instances, "--out", records, "--negatives-per-image", 2)
    options = ("--codec", "nfp", "--frame", "pad", "--canvas", 224, "--layout", layout)
    run("scripts/render_llava.py", "--records", records, "--out", out, *options)
    samples = list(read_llava(out))
    turns = [turn for sample in samples for turn in sample.branches[0]]
    assert len(turns) == 9 * 10
    assert len(samples) == (9 if layout == "multi_turn" else 90)
    assert all(sample.image.endswith(".jpg") for sample in samples)
    # 100 x 80 padded to a square of 100 with 10 rows above: (5, 5)-(25, 25) -> y from 0.15 to 0.35
    assert "It is located at (0.0500, 0.1500, 0.2500, 0.3500)" in {turn.answer for turn in turns}


def test_render_llava_counts_what_a_crop_cuts_away(run, instances, tmp_path):
    records, out = tmp_path / "localize.jsonl", tmp_path / "llava.json"
    run(LOCALIZE, "--instances", instances, "--out", records, "--negatives-per-image", 0)
    edit_lines = [json.loads(line) for line in records.read_text().splitlines()]
    for row in edit_lines:
        row["width"] = 400  # the crop shows x from 160 to 240: every box is left of it
    records.write_text("\n".join(json.dumps(row) for row in edit_lines))
    message = run(
        "scripts/render_llava.py", "--records", records, "--out", out, "--frame", "crop", fails=True
    )
    assert "kept 0, dropped 72 (72 the frame cuts the object away)" in message


def test_builders_run_on_real_coco(run, shared_data, tmp_path):
    folder = shared_data / "coco"
    instances = folder / "annotations" / "instances_train2017.json"
    out = tmp_path / "localize.jsonl"
    run(LOCALIZE, "--instances", instances, "--image-root", folder / "train2017", "--out", out)
    assert sum(len(record.queries) for record in read_records(out)) > 300
    run("data_builders/coco_spatial.py", "--instances", instances, "--out", tmp_path)
    captions = folder / "annotations" / "captions_train2017.json"
    run("data_builders/stage1_pairs.py", "--captions", captions, "--out", tmp_path / "stage1.jsonl")
    assert len(list(read_records(tmp_path / "stage1.jsonl"))) == 39
