"""The tiny world of tests/training, for the programs too; and what tests of builders share."""

import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest


def _load(folder, name):
    """The conftest.py of another room."""
    path = Path(__file__).parents[1] / folder / "conftest.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_MODULE = _load("training", "tiny_world")
_SEGMENTING = _load("building/segmenting", "segmenting")

finder, write_panoptic, scene = _SEGMENTING.finder, _SEGMENTING.write_panoptic, _SEGMENTING.scene
tiny_world, run_stage = _MODULE.tiny_world, _MODULE.run_stage
rows_of, weights_of = _MODULE.rows_of, _MODULE.weights_of
video_world, stage3_of = _MODULE.video_world, _MODULE.stage3_of
foreign = _load("answering", "answering").foreign

CLASSES = ["dog", "cat", "bus", "cow", "elk", "emu", "fox", "owl"]


@pytest.fixture
def run(repo_root, tmp_path):
    """Runs a program of the checkout in `tmp_path`; returns what it says."""

    def run_program(program, *arguments, fails=False):
        command = [sys.executable, str(repo_root / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr

    return run_program


@pytest.fixture
def program(monkeypatch, repo_root):
    """program("eval/run.py", "--model", ...): the program in this process, which has loaded torch already."""

    def run_here(path, *arguments):
        monkeypatch.setattr("sys.argv", [path, *map(str, arguments)])
        runpy.run_path(str(repo_root / path), run_name="__main__")

    return run_here


@pytest.fixture
def run_killed(repo_root, tmp_path):
    """Runs a program and kills it (SIGKILL) once its journal has so many lines."""

    def run_until(program, *arguments, journal, lines):
        command = [sys.executable, str(repo_root / program), *map(str, arguments)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
        )
        try:
            until = time.monotonic() + 60
            while not journal.is_file() or journal.read_bytes().count(b"\n") < lines:
                assert process.poll() is None, "it ended before it could be killed"
                assert time.monotonic() < until
                time.sleep(0.002)
        finally:
            process.kill()
            process.wait()

    return run_until


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


@pytest.fixture
def stage3(tiny_world, tmp_path):
    """The checkpoint made for videos of four frames."""
    folder = shutil.copytree(tiny_world.init, tmp_path / "stage3")
    config = json.loads((folder / "config.json").read_text())
    config["locvlm"]["video"] = {"num_frames": 4, "order": "temporal_spatial", "pad_frames": None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
