"""Two ranks under `deepspeed` with ZeRO-2 train as one does. The one launcher test of the default suite."""

import pytest

from locvlm.io import read_json

# four rows a step, whoever computes them
ONE_RANK = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "4")
TWO_RANKS = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "2")
SHORT = ("--training.max_steps", "4", "--training.save_steps", "2")
ZERO2 = ("--training.deepspeed", "ds_configs/zero2.json")
PROFILE = ("--profile.steps", "1", "--profile.after", "1", "--profile.peak_tflops", "1")


@pytest.fixture(scope="module")
def zero2(tiny_world, launch, tmp_path_factory):
    run = tmp_path_factory.mktemp("zero2") / "run"
    launch("deepspeed", 2, tiny_world.stage(2, run, *TWO_RANKS, *SHORT, *ZERO2, *PROFILE))
    return run


def test_two_ranks_give_the_losses_and_gradients_of_one(
    zero2, tiny_world, run_stage, tmp_path, rows_of, weights_of
):
    run_stage(2, tiny_world.stage(2, tmp_path / "one", *ONE_RANK, *SHORT))
    one, two = rows_of(tmp_path / "one"), rows_of(zero2)
    assert [row["step"] for row in two] == [1, 2, 3, 4]
    for expected, got in zip(one, two, strict=True):
        # fp32 sums in another order; a wrong factor or a mean of means is off by 1e-2 and more
        assert got["loss"] == pytest.approx(expected["loss"], rel=2e-5)
        assert got["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3)
        for name in ("lr", "epoch", "supervised_fraction"):
            assert got[name] == pytest.approx(expected[name])
    ours, theirs = weights_of(zero2 / "final"), weights_of(tmp_path / "one" / "final")
    # Adam divides by the gradient's size, so noise in tiny gradients moves a weight by up to a learning rate
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 2e-3


def test_the_main_process_takes_a_step_apart_and_operations_are_counted_by_rank(zero2, rows_of):
    seconds = read_json(zero2 / "profile" / "parts.json")["seconds_per_step"]
    assert all(seconds[part] > 0 for part in ("language model", "backward", "optimizer"))
    assert (zero2 / "profile" / "trace.json.gz").is_file()
    assert all(0 < row["mfu"] == row["tflops_per_s"] for row in rows_of(zero2))


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(zero2, tiny_world, launch, tmp_path, rows_of, weights_of):
    on = ("--training.resume_from_checkpoint", str(zero2 / "checkpoint-2"))
    launch("deepspeed", 2, tiny_world.stage(2, tmp_path / "run", *TWO_RANKS, *SHORT, *ZERO2, *on))
    assert [row["loss"] for row in rows_of(tmp_path / "run")] == [row["loss"] for row in rows_of(zero2)[2:]]
    whole, resumed = weights_of(zero2 / "final"), weights_of(tmp_path / "run" / "final")
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) == 0.0


@pytest.mark.slow
def test_another_number_of_ranks_or_engine_does_not_resume(zero2, tiny_world, run_stage, tmp_path):
    on = ("--training.resume_from_checkpoint", str(zero2 / "checkpoint-2"))
    with pytest.raises(ValueError, match=r"DeepSpeed ZeRO-2, this run has no DeepSpeed"):
        run_stage(2, tiny_world.stage(2, tmp_path / "run", *ONE_RANK, *SHORT, *on))
