"""The builder of stage-1 pairs: records, tar shards, what it refuses, and that a kill costs nothing."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest
from PIL import Image

from locvlm.data.dataset import FileDataset
from locvlm.data.image import load_image
from locvlm.io import read_records

PROGRAM = "data_builders/stage1_pairs.py"
NUM_PAIRS = 11


def start(repo_root, folder, *arguments):
    command = [sys.executable, str(repo_root / PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)


@pytest.fixture
def run(repo_root, tmp_path):
    def run_program(*arguments, fails=False):
        process = start(repo_root, tmp_path, *arguments)
        _, stderr = process.communicate(timeout=120)
        assert (process.returncode != 0) is fails, stderr
        return stderr

    return run_program


def pair(number):
    messages = [{"from": "human", "value": "Briefly.\n<image>"}, {"from": "gpt", "value": f"a dog, {number}"}]
    return {"id": f"c{number}", "image": f"train/{number}.jpg", "conversations": messages}


@pytest.fixture
def chat(tmp_path):
    """LLaVA's form: eleven pairs, with their images in a folder and in a zip."""
    (tmp_path / "images" / "train").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for k in range(NUM_PAIRS):
            file = io.BytesIO()
            Image.new("RGB", (20, 10), (20 * k, 0, 0)).save(file, "JPEG")
            (tmp_path / "images" / "train" / f"{k}.jpg").write_bytes(file.getvalue())
            archive.writestr(f"train/{k}.jpg", file.getvalue())
    path = tmp_path / "chat.json"
    path.write_text(json.dumps([pair(k) for k in range(NUM_PAIRS)]))
    return path


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_coco_captions_make_one_record_per_captioned_image(run, tmp_path):
    path, out = tmp_path / "captions.json", tmp_path / "stage1.jsonl"
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 64, "height": 48} for k in range(3)]
    captions = [{"id": k, "image_id": k // 2, "caption": f"A dog, {k}."} for k in range(4)]
    path.write_text(json.dumps({"images": images, "annotations": captions}))
    run("--captions", path, "--out", out)
    records = list(read_records(out))
    assert [[query.answer for query in record.queries] for record in records] == [
        ["A dog, 0.", "A dog, 1."],
        ["A dog, 2.", "A dog, 3."],
    ]
    assert records[0].image == "0.jpg"
    manifest = manifest_of(out)
    assert manifest["counts"]["queries"] == {"caption": 4}
    assert manifest["input_ledgers"][1]["reasons"]["no caption"]["count"] == 1


def test_llava_pretraining_files_are_read(run, tmp_path):
    path, out = tmp_path / "chat.json", tmp_path / "stage1.jsonl"
    path.write_text(json.dumps([pair(1), {"id": "2"}]))
    message = run("--captions", path, "--out", out, fails=True)
    assert "chat.json: entry 1" in message
    assert not out.exists()
    path.write_text(json.dumps([pair(1), pair(2)]))
    run("--captions", path, "--out", out, "--limit", 1)
    (record,) = read_records(out)
    assert (record.image, record.queries[0].answer) == ("train/1.jpg", "a dog, 1")


def test_tars_hold_the_samples_that_records_and_folder_give(run, chat, tmp_path):
    out, tars = tmp_path / "stage1.jsonl", tmp_path / "tars"
    common = ("--captions", chat, "--out", out, "--samples-per-tar", 4)
    run(*common, "--image-root", tmp_path / "images.zip", "--tars", tars, "--shuffle-seed", 3)
    plain = FileDataset(out, image_root=tmp_path / "images")
    packed = FileDataset(str(tars / "{00000..00002}.tar"), kind="webdataset")
    assert len(plain) == len(packed) == NUM_PAIRS
    for one, other in zip(plain, packed, strict=True):
        assert (one.id, one.queries, one.source) == (other.id, other.queries, other.source)
        assert load_image(one.image).tobytes() == load_image(other.image).tobytes()
    assert [item.id for item in plain] != [f"c{k}" for k in range(NUM_PAIRS)]
    assert {item.id for item in plain} == {f"c{k}" for k in range(NUM_PAIRS)}
    manifest = manifest_of(out)
    assert manifest["facts"] == {"tars": 3}
    assert manifest["ledgers"][0]["kept"] == NUM_PAIRS
    assert not list(tmp_path.glob("*journal*"))


def test_the_mix_depends_on_the_seed_alone(run, chat, tmp_path):
    orders = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run("--captions", chat, "--out", tmp_path / f"{name}.jsonl", "--shuffle-seed", seed)
        orders.append([record.id for record in read_records(tmp_path / f"{name}.jsonl")])
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_shards_write_the_tars_of_one_build_and_merge_to_its_records(run, repo_root, chat, tmp_path):
    common = ("--captions", chat, "--image-root", tmp_path / "images", "--samples-per-tar", 2)
    run(*common, "--out", tmp_path / "whole.jsonl", "--tars", tmp_path / "whole")
    for k in range(3):
        run(*common, "--out", tmp_path / f"part-{k}.jsonl", "--tars", tmp_path / "parts", "--shard", f"{k}/3")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    parts = [str(tmp_path / f"part-{k}.jsonl") for k in range(3)]
    merge = [sys.executable, str(repo_root / "data_builders/merge.py"), *parts, "--out", "merged.jsonl"]
    subprocess.run(merge, check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    merged, whole = manifest_of(tmp_path / "merged.jsonl"), manifest_of(tmp_path / "whole.jsonl")
    for part in ("counts", "facts", "ledgers", "input_ledgers"):
        assert merged[part] == whole[part]


def test_missing_and_broken_images_are_counted_and_too_many_stop_the_build(run, chat, tmp_path):
    train = tmp_path / "images" / "train"
    (train / "3.jpg").unlink()
    (train / "5.jpg").write_bytes((train / "5.jpg").read_bytes()[:-200])
    out = tmp_path / "stage1.jsonl"
    arguments = ("--captions", chat, "--image-root", tmp_path / "images", "--out", out, "--check-images")
    message = run(*arguments, "--tars", tmp_path / "tars", fails=True)
    assert "image files: dropped 2 of 11 items" in message
    assert "no image file: c3 (train/3.jpg)" in message
    assert not out.exists()
    more = ("--tars", tmp_path / "other", "--max-dropped-fraction", 0.2, "--overwrite")
    run(*arguments, *more)
    reasons = manifest_of(out)["ledgers"][0]["reasons"]
    assert {reason: found["count"] for reason, found in reasons.items()} == {
        "no image file": 1,
        "unreadable image": 1,
    }
    with tarfile.open(tmp_path / "other" / "00000.tar") as tar:
        assert "000003.json" not in tar.getnames()
        assert len(tar.getnames()) == 2 * 9


def test_a_killed_build_goes_on_and_gives_what_an_undisturbed_one_does(run, repo_root, chat, tmp_path):
    entries = [{**pair(k % NUM_PAIRS), "id": f"e{k}"} for k in range(600)]
    chat.write_text(json.dumps(entries))
    common = ("--captions", chat, "--image-root", tmp_path / "images", "--samples-per-tar", 5)
    run(*common, "--out", tmp_path / "whole.jsonl", "--tars", tmp_path / "whole")
    arguments = (*common, "--out", tmp_path / "out.jsonl", "--tars", tmp_path / "tars")
    killed = start(repo_root, tmp_path, *arguments)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "tars").glob("*.tar"))) < 3:
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "out.jsonl").exists()
    message = run(*arguments)
    assert "of 120 tars stand already" in message
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert contents(tmp_path / "tars") == contents(tmp_path / "whole")


