"""Self-captioning in the embedded world, from nothing to stage 2, by the programs that a user starts."""

import subprocess
import sys

import pytest

from locvlm.io import read_jsonl, read_records

STEPS = {
    "training.max_steps": 12,
    "training.save_steps": 12,
    "training.logging_steps": 1,
}  # as `scripts/demo.py --quick`


@pytest.fixture
def run(repo_root):
    def run_program(program: str, **options) -> str:
        words = [f"--{name.replace('_', '-')}" if "." not in name else f"--{name}" for name in options]
        arguments = [text for pair in zip(words, map(str, options.values()), strict=True) for text in pair]
        done = subprocess.run(
            [sys.executable, program, *arguments],
            cwd=repo_root,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run_program


@pytest.mark.slow
def test_stage_1_describes_the_world_and_stage_2_learns_from_it(run, tmp_path):
    world, init = tmp_path / "world", tmp_path / "init"
    images = world / "images" / "train"
    instances = world / "annotations" / "instances_train.json"
    run("scripts/make_world.py", out=world, train=120, val=1, workers=1)
    run(
        "data_builders/stage1_pairs.py",
        captions=world / "annotations" / "captions_train.json",
        out=tmp_path / "stage1.jsonl",
    )
    parts = {"llm": world / "llm", "clip": world / "clip", "tokenizer": world / "tokenizer"}
    run("scripts/init_checkpoint.py", **parts, codec="ivb", adapter="mlp", out=init)

    def stage(number: int, records, **options) -> None:
        run(
            f"train/stage{number}.py",
            **{
                "config": f"train/configs/demo_stage{number}.yaml",
                "model.checkpoint": init,
                "data.sources.0.path": records,
                "data.sources.0.image_root": images,
                "training.output_dir": tmp_path / f"run{number}",
                **STEPS,
                **options,
            },
        )

    stage(1, tmp_path / "stage1.jsonl")
    described = tmp_path / "prefcoco.jsonl"
    said = run(
        "data_builders/prefcoco.py",
        instances=instances,
        image_root=images,
        captioner=tmp_path / "run1",
        out=described,
    )
    assert "images 120 (paper 95,899)" in said
    assert all(query.phrase for record in read_records(described) for query in record.queries)
    run(
        "data_builders/localize_instruct.py",
        instances=instances,
        image_root=images,
        descriptions=described,
        negatives_per_image=1,
        out=tmp_path / "localize.jsonl",
    )
    stage(
        2,
        tmp_path / "localize.jsonl",
        **{"model.adapter": tmp_path / "run1" / "final", "training.max_steps": 3},
    )
    rows = [row for _, row in read_jsonl(tmp_path / "run2" / "metrics.jsonl") if "loss" in row]
    assert rows[-1]["step"] == 3
    assert (tmp_path / "run2" / "final" / "config.json").exists()
