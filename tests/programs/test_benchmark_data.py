import json
import os
import subprocess
import sys

import pytest

# What a worker has for itself may grow by this much, MB, while the records grow by 390 000. A permutation in
# each worker would be 3.1 MB, an index 6.2 MB, the records themselves hundreds; runs differ by less than 1.
ALLOWED_MB = 1.5


def run(repo_root, tmp_path, *options):
    out = tmp_path / "data.json"
    done = subprocess.run(
        [sys.executable, repo_root / "scripts/benchmark_data.py", *map(str, options), "--out", out],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_it_measures_every_storage(repo_root, tmp_path):
    sizes = ("--records", 300, "--steps", 4, "--per-step", 8, "--folder", tmp_path)
    saved = run(repo_root, tmp_path, *sizes)
    assert [(row["storage"], row["records"]) for row in saved["rows"]] == [
        ("lines", 300),
        ("zip", 300),
        ("tars", 300),
    ]
    for row in saved["rows"]:
        assert len(row["worker_mb"]) == 2
        assert all(0 < worker["uss"] < worker["rss"] for worker in row["worker_mb"])
        assert row["conversations_per_s"] > 0
    assert saved["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]  # its data is gone


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux's memory accounting")
def test_the_memory_of_a_worker_does_not_grow_with_the_records(repo_root, tmp_path):
    sizes = ("--records", 10_000, 400_000, "--steps", 12, "--per-step", 16, "--canvas", 28)  # small batches
    few, lot = run(repo_root, tmp_path, *sizes, "--storage", "lines")["rows"]
    assert (few["records"], lot["records"]) == (10_000, 400_000)
    used = [max(worker["uss"] for worker in row["worker_mb"]) for row in (few, lot)]
    assert used[1] - used[0] < ALLOWED_MB, used
