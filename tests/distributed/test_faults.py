"""What goes wrong with several ranks: one that is told to leave, one that hangs, losses that leap."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from locvlm.io import read_json, read_jsonl, write_json

pytestmark = pytest.mark.slow

TWO_RANKS = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "2")
FOR_EVER = ("--training.max_steps", "5000", "--training.save_steps", "5000", *TWO_RANKS)


@pytest.fixture
def start(repo_root, tmp_path):
    """start([...]): stage 2 on two ranks by torchrun, running; its output is in tmp_path / "log"."""
    started = []

    def run(arguments: list[str]) -> subprocess.Popen:
        program = str(Path(sys.executable).with_name("torchrun"))
        command = [program, "--standalone", "--nproc_per_node", "2", "train/stage2.py", *arguments]
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(command, cwd=repo_root, stdout=log, stderr=log, start_new_session=True)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(condition, process, tmp_path, *, timeout_s=180):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, (tmp_path / "log").read_text()[-4000:]
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-4000:]
        time.sleep(0.05)


def has_logged(run, step):
    return lambda: (
        (run / "metrics.jsonl").is_file()
        and any(row["step"] >= step for _, row in read_jsonl(run / "metrics.jsonl"))
    )


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_one_signalled_rank_has_all_save_and_leave(tiny_world, start, launch, tmp_path, zero):
    run = tmp_path / "run"
    faults = ("--faults.stalled_after_s", "60")  # heartbeats name the processes
    process = start(
        tiny_world.stage(2, run, *FOR_EVER, *faults, "--training.deepspeed", f"ds_configs/{zero}.json")
    )
    wait_for(lambda: (run / "heartbeats" / "rank-1.json").is_file(), process, tmp_path)
    wait_for(has_logged(run, 2), process, tmp_path)
    os.kill(read_json(run / "heartbeats" / "rank-1.json")["process"], signal.SIGUSR1)
    assert process.wait(timeout=120) != 0
    step = read_json(run / "preempted.json")["step"]
    assert read_json(run / f"checkpoint-{step}" / "checkpoint.json")["num_ranks"] == 2


def test_a_rank_that_hangs_is_named(tiny_world, start, tmp_path):
    run = tmp_path / "run"
    process = start(tiny_world.stage(2, run, *FOR_EVER, "--faults.stalled_after_s", "6"))
    wait_for(has_logged(run, 3), process, tmp_path)
    wait_for(lambda: (run / "heartbeats" / "rank-1.json").is_file(), process, tmp_path)
    frozen = read_json(run / "heartbeats" / "rank-1.json")["process"]
    os.kill(frozen, signal.SIGSTOP)
    try:
        said = re.compile(r"no step for 6 s: rank 1 on \S+ \(process (\d+)\)")
        wait_for(lambda: said.search((tmp_path / "log").read_text()), process, tmp_path, timeout_s=60)
        assert int(said.search((tmp_path / "log").read_text())[1]) == frozen
    finally:
        os.kill(frozen, signal.SIGCONT)


def test_a_deepspeed_file_that_contradicts_the_run_is_refused(tiny_world, start, tmp_path, repo_root):
    config = read_json(repo_root / "ds_configs" / "zero2.json")
    write_json(tmp_path / "ds.json", {**config, "train_micro_batch_size_per_gpu": 3})
    options = ("--training.max_steps", "2", *TWO_RANKS, "--training.deepspeed", str(tmp_path / "ds.json"))
    process = start(tiny_world.stage(2, tmp_path / "run", *options))
    assert process.wait(timeout=180) != 0
    said = (tmp_path / "log").read_text()
    assert "ds train_micro_batch_size_per_gpu=3 vs hf per_device_train_batch_size=1" in said


def test_a_port_in_use_ends_the_start_and_is_named(tiny_world, repo_root, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        program = str(Path(sys.executable).with_name("torchrun"))
        command = [program, "--nproc_per_node", "2", "--master_addr", "127.0.0.1", "--master_port", port]
        command += ["train/stage2.py", *tiny_world.stage(2, tmp_path / "run", *TWO_RANKS)]
        done = subprocess.run(
            command, cwd=repo_root, capture_output=True, text=True, timeout=180, check=False
        )
    assert done.returncode != 0
    assert port in done.stderr
    assert "EADDRINUSE" in done.stderr


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_ranks_agree_on_what_is_left_out(tiny_world, launch, tmp_path, rows_of, zero):
    run = tmp_path / "run"
    skip = ("--faults.on_bad_loss", "skip", "--faults.spike_factor", "1.001", "--faults.max_skipped", "1000")
    short = ("--training.max_steps", "12", "--training.learning_rate", "1e-6", *TWO_RANKS)
    arguments = tiny_world.stage(2, run, *short, *skip, "--training.deepspeed", f"ds_configs/{zero}.json")
    launch("deepspeed", 2, arguments)
    assert len(rows_of(run)) == 12
    left_out = [row for _, row in read_jsonl(run / "bad_batches.jsonl")]
    assert left_out
    assert all(row["is_skipped"] for row in left_out)
