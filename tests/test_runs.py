import json
import logging
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