def test_again_it_does_nothing_and_misses_tars_that_were_taken_away(run, chat, tmp_path):
    out, tars = tmp_path / "stage1.jsonl", tmp_path / "tars"
    arguments = ("--captions", chat, "--out", out, "--image-root", tmp_path / "images", "--tars", tars)
    run(*arguments)
    stamp = (tars / "00000.tar").stat().st_mtime_ns
    assert "is there already" in run(*arguments)
    assert (tars / "00000.tar").stat().st_mtime_ns == stamp
    assert "made by other arguments" in run(*arguments, "--samples-per-tar", 2, fails=True)
    (tars / "00000.tar").unlink()
    assert "1 of 1 tars are no longer in" in run(*arguments, fails=True)


def test_what_it_refuses(run, chat, tmp_path):
    out, tars = tmp_path / "stage1.jsonl", tmp_path / "tars"
    assert "--image-root FOLDER or ZIP" in run("--captions", chat, "--out", out, "--tars", tars, fails=True)
    instances = tmp_path / "instances.json"
    image = {"id": 1, "file_name": "1.jpg", "width": 4, "height": 4}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]}
    instances.write_text(json.dumps({"images": [image], "annotations": [box], "categories": []}))
    assert "expected a captions file" in run("--captions", instances, "--out", out, fails=True)
    chat.write_text(json.dumps([{**pair(1), "image": "../../secret.jpg"}]))
    packing = ("--out", out, "--image-root", tmp_path / "images", "--tars", tars)
    assert "must stay inside its root" in run("--captions", chat, *packing, fails=True)
    chat.write_text(json.dumps([pair(1)] * 2))
    assert "id is there twice: c1" in run("--captions", chat, "--out", out, fails=True)
    assert not out.exists()


def test_the_preview_shows_images_of_the_zip(run, chat, tmp_path):
    page = tmp_path / "page.html"
    arguments = ("--captions", chat, "--out", tmp_path / "stage1.jsonl", "--preview", page)
    run(*arguments, "--image-root", tmp_path / "images.zip")
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == NUM_PAIRS
    assert "a dog, 10" in text


def test_real_coco_captions(run, shared_data, tmp_path):
    folder = shared_data / "coco"
    captions = folder / "annotations" / "captions_train2017.json"
    out, tars = tmp_path / "stage1.jsonl", tmp_path / "tars"
    run("--captions", captions, "--out", out, "--image-root", folder / "train2017", "--tars", tars)
    records = list(read_records(out))
    assert len(records) == 39
    packed = FileDataset(str(tars / "*.tar"), kind="webdataset")
    assert [item.id for item in packed] == [record.id for record in records]
    assert load_image(packed[0].image).size == (records[0].width, records[0].height)
