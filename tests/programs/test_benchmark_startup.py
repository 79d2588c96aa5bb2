import os
import subprocess
import sys

from locvlm.io import read_json

PROGRAM = "scripts/benchmark_startup.py"


def start(repo_root, *arguments):
    return subprocess.run(
        [sys.executable, PROGRAM, "--rounds", "1", *map(str, arguments)],
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_the_package_and_a_stage_answer_within_two_seconds_of_the_processor(repo_root, tmp_path):
    out = tmp_path / "startup.json"
    done = start(repo_root, "--programs", "train/stage2.py", "--limit-s", "60", "--out", out)
    assert done.returncode == 0, done.stderr
    medians = read_json(out)["medians"]
    assert set(medians) == {"python -c pass", "import locvlm", "train/stage2.py --help"}
    # seconds of the processor, which other processes on the machine do not lengthen
    assert all(0 < taken["cpu_seconds"] < 2 for taken in medians.values())
    assert "train/stage2.py --help" in done.stdout


def test_what_takes_too_long_is_named_and_ends_with_status_1(repo_root):
    done = start(repo_root, "--programs", "train/stage1.py", "--limit-s", "0.01")
    assert done.returncode == 1
    assert "longer than 0.01 s: " in done.stderr
    assert "train/stage1.py" in done.stderr
