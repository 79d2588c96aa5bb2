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
VIDEO_PHASES = ["clips", "video_data", "video_features", "stage3", "eval_video", "export_video"]


@pytest.mark.parametrize("with_video", [False, True])
def test_every_phase_needs_only_earlier_ones_and_reads_files_that_exist(
    repo_root: Path, tmp_path: Path, with_video: bool
) -> None:
    demo = runpy.run_path(str(repo_root / "scripts" / "demo.py"))
    phases = demo["plan"](tmp_path, demo["FULL"], codec="ivb", seed=0, with_video=with_video)
    names = [phase.name for phase in phases]
    assert names == ([*PHASES[:-1], *VIDEO_PHASES, "report"] if with_video else PHASES)
    for number, phase in enumerate(phases):
        assert set(phase.needs) <= set(names[:number])
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


def run_demo(root: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """As a user does, where the environment is scripts/setup_env.sh's; else by this Python."""
    is_ours = (root / ".venv" / "locvlm.stamp").is_file()
    program = ["bash", "scripts/demo.sh"] if is_ours else [sys.executable, "scripts/demo.py"]
    return subprocess.run(
        [*program, "--quick", "--out", str(out), *options],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def quick_demo(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick demo."""
    out = tmp_path_factory.mktemp("quick") / "demo"
    done = run_demo(repo_root, out)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return out


def test_the_quick_demo_leaves_report_scores_and_export_and_then_reuses_them(
    repo_root: Path, quick_demo: Path
) -> None:
    out = quick_demo
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


def test_a_third_stage_on_clips_is_added_to_what_stands_and_to_the_report(
    repo_root: Path, quick_demo: Path
) -> None:
    before = (quick_demo / "stage2" / "final" / "config.json").stat().st_mtime_ns
    done = run_demo(repo_root, quick_demo, "--video")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (quick_demo / "stage2" / "final" / "config.json").stat().st_mtime_ns == before
    scores = json.loads((quick_demo / "scores.json").read_text())
    for name in ("locpred_acc50", "absent_acc", "present_acc", "revloc_acc", "qa_acc"):
        assert 0 <= scores[f"video_{name}"] <= 1
        assert 0 <= scores[f"video_{name}_frame"] <= 1
    for name in ("locpred_acc50", "qa_acc"):
        assert 0 <= scores[f"video_{name}_blank"] <= 1
        assert 0 <= scores[f"video_{name}_shuffled"] <= 1
    assert (scores["video_export_same"], scores["stock_export_same"]) == (1.0, 1.0)
    assert (quick_demo / "export_video" / "config.json").is_file()
    assert all(scores[f"seconds_{phase}"] > 0 for phase in VIDEO_PHASES)
    page = (quick_demo / "report.html").read_text()
    assert page.count('<div class="strip">') == 8
    assert "Clips:" in page
