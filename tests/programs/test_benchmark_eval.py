import json
import os
import subprocess
import sys


def test_it_measures_both_ways_and_says_how_many_answers_agree(repo_root, tmp_path):
    out = tmp_path / "eval.json"
    sizes = (
        "--hidden 64 --layers 2 --canvas 56 --images 2 --questions 3 --new-tokens 4 --repeats 2 --threads 1"
    )
    command = [sys.executable, "scripts/benchmark_eval.py", *sizes.split(), "--max-batch-tokens", "300"]
    done = subprocess.run(
        [*command, "--dtypes", "float32", "float64", "--out", str(out)],
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    saved = json.loads(out.read_text())
    assert [row["dtype"] for row in saved["rows"]] == ["float32", "float64"]
    for row in saved["rows"]:
        assert len(row["one_at_a_time_s"]) == len(row["in_batches_s"]) == 2
        assert row["times_faster"] > 0
        assert row["equal_answers_fraction"] == 1.0
    assert saved["settings"]["questions"] == 3
    assert saved["machine"]["cores"] == len(os.sched_getaffinity(0))
