import json
import os
import subprocess
import sys


def test_it_times_the_three_ways_side_by_side(repo_root, tmp_path):
    out = tmp_path / "results" / "attention.json"
    sizes = {"scenes": 2, "questions": 3, "prefix": 8, "width": 16, "layers": 1, "heads": 2, "rounds": 2}
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, repo_root / "scripts/benchmark_attention.py", *options, "--out", out],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    saved = json.loads(out.read_text())
    assert {name: len(taken) for name, taken in saved["seconds"].items()} == {
        "separate": 2,
        "sdpa": 2,
        "tree": 2,
    }
    medians = saved["median_seconds"]
    assert saved["tree_against_sdpa"] == medians["sdpa"] / medians["tree"]
    assert saved["machine"]["threads"] == 1
    assert "tree" in done.stdout
