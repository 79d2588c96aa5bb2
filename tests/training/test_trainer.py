"""The step's gradient, exactly; resume; evaluation during training. One process, 50,000 parameters."""

import resource
import shutil

import pytest
import torch
from transformers import TrainerCallback

from locvlm.io import read_json, read_jsonl
from locvlm.model.locvlm import LocVLM
from locvlm.training.arguments import EvaluationConfig, OptimizerConfig
from locvlm.training.checkpoint import last_checkpoint
from locvlm.training.evaluation import PeriodicEvaluation
from locvlm.training.stages.run import train
from locvlm.training.trainer import LocVLMTrainer


class StopAt(TrainerCallback):
    """Stops after a step, as a time limit would."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def weights_after(trainer, folder):
    train(trainer, folder)
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


ONE_SGD_STEP = (
    *("--training.max_steps", "1", "--training.optim", "sgd", "--training.learning_rate", "1"),
    *(
        "--training.max_grad_norm",
        "0",
        "--training.warmup_steps",
        "0",
        "--training.lr_scheduler_type",
        "constant",
    ),
)


@pytest.mark.parametrize(("rows", "passes"), [(4, 1), (2, 2), (1, 4)])
def test_a_step_moves_weights_by_the_gradient_of_the_mean_over_all_its_targets(build, rows, passes):
    trainer, folder = build(
        *ONE_SGD_STEP,
        *(
            "--training.per_device_train_batch_size",
            str(rows),
            "--training.gradient_accumulation_steps",
            str(passes),
        ),
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    batches = trainer.loader.builder.build(0, rank=0).batches
    counts = [int(batch["target_weights"].sum()) for batch in batches]
    assert passes == 1 or len(set(counts)) > 1  # unequal passes, or a mean of means would pass, too
    twin = LocVLM.from_pretrained(trainer.model.config.name_or_path, attn_implementation="sdpa")
    total = sum(
        twin(**{**batch, "num_targets": 1.0}).loss for batch in batches
    ) / sum(counts)  # fmt: skip
    total.backward()
    gradients = {name: p.grad for name, p in twin.named_parameters()}

    after = weights_after(trainer, folder)

    (row,) = [row for _, row in read_jsonl(folder.path / "metrics.jsonl")]
    assert row["loss"] == pytest.approx(total.item(), rel=1e-6)
    for name, start in before.items():
        # fp32: sums in another order
        torch.testing.assert_close(start - after[name], gradients[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("matrices", ["adamw", "muon"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(build, rows_of, matrices):
    chosen = ("--optimizer.matrices", matrices)
    whole = weights_after(*build(*chosen, run="whole"))
    first, folder = build(*chosen, run="parts")
    first.add_callback(StopAt(5))
    train(first, folder)
    assert [row["step"] for row in rows_of(folder.path)] == [1, 2, 3, 4, 5]

    second, folder = build(*chosen, run="parts")
    parts = weights_after(second, folder)

    assert largest_difference(whole, parts) == 0.0
    losses = [(row["step"], row["loss"], row["lr"], row["epoch"]) for row in rows_of(folder.path)]
    expected = [
        (row["step"], row["loss"], row["lr"], row["epoch"]) for row in rows_of(folder.path.parent / "whole")
    ]
    assert losses == expected
    assert len(losses) == 10


def test_muon_steps_the_matrices_of_blocks_and_adapter_at_its_own_rate(build):
    trainer, _ = build("--optimizer.matrices", "muon", "--optimizer.muon_learning_rate", "0.5")
    rates = {
        name: group["lr"]
        for group in trainer.create_optimizer().param_groups
        for name, parameter in trainer.model.named_parameters()
        if any(parameter is stepped for stepped in group["params"])
    }
    assert {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad} == set(
        rates
    )
    matrices = {name for name, rate in rates.items() if rate == 0.5}
    blocks = {name for name in rates if ".layers." in name and "norm" not in name}
    adapter = {name for name in rates if "multi_modal_projector" in name and name.endswith("weight")}
    assert blocks
    assert adapter
    assert matrices == blocks | adapter


def test_muon_and_deepspeed_are_not_taken_together(build, monkeypatch):
    trainer, _ = build()
    monkeypatch.setattr(trainer.args, "deepspeed", "ds_configs/zero2.json")
    with pytest.raises(ValueError, match="ZeRO steps flattened pieces"):
        LocVLMTrainer(
            trainer.model,
            trainer.args,
            loader=trainer.loader,
            weights=trainer.weights,
            metrics=print,
            optimizer=OptimizerConfig(matrices="muon"),
        )


def test_a_rate_without_muon_is_an_error():
    with pytest.raises(ValueError, match="matrices is adamw: set it to muon"):
        OptimizerConfig(muon_learning_rate=0.1)


def test_a_run_goes_on_from_the_last_complete_checkpoint(build):
    trainer, folder = build()
    train(trainer, folder)
    assert last_checkpoint(folder.path).name == "checkpoint-10"
    (folder.path / "checkpoint-10").rename(folder.path / "incomplete")  # as if killed while writing
    again, folder = build()
    assert not (folder.path / "incomplete").exists()
    assert last_checkpoint(folder.path).name == "checkpoint-5"
    train(again, folder)
    assert again.state.global_step == 10
    assert [row["step"] for _, row in read_jsonl(folder.path / "metrics.jsonl")] == list(range(1, 11))


def test_only_as_many_checkpoints_are_kept_as_asked_for(build):
    trainer, folder = build("--training.save_steps", "2", "--training.save_total_limit", "2")
    train(trainer, folder)
    assert sorted(path.name for path in folder.path.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-8"]


def test_the_oldest_checkpoints_make_room(build):
    trainer, folder = build("--training.save_steps", "2", "--faults.max_checkpoints_gb", "1e-9")
    train(trainer, folder)
    assert [path.name for path in folder.path.glob("checkpoint-*")] == ["checkpoint-10"]


class FilesMayGrowNoLonger(TrainerCallback):
    """From a step on no file may be larger than 20 kB, as on a disk that is full."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 6:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))


