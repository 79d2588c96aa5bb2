"""A loss that is no number, or leaps: real runs of the tiny model."""

import pytest
import torch
from transformers import TrainerCallback

from locvlm.io import read_jsonl, read_records
from locvlm.training.arguments import FaultConfig
from locvlm.training.faults.loss_guard import BAD_BATCHES, BadLoss, LossGuard, without_targets
from locvlm.training.stages.run import train


class Snapshots(TrainerCallback):
    """The weights after every step."""

    def __init__(self):
        self.weights = {}

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights[state.global_step] = {k: v.clone() for k, v in model.state_dict().items()}


def bad_batches(folder):
    return [row for _, row in read_jsonl(folder.path / BAD_BATCHES)]


def test_a_loss_that_is_no_number_stops_the_run_before_it_reaches_the_weights(build, tiny_world):
    trainer, folder = build("--training.learning_rate", "1e30", "--training.max_grad_norm", "0")
    snapshots = Snapshots()
    trainer.add_callback(snapshots)
    with pytest.raises(BadLoss, match=r"step 3: the loss is (nan|inf).*set faults\.on_bad_loss to skip"):
        train(trainer, folder)
    (row,) = bad_batches(folder)
    assert (row["step"], row["loss"], row["is_skipped"]) == (3, None, False)
    assert set(row["sample_ids"]) < {record.id for record in read_records(tiny_world.records)}
    assert len(row["sample_ids"]) == 6
    after_step_2 = snapshots.weights[2]
    assert all(torch.equal(v, after_step_2[k]) for k, v in trainer.model.state_dict().items())


def test_leaps_are_left_out_as_often_as_allowed(build):
    never_learning = ("--training.learning_rate", "0", "--training.max_steps", "40")
    skip = ("--faults.on_bad_loss", "skip", "--faults.spike_factor", "1.001", "--faults.max_skipped", "2")
    trainer, folder = build(*never_learning, *skip)
    with pytest.raises(BadLoss, match=r"2 passes were skipped already"):
        train(trainer, folder)
    rows = bad_batches(folder)
    assert [row["is_skipped"] for row in rows] == [True, True, False]
    assert all("x the usual" in row["problem"] for row in rows)
    assert rows[0]["step"] > 5  # ten passes are seen before a leap can be told


def test_losses_that_are_ignored_are_not_looked_at(build):
    trainer, folder = build(
        *("--training.learning_rate", "1e30", "--training.max_grad_norm", "0", "--training.max_steps", "4"),
        *("--faults.on_bad_loss", "ignore"),
    )
    train(trainer, folder)
    assert not (folder.path / BAD_BATCHES).exists()


def test_a_pass_that_is_left_out_gives_every_trained_parameter_a_gradient_of_zero(build, tmp_path):
    trainer, _ = build("--faults.on_bad_loss", "skip")
    batch = next(iter(trainer.get_train_dataloader()))
    batch["pixel_values"] = torch.full_like(batch["pixel_values"], float("nan"))
    guard = LossGuard(FaultConfig(), run=tmp_path, ids_of_step=lambda step: [])
    assert guard.judge(trainer.model(**batch).loss, batch).problem == "the loss is nan"
    trainer.compute_loss(trainer.model, batch).backward()
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained
    assert all(p.grad is not None and not p.grad.any() for p in trained.values())
    assert trainer.model(**without_targets(batch)).loss == 0


def test_a_pass_without_targets_is_neither_bad_nor_usual(tmp_path):
    guard = LossGuard(FaultConfig(spike_factor=2.0), run=tmp_path, ids_of_step=lambda step: [])
    full = {"target_weights": torch.ones(4), "num_targets": 8.0}
    empty = {"target_weights": torch.zeros(4), "num_targets": 8.0}
    for _ in range(20):
        assert guard.judge(torch.tensor(1.0), full).loss == pytest.approx(2.0)
        assert not guard.judge(torch.tensor(0.0), empty).problem
    assert guard.judge(torch.tensor(2.5), full).problem == "the loss is 5, 2.5 x the usual"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spike_factor": 0.5}, "above 1, or 0 for none"),
        ({"max_skipped": -1}, "must not be negative"),
        ({"spike_window": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FaultConfig(**values)
