"""Every other way to start two ranks, against one rank without a launcher."""

import json
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.slow

ONE_RANK = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "4")
TWO_RANKS = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "2")
SHORT = ("--training.max_steps", "4", "--training.save_steps", "2")
ZERO3 = ("--training.deepspeed", "ds_configs/zero3.json")


@pytest.fixture(scope="module")
def zero3(tiny_world, launch, tmp_path_factory):
    run = tmp_path_factory.mktemp("zero3") / "run"
    launch("deepspeed", 2, tiny_world.stage(2, run, *TWO_RANKS, *SHORT, *ZERO3))
    return run


@pytest.fixture
def one_rank(tiny_world, run_stage, tmp_path):
    """one_rank(stage, overrides...): the folder of a run on one rank without DeepSpeed."""

    def run(number, *overrides):
        run_stage(number, tiny_world.stage(number, tmp_path / "one", *ONE_RANK, *SHORT, *overrides))
        return tmp_path / "one"

    return run


def assert_same_losses(got, expected, *, rel=2e-5):
    # fp32 sums in another order; a wrong factor or a mean of means is off by 1e-2 and more
    assert [row["loss"] for row in got] == pytest.approx([row["loss"] for row in expected], rel=rel)
    assert [row["grad_norm"] for row in got] == pytest.approx(
        [row["grad_norm"] for row in expected], rel=max(rel, 1e-3)
    )


def test_zero3_gives_the_losses_of_one_rank_and_saves_whole_weights(zero3, one_rank, rows_of, weights_of):
    one = one_rank(2)
    assert_same_losses(rows_of(zero3), rows_of(one))
    ours, theirs = weights_of(zero3 / "final"), weights_of(one / "final")
    # what was read under ZeRO-3 the library would save under other names, which then load as random weights
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: t.shape for name, t in theirs.items()
    }
    # Adam divides by the gradient's size, so noise in tiny gradients moves a weight by up to a learning rate
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 2e-3


def test_zero3_resumes_to_the_last_bit(zero3, tiny_world, launch, tmp_path, rows_of, weights_of):
    on = ("--training.resume_from_checkpoint", str(zero3 / "checkpoint-2"))
    launch("deepspeed", 2, tiny_world.stage(2, tmp_path / "run", *TWO_RANKS, *SHORT, *ZERO3, *on))
    assert [row["loss"] for row in rows_of(tmp_path / "run")] == [row["loss"] for row in rows_of(zero3)[2:]]
    whole, resumed = weights_of(zero3 / "final"), weights_of(tmp_path / "run" / "final")
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) == 0.0


def test_stage_1_under_zero3_leaves_the_whole_adapter(
    tiny_world, launch, one_rank, tmp_path, rows_of, weights_of
):
    launch("deepspeed", 1, tiny_world.stage(1, tmp_path / "run", *TWO_RANKS, *SHORT, *ZERO3))
    one = one_rank(1)
    assert_same_losses(rows_of(tmp_path / "run"), rows_of(one))
    ours, theirs = weights_of(tmp_path / "run" / "final"), weights_of(one / "final")
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-3, atol=1e-3)
    assert not list((tmp_path / "run").rglob("model*.safetensors"))


def test_torchrun_without_deepspeed_gives_the_losses_of_one_rank(
    tiny_world, launch, one_rank, tmp_path, rows_of
):
    launch("torchrun", 2, tiny_world.stage(2, tmp_path / "run", *TWO_RANKS, *SHORT))
    assert_same_losses(rows_of(tmp_path / "run"), rows_of(one_rank(2)))


def test_torchrun_starts_deepspeed_too_and_bf16_stays_near(tiny_world, launch, one_rank, tmp_path, rows_of):
    bf16 = ("--training.deepspeed", "ds_configs/zero2.json", "--training.bf16", "true")
    launch("torchrun", 2, tiny_world.stage(2, tmp_path / "run", *TWO_RANKS, *SHORT, *bf16))
    got, expected = rows_of(tmp_path / "run"), rows_of(one_rank(2))
    assert [row["loss"] for row in got] == pytest.approx(
        [row["loss"] for row in expected], rel=0.02
    )  # 8 bits


def test_plain_python_starts_deepspeed_on_one_rank(tiny_world, repo_root, one_rank, tmp_path, rows_of):
    command = [sys.executable, "train/stage2.py", *tiny_world.stage(2, tmp_path / "run", *ONE_RANK, *SHORT)]
    zero2 = ("--training.deepspeed", "ds_configs/zero2.json")
    done = subprocess.run([*command, *zero2], cwd=repo_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert_same_losses(rows_of(tmp_path / "run"), rows_of(one_rank(2)))


@pytest.mark.parametrize("engine", [None, "zero2", "zero3"])
@pytest.mark.parametrize("conversations", [2, 1])
def test_a_rank_without_image_or_without_any_target_keeps_step_with_the_other(
    tiny_world, launch, run_stage, tmp_path, rows_of, conversations, engine
):
    """Of two conversations one is text alone; of one, the other rank gets a row that only fills."""
    turns = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    chat = [{"id": f"t{i}", "conversations": turns} for i in range(12)]
    (tmp_path / "chat.json").write_text(json.dumps(chat))
    sources = [
        {"name": "tiny", "path": str(tiny_world.records), "image_root": str(tiny_world.images)},
        {"name": "chat", "path": str(tmp_path / "chat.json"), "kind": "llava"},
    ]
    base = os.path.relpath("train/configs/tiny.yaml", tmp_path)
    config = {"extends": base, "data": {"sources": sources, "conversations_per_step": conversations}}
    (tmp_path / "mixed.yaml").write_text(json.dumps(config))
    common = ["--config", str(tmp_path / "mixed.yaml"), "--model.checkpoint", str(tiny_world.init), *SHORT]
    common += ["--training.per_device_train_batch_size", "1"]
    deepspeed = [] if engine is None else ["--training.deepspeed", f"ds_configs/{engine}.json"]
    once = ["--training.gradient_accumulation_steps", "1", "--training.output_dir", str(tmp_path / "run")]
    launch("torchrun", 2, [*common, *once, *deepspeed])
    twice = ["--training.gradient_accumulation_steps", "2", "--training.output_dir", str(tmp_path / "one")]
    run_stage(2, [*common, *twice])
    assert len(rows_of(tmp_path / "run")) == 4
    # of one conversation most gradients are tiny, and Adam's first steps make their rounding large: 3e-5
    assert_same_losses(rows_of(tmp_path / "run"), rows_of(tmp_path / "one"), rel=1e-4)