def test_a_full_disk_leaves_the_checkpoint_before_intact(build):
    whole_trainer, whole = build(run="whole")
    train(whole_trainer, whole)
    trainer, folder = build()
    trainer.add_callback(FilesMayGrowNoLonger())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RuntimeError, match=r"could not write .*checkpoint-10: .*checkpoint-5 is intact"):
            train(trainer, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    again, folder = build()
    train(again, folder)
    losses = [[row["loss"] for _, row in read_jsonl(f.path / "metrics.jsonl")] for f in (whole, folder)]
    assert losses[0] == losses[1]


def test_a_checkpoint_per_epoch_means_the_data_s_epochs(build):
    trainer, folder = build("--training.save_strategy", "epoch", "--training.max_steps", "5")
    train(trainer, folder)  # two steps make an epoch
    names = sorted(path.name for path in folder.path.glob("checkpoint-*"))
    assert names == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]


def test_a_run_killed_before_its_first_checkpoint_leaves_no_rows_twice(build):
    trainer, folder = build("--training.max_steps", "4")
    trainer.add_callback(StopAt(3))
    train(trainer, folder)
    again, folder = build("--training.max_steps", "4")
    train(again, folder)
    assert [row["step"] for _, row in read_jsonl(folder.path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_bf16_autocast_trains_fp32_weights_on_a_cpu(build, rows_of):
    trainer, folder = build("--training.bf16", "true", "--training.max_steps", "3")
    weights = weights_after(trainer, folder)
    assert {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()} == {torch.float32}
    exact_trainer, exact_folder = build("--training.max_steps", "3", run="fp32")
    train(exact_trainer, exact_folder)
    for row, exact in zip(rows_of(folder.path), rows_of(exact_folder.path), strict=True):
        assert row["loss"] == pytest.approx(exact["loss"], rel=0.01)  # bf16 has 8 bits
        assert row["loss"] != exact["loss"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_steps_give_the_losses_of_plain_ones(build, rows_of):
    short = ("--training.max_steps", "3")
    plain_trainer, plain = build(*short, run="plain")
    train(plain_trainer, plain)
    trainer, folder = build(*short, "--training.torch_compile", "true")
    train(trainer, folder)
    losses = [row["loss"] for row in rows_of(plain.path)]
    assert [row["loss"] for row in rows_of(folder.path)] == pytest.approx(losses, rel=1e-5)


def test_another_configuration_in_the_same_folder_is_refused_with_the_way_out(build):
    build()
    build("--training.logging_steps", "2")  # may change
    with pytest.raises(
        ValueError, match=r"training\.learning_rate: 0\.003 there, 0\.1 here.*resume_from_checkpoint"
    ):
        build("--training.learning_rate", "0.1")


def test_other_data_is_not_resumed_into(build):
    trainer, folder = build("--training.max_steps", "5")
    train(trainer, folder)
    other, _ = build(
        "--training.resume_from_checkpoint", str(folder.path / "checkpoint-5"), "--data.seed", "1"
    )
    with pytest.raises(ValueError, match="its seed is 0, now it is 1"):
        train(other, folder)


def scores_by_step(values):
    """An evaluation that disturbs every random number and scores as given."""

    def evaluate(model, step):
        assert not model.training
        torch.rand(step)
        return {"locpred_acc50": values[step]}

    return evaluate


def test_evaluations_are_logged_and_the_best_weights_kept_without_changing_the_run(build, weights_of):
    config = EvaluationConfig(every_steps=3, keep_best_on="locpred_acc50")
    values = {3: 0.2, 6: 0.7, 9: 0.4, 10: 0.7}

    def evaluation(folder):
        return PeriodicEvaluation(
            config, scores_by_step(values), run=folder.path, metrics=folder.metrics.write
        )

    plain = weights_after(*build(run="plain"))
    trainer, folder = build("--training.save_steps", "3", evaluation=evaluation)
    with_evaluation = weights_after(trainer, folder)

    assert largest_difference(plain, with_evaluation) == 0.0
    scored = [row for _, row in read_jsonl(folder.path / "metrics.jsonl") if "eval/locpred_acc50" in row]
    assert {row["step"]: row["eval/locpred_acc50"] for row in scored} == values
    assert read_json(folder.path / "best" / "best.json") == {
        "score": "locpred_acc50",
        "value": 0.7,
        "step": 6,
    }
    best, sixth = weights_of(folder.path / "best"), weights_of(folder.path / "checkpoint-6")
    assert largest_difference(best, sixth) == 0.0


def test_a_score_that_no_task_gives_is_named(build):
    config = EvaluationConfig(every_steps=1, keep_best_on="locpred_acc5")

    def evaluation(folder):
        evaluate = scores_by_step({1: 0.0})
        return PeriodicEvaluation(config, evaluate, run=folder.path, metrics=folder.metrics.write)

    trainer, folder = build(evaluation=evaluation)
    with pytest.raises(ValueError, match=r"no score 'locpred_acc5'; the tasks give locpred_acc50"):
        train(trainer, folder)
