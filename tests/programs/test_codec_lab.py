import json
import os
import subprocess
import sys

import pytest
from PIL import Image


def run(repo_root, *arguments):
    return subprocess.run(
        [sys.executable, repo_root / "scripts/codec_lab.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def instances(path, boxes):
    path.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.jpg", "width": 640, "height": 480}],
                "annotations": [
                    {"id": i, "image_id": 1, "category_id": 1, "bbox": b, "area": 1, "iscrowd": 0}
                    for i, b in enumerate(boxes)
                ],
                "categories": [{"id": 1, "name": "cat"}],
            }
        )
    )
    return path


def test_it_writes_numbers_a_table_and_a_plot_for_every_codec(repo_root, shared_data, tmp_path):
    path = instances(tmp_path / "a.json", [[10, 20, 20, 20], [100, 100, 60, 50], [200, 100, 200, 250]])
    done = run(
        repo_root, "--instances", path, "--tokenizer", shared_data / "tokenizer", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "out/codec_lab.json").read_text())
    rows = {(row["codec"], row["location"]): row for row in saved["results"]}
    codecs = ("nfp", "ivb", "diga", "shikra", "llava", "thousand", "kosmos2")
    assert set(rows) == {(codec, kind) for codec in codecs for kind in ("bbox", "point")}
    for row in rows.values():
        assert row["num_locations"] == 3
        assert row["error_fraction"]["max"] <= row["max_error"] + 1e-9
    assert rows["nfp", "bbox"]["tokens"] == {"mean": 32, "min": 32, "max": 32}
    ceilings = [rows["ivb", "bbox"]["iou"][name]["mean"] for name in ("small", "medium", "large")]
    assert ceilings == sorted(ceilings)
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 2 * len(codecs)
    assert "\n".join(table) in (tmp_path / "out/codec_lab.md").read_text()
    with Image.open(tmp_path / "out/codec_lab.png") as plot:
        assert plot.width > 1000
        assert len(plot.convert("RGB").getcolors(maxcolors=2**24)) > 10


@pytest.mark.parametrize(
    ("boxes", "options", "message"),
    [
        ([], [], "no object to locate"),
        ([[0, 0, 10, 10]], ["--frame", "crop"], "shows none of the objects"),
        ([[0, 0, 10, 10]], ["--canvas", "225"], "whole number of patches"),
    ],
)
def test_what_it_cannot_measure_it_says(repo_root, shared_data, tmp_path, boxes, options, message):
    path = instances(tmp_path / "a.json", boxes)
    done = run(
        repo_root,
        "--instances",
        path,
        "--tokenizer",
        shared_data / "tokenizer",
        "--out",
        tmp_path / "out",
        *options,
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
