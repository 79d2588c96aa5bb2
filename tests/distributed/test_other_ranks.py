"""A DeepSpeed run goes on with another number of ranks: same losses, no conversation twice or left out."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ONE_RANK = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "4")
TWO_RANKS = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "2")
SHORT = ("--training.max_steps", "4", "--training.save_steps", "2")


@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_two_ranks_go_on_as_one_and_as_two_again(
    tiny_world, launch, repo_root, tmp_path, rows_of, weights_of, zero
):
    deepspeed = ("--training.deepspeed", f"ds_configs/{zero}.json")
    launch("deepspeed", 2, tiny_world.stage(2, tmp_path / "two", *TWO_RANKS, *SHORT, *deepspeed))
    on = ("--training.resume_from_checkpoint", str(tmp_path / "two" / "checkpoint-2"))
    arguments = tiny_world.stage(2, tmp_path / "one", *ONE_RANK, *SHORT, *deepspeed, *on)
    command = [sys.executable, "train/stage2.py", *arguments]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-6000:]

    whole, elsewhere = rows_of(tmp_path / "two"), rows_of(tmp_path / "one")
    assert [row["step"] for row in elsewhere] == [3, 4]
    for expected, got in zip(whole[2:], elsewhere, strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=2e-5)
        assert got["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        assert got["lr"] == expected["lr"]
    ours, theirs = weights_of(tmp_path / "one" / "final"), weights_of(tmp_path / "two" / "final")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 2e-3

    back = ("--training.resume_from_checkpoint", str(tmp_path / "one" / "checkpoint-4"))
    longer = ("--training.max_steps", "5")
    launch("deepspeed", 2, tiny_world.stage(2, tmp_path / "back", *TWO_RANKS, *longer, *deepspeed, *back))
    assert [row["step"] for row in rows_of(tmp_path / "back")] == [5]
