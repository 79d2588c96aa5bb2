import json
import os
import subprocess
import sys


def test_it_compares_gradients_and_times_the_three_ways(repo_root, tmp_path):
    out = tmp_path / "results" / "attention.json"
    options = ["--toy", "--dtypes", "fp32", "bf16", "--out", out]
    done = subprocess.run(
        [sys.executable, repo_root / "scripts/benchmark_attention.py", *options],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    saved = json.loads(out.read_text())
    for dtype, limit in (("fp64", 1e-12), ("fp32", 1e-5)):
        for way in ("sdpa", "tree"):
            assert 0 < saved["differences"][dtype][way]["gradients"] <= limit
    for dtype in ("fp32", "bf16"):
        for part in ("whole pass", "language model alone"):
            ways = saved[dtype][part]
            assert {name: len(way["seconds"]) for name, way in ways.items()} == {
                "separate": 1,
                "sdpa": 1,
                "tree": 1,
            }
            assert ways["tree"]["flops"] < ways["sdpa"]["flops"] < ways["separate"]["flops"]
        assert saved[dtype]["optimizer_s"] > 0
    assert saved["machine"]["threads"] == 1
    assert [line["goal"] for line in saved["headline"]] == [3.9] * 4
    assert done.stdout.index("gradients by") < done.stdout.index("times as fast")
    assert done.stdout.count("goal: ") == 4
