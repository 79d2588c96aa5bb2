import json
import os
import subprocess
import sys


def test_it_compares_gradients_times_and_memory_of_the_three_ways(repo_root, tmp_path):
    out = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, repo_root / "scripts/benchmark_rows.py", "--toy", "--out", out],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    saved = json.loads(out.read_text())
    for layers in (2, 3):
        found = saved[f"{layers} layers"]
        assert 0 < found["supervised_fraction"] < 0.1
        assert all(gap["gradients"] <= 1e-5 for gap in found["differences"].values())
        every, head, both = (found["ways"][way] for way in ("all rows", "head", "both"))
        for figure in ("flops", "kept_bytes"):
            assert every[figure] > head[figure] > both[figure]
        assert len(both["seconds"]) == 1
    assert len(saved["headline"]) == 4
    assert "last layer at supervised rows alone, 3 layers" in done.stdout
