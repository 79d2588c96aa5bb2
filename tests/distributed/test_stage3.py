"""Stage 3 on two ranks: a mixture of images, videos and kept features trains as on one rank."""

import subprocess
import sys

import pytest

ONE_RANK = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "4")
TWO_RANKS = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "2")
SHORT = ("--training.max_steps", "4", "--training.save_steps", "2")


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["zero2", "zero3"])
@pytest.mark.parametrize("trains", ["adapter", "adapter_and_llm"])
def test_two_ranks_give_the_losses_of_one(
    stage3_of, launch, run_stage, rows_of, weights_of, tmp_path, zero, trains
):
    shared = (*SHORT, "--trains", trains)
    run_stage(3, stage3_of(tmp_path / "one", *ONE_RANK, *shared))
    engine = ("--training.deepspeed", f"ds_configs/{zero}.json")
    launch("deepspeed", 3, stage3_of(tmp_path / "two", *TWO_RANKS, *shared, *engine))
    for expected, got in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=2e-5)  # fp32 sums in another order
        assert got["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
    ours, theirs = weights_of(tmp_path / "two" / "final"), weights_of(tmp_path / "one" / "final")
    assert ours.keys() == theirs.keys()
    # Adam divides by the gradient's size, so noise in tiny gradients moves a weight by up to a learning rate
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 2e-3

    on = ("--training.resume_from_checkpoint", str(tmp_path / "two" / "checkpoint-2"))
    launch("deepspeed", 3, stage3_of(tmp_path / "resumed", *TWO_RANKS, *shared, *engine, *on))
    resumed = [row["loss"] for row in rows_of(tmp_path / "resumed")]
    assert resumed == [row["loss"] for row in rows_of(tmp_path / "two")[2:]]


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["zero2", "zero3"])
def test_features_that_one_rank_finds_and_the_other_computes_keep_ranks_in_step(
    stage3_of, launch, rows_of, tmp_path, repo_root, zero
):
    """Half of the videos have kept features, so that ranks run the tower on different numbers of frames."""
    engine = ("--training.deepspeed", f"ds_configs/{zero}.json")
    plain = (*TWO_RANKS, *SHORT, *engine)
    kept = (*plain, "--data.video_cache", str(tmp_path / "features"))
    make = [sys.executable, "scripts/cache_video_features.py", *stage3_of(tmp_path / "kept", *kept)]
    subprocess.run(
        [*make, "--shard", "0/2", "--workers", "0"], cwd=repo_root, check=True, capture_output=True
    )
    launch("deepspeed", 3, stage3_of(tmp_path / "live", *plain))
    launch("deepspeed", 3, stage3_of(tmp_path / "kept", *kept))
    live, found = rows_of(tmp_path / "live"), rows_of(tmp_path / "kept")
    assert [row["loss"] for row in found] == [row["loss"] for row in live]
