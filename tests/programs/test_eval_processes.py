"""eval/run.py as several processes, killed in the middle and started again: the file is always the same."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from locvlm.io import read_json, read_jsonl, write_jsonl

NUM_RECORDS = 60
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def records(tiny_world, tmp_path_factory) -> Path:
    """The tiny world's questions many times over, so that there is time to be killed."""
    rows = [row for _, row in read_jsonl(tiny_world.records)]
    path = tmp_path_factory.mktemp("many") / "records.jsonl"
    write_jsonl(path, ({**rows[i % len(rows)], "id": f"r{i}"} for i in range(NUM_RECORDS)))
    return path


@pytest.fixture(scope="module")
def start(tiny_world, records, repo_root):
    """start(folder, *options, launcher=()): eval/run.py in a process of its own."""

    def begin(folder: Path, *options: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
        named = {
            "--model": tiny_world.init,
            "--records": records,
            "--image-root": tiny_world.images,
            "--output-dir": folder,
            "--tasks": "revloc",
            "--batch-size": 8,
        }
        words = [str(part) for pair in named.items() for part in pair]
        return subprocess.Popen(
            [sys.executable, *launcher, "eval/run.py", *words, *options],
            cwd=repo_root,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def kill_in_the_middle(process: subprocess.Popen, *files: Path) -> int:
    """SIGKILL for all its processes once each file holds lines; how many they all hold."""

    def counts() -> list[int]:
        return [file.read_bytes().count(b"\n") if file.exists() else 0 for file in files]

    deadline = time.monotonic() + 200
    while not all(counts()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:  # torchrun's ranks are in sessions of their own
        member.kill()
    psutil.wait_procs(family, timeout=60)
    process.communicate()
    return sum(counts())


def results_of(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in (*(folder / "predictions").iterdir(), folder / "scores.json")
    }


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory) -> Path:
    """The evaluation of one process that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder))
    return folder


def test_a_killed_run_goes_on_to_the_same_file(start, whole, tmp_path):
    asked = read_json(whole / "scores.json")["tasks"]["revloc"]["asked"]
    killed = kill_in_the_middle(start(tmp_path), tmp_path / "predictions" / "revloc.jsonl")
    assert 0 < killed < asked > NUM_RECORDS
    said = finish(start(tmp_path))
    assert f"of {asked} questions are answered already" in said
    assert "[00:" in said  # how long, and how long still
    assert results_of(tmp_path) == results_of(whole)


def test_two_ranks_that_were_killed_go_on_to_the_file_of_one_process(start, whole, tmp_path):
    parts = [tmp_path / "predictions" / f"revloc.part-{rank}-of-2.jsonl" for rank in (0, 1)]
    kill_in_the_middle(start(tmp_path, launcher=TORCHRUN), *parts)
    assert all(part.exists() for part in parts)
    finish(start(tmp_path, launcher=TORCHRUN))
    assert results_of(tmp_path) == results_of(whole)


@pytest.mark.slow
def test_shards_that_were_killed_go_on_and_scoring_makes_one_file_of_them(start, whole, tmp_path, repo_root):
    parts = [tmp_path / "predictions" / f"revloc.part-{index}-of-2.jsonl" for index in (0, 1)]
    kill_in_the_middle(start(tmp_path, "--shard", "1/2"), parts[1])
    for index in (0, 1):
        finish(start(tmp_path, "--shard", f"{index}/2"))
    assert not (tmp_path / "scores.json").exists()
    score = [sys.executable, "eval/score.py", "--output-dir", str(tmp_path)]
    done = subprocess.run(score, cwd=repo_root, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert results_of(tmp_path) == results_of(whole)


def test_shards_are_not_for_ranks(start, tmp_path):
    said, _ = start(tmp_path, "--shard", "0/2", launcher=TORCHRUN).communicate(timeout=200)
    assert "torchrun's ranks share by themselves" in said
    assert not list(tmp_path.iterdir())


def test_processes_that_cannot_meet_are_told_how_to(start, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")  # as a bare srun sets it
    said, _ = start(tmp_path).communicate(timeout=200)
    assert "2 processes were started, but not where they meet; start them with torchrun, or each with" in said
