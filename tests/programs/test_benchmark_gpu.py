import os
import runpy
import subprocess
import sys

import pytest

from locvlm.io import read_json, write_json

PROGRAM = "scripts/benchmark_gpu.py"


@pytest.fixture(scope="module")
def toy(repo_root, tmp_path_factory):
    """(standard output, result) of all cases on the toy model."""
    out = tmp_path_factory.mktemp("gpu") / "results" / "toy.json"
    done = subprocess.run(
        [sys.executable, PROGRAM, "--toy", "--rounds", "1", "--out", out],
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=580,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout, read_json(out)


def test_all_that_a_cpu_can_do_is_timed_and_the_rest_says_why_not(toy):
    _, result = toy
    by_status = {}
    for case in result["cases"]:
        by_status.setdefault(case["status"], {})[case["name"]] = case
    assert set(by_status) == {"ok", "not here"}
    needs_gpu = ("flex", "8bit", "4bit", "liger")
    for name, case in by_status["not here"].items():
        assert any(word in name for word in needs_gpu), name
        assert "GPU" in case["reason"] or "CPU" in case["reason"]
    assert not any(word in name for name in by_status["ok"] for word in needs_gpu)
    for word in (
        "tree",
        "separate",
        "checkpointing",
        "stage1",
        "fp32-lora",
        "compiled_blocks",
        "compiled_model",
    ):
        assert any(word in name for name in by_status["ok"]), word
    for name, case in by_status["ok"].items():
        if "largest" in name:
            assert case["largest_rows"] >= 1
        else:
            assert case["median_step_s"] > 0
            assert case["tokens_per_s"] > 0


def test_every_way_to_compute_the_same_pairs_gives_the_same_loss(toy):
    _, result = toy
    assert {agreement["status"] for agreement in result["correctness"]} == {"ok", "not here"}
    assert result["loss_spread"]
    assert all(spread < 2e-3 for spread in result["loss_spread"].values())  # bf16 has 8 bits


def test_goals_and_machine_stand_beside_the_figures(toy):
    text, result = toy
    assert "goal toy: stage 2, MFU without checkpointing: 0.55; reached: " in text
    assert result["peak_tflops"] == 989
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["packages"]["torch"]


def test_the_planner_takes_what_was_measured(toy, monkeypatch, repo_root, tmp_path, capsys):
    write_json(tmp_path / "toy.json", toy[1])
    arguments = ["--config", "train/configs/locvlm_b_stage2.yaml", "--gpus", "8", "--gpu", "h100-80g"]
    arguments += [
        "--llm",
        "llama-7b",
        "--tower",
        "clip-l-14-224",
        "--adapter",
        "linear",
        "--samples",
        "253611",
    ]
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr("sys.argv", ["scripts/plan.py", *arguments, "--mfu-from", str(tmp_path / "toy.json")])
    runpy.run_path("scripts/plan.py", run_name="__main__")
    text = capsys.readouterr().out
    assert "(measured: toy-stage2-adamw_fp32/k8-shared-sdpa on " in text
    lines = [line for line in text.splitlines() if line.strip().startswith("toy-stage2")]
    assert sum(" * " in line for line in lines) == 1
    assert next(line for line in lines if " * " in line).split()[-3] == "1.00"


def test_it_starts_where_deepspeed_is_not_installed(repo_root):
    code = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'deepspeed' else found(name, *rest)\n"
        "import locvlm.benchmarks.gpu.run, locvlm.training.profiling.observe\n"
        "sys.exit('deepspeed was imported' if 'deepspeed' in sys.modules else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_plan_names_every_case_without_running_any(monkeypatch, repo_root, capsys):
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr("sys.argv", [PROGRAM, "--plan", "--variants", "l", "--only", "l-stage2-adamw_fp32/*"])
    runpy.run_path(PROGRAM, run_name="__main__")
    text = capsys.readouterr().out
    assert "l-stage2-adamw_fp32/k8-shared-sdpa" in text
    assert "does not fit" in text


def test_without_a_gpu_it_says_what_it_can_do(monkeypatch, repo_root):
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr("sys.argv", [PROGRAM])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA GPU here: --toy"):
        runpy.run_path(PROGRAM, run_name="__main__")
