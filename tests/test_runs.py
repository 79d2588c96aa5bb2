import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from locvlm import runs


@dataclass(frozen=True, kw_only=True)
class Config:
    name: str = "a"
    seed: int = 17


def test_a_run_folder_says_what_was_run_with_what(tmp_path: Path) -> None:
    run = runs.start_run(tmp_path / "run", Config())
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"name": "a", "seed": 17}
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["seeds"] == {"seed": 17}
    assert environment["packages"]["torch"]
    assert environment["ranks"] >= 1
    assert environment["argv"]
    run.metrics.write(step=1, loss=2.0)
    assert (run.path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n'


def test_another_config_in_a_folder_that_stands_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.start_run(tmp_path, Config())
    with caplog.at_level(logging.WARNING):
        runs.start_run(tmp_path, Config())
        assert not caplog.records
        runs.start_run(tmp_path, Config(name="b"))
    assert "name was 'a', is 'b'" in caplog.text


def test_only_rank_0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    runs.start_run(tmp_path / "run", Config())
    assert list((tmp_path / "run").iterdir()) == []


def test_the_commit_is_that_of_this_checkout(repo_root: Path) -> None:
    commit = runs.git_commit()
    if commit is None:
        assert not (repo_root / ".git").exists() or not list(
            (repo_root / ".git" / "refs" / "heads").iterdir()
        )
    else:
        assert len(commit.removesuffix("-dirty")) == 40


def test_two_processes_do_not_run_in_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from locvlm import runs\n"
        "run = runs.start_run(sys.argv[1], {})\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(ValueError, match=rf"another process is running in .*\(process {other.pid} on "):
            runs.start_run(tmp_path, {})
        other.kill()
    runs.start_run(tmp_path, {})  # a killed process leaves no lock behind


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_a_folder_that_cannot_be_written_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"cannot write into the run folder /proc/run: .*give another one"):
        runs.start_run("/proc/run", {})
