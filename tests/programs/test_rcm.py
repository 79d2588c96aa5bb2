import json
import pickle
from collections import Counter

import pytest
from PIL import Image

from locvlm.io import read_records
from locvlm.objectives.rcm import CELLS

RCM = "data_builders/rcm.py"
PER_CELL = {"train": 3, "val": 2}


@pytest.fixture
def data(tmp_path):
    """UNC's refs and instances: an image per object, PER_CELL + 1 objects a cell; the rarest has PER_CELL."""
    images, annotations, refs = [], [], []
    for split, rarest in PER_CELL.items():
        for cell in range(len(CELLS)):
            for _ in range(rarest + (cell > 0)):
                number = len(images) + 1
                x, y = 100 * (cell % 3) + 50, 80 * (cell // 3) + 40
                image = {"id": number, "file_name": f"{number:012d}.jpg", "width": 300, "height": 240}
                images.append(image)
                box = [x - 30, y - 20, 60, 40]
                annotations.append({"id": 7 * number, "image_id": number, "category_id": 18, "bbox": box})
                sentence = {"sent": f"dog number {number}", "raw": "", "tokens": [], "sent_id": number}
                refs.append(
                    {"ref_id": number, "ann_id": 7 * number, "image_id": number, "category_id": 18}
                    | {"split": split, "sentences": [sentence], "file_name": f"{number:012d}_{number}.jpg"}
                )
    (tmp_path / "refs(umd).p").write_bytes(pickle.dumps(refs, protocol=2))
    (tmp_path / "instances.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 18, "name": "dog"}]})
    )
    return {"--refs": tmp_path / "refs(umd).p", "--instances": tmp_path / "instances.json"}


def options(data, **more):
    return [word for pair in {**data, **{f"--{k}": v for k, v in more.items()}}.items() for word in pair]


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def test_it_writes_balanced_items_of_the_split_and_a_manifest(run, data, tmp_path):
    out = tmp_path / "rcm_val.jsonl"
    run(RCM, *options(data, split="val", out=out))
    records = list(read_records(out))
    assert len(records) == 18 * PER_CELL["val"]
    said = Counter((record.source["cell"], record.queries[0].answer) for record in records)
    assert said == {(cell, answer): PER_CELL["val"] for cell in CELLS for answer in ("yes", "no")}
    val_images = {f"{number:012d}.jpg" for number in range(36, 62)}  # train has 27 + 8 before them
    assert {record.image for record in records} <= val_images
    assert {record.queries[0].category for record in records} == {"dog"}
    manifest = manifest_of(out)
    assert manifest["counts"]["answers"] == {"no": 18, "yes": 18}
    assert manifest["counts"]["cells"] == dict.fromkeys(CELLS, 4)
    assert manifest["facts"] == {
        "items": 36,
        "positives_per_cell": 2,
        "negatives_per_cell_and_other_cell": 0,
        "other_cells_of_each_with_one_more": 2,
        "expressions": {cell: 3 - (cell == "top left") for cell in CELLS},
        "repairs": {},
    }
    assert [(ledger["name"], ledger["kept"]) for ledger in manifest["input_ledgers"]] == [
        ("objects referred to", 26),
        ("annotations", 61),
    ]


def test_merged_shards_are_the_unsharded_file(run, data, tmp_path):
    whole, merged = tmp_path / "whole.jsonl", tmp_path / "merged.jsonl"
    run(RCM, *options(data, split="train", out=whole))
    parts = [tmp_path / f"part{k}.jsonl" for k in range(3)]
    for k, part in enumerate(parts):
        run(RCM, *options(data, split="train", out=part, shard=f"{k}/3"))
    run("data_builders/merge.py", "--out", merged, *parts)
    assert merged.read_bytes() == whole.read_bytes()
    assert manifest_of(merged) | {"output": ""} == manifest_of(whole) | {"output": ""}


def test_it_is_deterministic_and_other_arguments_are_refused(run, data, tmp_path):
    out, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    run(RCM, *options(data, split="train", out=out))
    run(RCM, *options(data, split="train", out=other))
    first = out.read_bytes()
    assert other.read_bytes() == first
    assert "seed: now 1, then 0" in run(RCM, *options(data, split="train", out=out, seed=1), fails=True)
    assert out.read_bytes() == first
    run(RCM, *options(data, split="train", out=out, seed=1), "--overwrite")
    assert out.read_bytes() != first
    run(RCM, *options(data, split="train", out=other, negatives="other"), "--overwrite")
    assert other.read_bytes() != first


def test_the_preview_draws_the_box_of_the_phrase(run, data, tmp_path):
    for number in range(1, 62):
        Image.new("RGB", (300, 240)).save(tmp_path / f"{number:012d}.jpg")
    page = tmp_path / "page.html"
    run(RCM, *options(data, split="val", out=tmp_path / "o.jsonl", preview=page), "--image-root", tmp_path)
    text = page.read_text()
    assert "refers to the bottom right part of the image" in text
    assert 'x="20.00" y="20.00" width="60.00" height="40.00"' in text  # the top left object
    assert text.count("<article>") == 24


def test_the_real_sample_gives_216_items(run, shared_data, tmp_path):
    out = tmp_path / "rcm.jsonl"
    said = run(
        RCM, "--refs", shared_data / "refcoco" / "refcocog_val_sample.json", "--split", "val", "--out", out
    )
    assert "tells no splits: all of it is taken for val" in said
    manifest = manifest_of(out)
    assert manifest["facts"]["items"] == manifest["counts"]["records"] == 216  # 18 x 12, of "top right"
    assert manifest["counts"]["answers"] == {"no": 108, "yes": 108}
    assert len(manifest["input_ledgers"]) == 1


def unknown_split(data, tmp_path):
    return options(data, split="test"), "has no split 'test'; it has train, val"


def no_instances(data, tmp_path):
    return options({"--refs": data["--refs"]}, split="val"), "pass the instances.json"


def wrong_instances(data, tmp_path):
    wrong = json.loads(data["--instances"].read_text())
    for annotation in wrong["annotations"]:
        annotation["id"] += 1
    data["--instances"].write_text(json.dumps(wrong))
    return options(data, split="val"), "dropped 26 of 26 items"


def cut_off(data, tmp_path):
    data["--refs"].write_bytes(data["--refs"].read_bytes()[:-50])
    return options(data, split="val"), "neither JSON nor a whole pickle"


def too_few(data, tmp_path):
    return options(data, split="val", limit=3), "every cell needs at least one expression"


@pytest.mark.parametrize("change", [unknown_split, no_instances, wrong_instances, cut_off, too_few])
def test_bad_input_stops_without_output(change, run, data, tmp_path):
    arguments, message = change(data, tmp_path)
    out = tmp_path / "out.jsonl"
    assert message in run(RCM, *arguments, "--out", out, fails=True)
    assert not out.exists()
