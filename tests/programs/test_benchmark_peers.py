import json
import os
import subprocess
import sys

import pytest


def test_ours_and_the_trainer_agree_and_take_turns(repo_root, tmp_path):
    sizes = ("--toy", "--pairs", 4, "--pairs-per-step", 8, "--pairs-per-pass", 4, "--rounds", 2)
    out = tmp_path / "results" / "peers.json"
    done = subprocess.run(
        [
            *(sys.executable, str(repo_root / "scripts/benchmark_peers.py")),
            *(*map(str, sizes), "--ways", "ours", "trainer", "--out", str(out)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pairs an image") == 1
    saved = json.loads(out.read_text())
    losses = saved["first_losses_fp32"]
    assert losses["trainer"] == pytest.approx(losses["ours"], rel=1e-4)
    (case,) = saved["cases"]
    ways = case["ways"]
    assert {way: len(figures["seconds"]) for way, figures in ways.items()} == {"ours": 2, "trainer": 2}
    assert ways["ours"]["supervised"] == ways["trainer"]["supervised"] > 0
    assert ways["ours"]["images"] == 6
    assert ways["trainer"]["images"] == 24
    for figures in ways.values():
        assert 0 < figures["start_bytes"] <= figures["peak_bytes"]
    (quoted,) = saved["headline"]
    assert quoted["figure"] == ways["trainer"]["ours_times_as_fast"]
    assert saved["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert list(tmp_path.iterdir()) == [tmp_path / "results"]  # what it made to train on is gone
