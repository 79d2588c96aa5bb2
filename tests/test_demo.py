"""The demo in its quick form: every phase, and a second start that finds them done."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FIGURES = ["locpred_acc50", "locpred_miou", "absent_acc", "present_acc", "revloc_acc", "parse_failures"]
FIGURES += ["blank_acc50", "left_right_acc", "above_below_acc"]
PHASES = ["world", "data", "init", "stage1", "eval_stage1", "stage2", "eval_stage2", "export", "report"]


def test_every_phase_needs_only_earlier_ones_and_reads_files_that_exist(
    repo_root: Path, tmp_path: Path
) -> None:
    demo = runpy.run_path(str(repo_root / "scripts" / "demo.py"))
    phases = demo["plan"](tmp_path, demo["FULL"], codec="ivb", seed=0)
    assert [phase.name for phase in phases] == PHASES
    for number, phase in enumerate(phases):
        assert set(phase.needs) <= set(PHASES[:number])
        for arguments in phase.commands:
            assert (repo_root / arguments[0]).is_file(), arguments[0]
        for file in (*phase.configs, *phase.files):
            assert (repo_root / file).is_file(), file


def test_the_world_is_made_again_for_other_backbones(repo_root: Path, tmp_path: Path) -> None:
    demo = runpy.run_path(str(repo_root / "scripts" / "demo.py"))
    world = demo["plan"](tmp_path, demo["FULL"], codec="ivb", seed=0)[0]
    weights = {"clip.safetensors", "llm.safetensors", "tokenizer.model"}
    assert (world.name, weights - {Path(file).name for file in world.files}) == ("world", set())


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [([], "runs/demo"), (["--quick"], "runs/demo_quick"), (["--codec", "nfp"], "runs/demo_nfp")],
)
def test_runs_that_differ_have_folders_that_differ(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], folder: str
) -> None:
    demo = runpy.run_path(str(repo_root / "scripts" / "demo.py"))
    monkeypatch.setattr(sys, "argv", ["demo.py", *arguments])
    assert demo["parse_arguments"]().out == Path(folder)


def run_demo(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """As a user does, where the environment is scripts/setup_env.sh's; else by this Python."""
    is_ours = (root / ".venv" / "locvlm.stamp").is_file()
    program = ["bash", "scripts/demo.sh"] if is_ours else [sys.executable, "scripts/demo.py"]
    return subprocess.run(
        [*program, "--quick", "--out", str(out)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_the_quick_demo_leaves_report_scores_and_export_and_then_reuses_them(
    repo_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    done = run_demo(repo_root, out)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    scores = json.loads((out / "scores.json").read_text())
    for name in [*FIGURES, *(f"seconds_{phase}" for phase in PHASES)]:
        assert isinstance(scores[name], int | float), name
    page = (out / "report.html").read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", ""), "the page needs something else"
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        assert (out / "export" / name).is_file(), name

    final = out / "stage2" / "final" / "config.json"
    before = final.stat().st_mtime_ns
    again = run_demo(repo_root, out)
    assert again.returncode == 0, again.stderr[-4000:]
    assert "stage2:" not in again.stderr
    assert final.stat().st_mtime_ns == before
