from dataclasses import replace

import pytest

from locvlm.config import load_config
from locvlm.model.variants import variant
from locvlm.training.arguments import Stage1Config, Stage2Config
from locvlm.training.plan.cost import communication_bytes
from locvlm.training.plan.data import ASSUMED, DataSize, Lengths
from locvlm.training.plan.flops import flops_by_direction, total_flops
from locvlm.training.plan.machines import GPUS, Machine
from locvlm.training.plan.planner import make_plan
from locvlm.training.plan.report import to_json, to_text
from locvlm.training.plan.run import describe_run
from locvlm.training.plan.shapes import Scope, shape_of
from locvlm.training.plan.steps import Packing, step_load
from locvlm.training.plan.verdicts import verdicts

LENGTHS = Lengths(prefix_tokens=44, branches=4, branch_tokens=50, branch_targets=10)
DATA = DataSize(conversations=64_000, lengths=LENGTHS, file_bytes=1e9, source="stated")
MACHINE = Machine(gpu=GPUS["a100-80g"], gpus=8)


@pytest.fixture
def plan_of(repo_root, monkeypatch):
    """plan_of(overrides..., stage=2, machine=...): (plan, verdicts) of LocVLM-B."""
    monkeypatch.chdir(repo_root)

    def build(*overrides, stage=2, machine=MACHINE, data=DATA, rows_per_step=None):
        cls = {1: Stage1Config, 2: Stage2Config}[stage]
        config = load_config(cls, ["--config", f"train/configs/locvlm_b_stage{stage}.yaml", *overrides])
        run = describe_run(
            config, machine, stage=f"stage{stage}", model=variant("b"), data=data, rows_per_step=rows_per_step
        )
        plan = make_plan(run)
        return plan, verdicts(plan, config)

    return build


def failures(found):
    return [verdict.text for verdict in found if verdict.level == "failure"]


def warnings(found):
    return [verdict.text for verdict in found if verdict.level == "warning"]


def test_hours_follow_from_operations_peak_and_mfu(plan_of):
    plan, _ = plan_of()
    # 64 x 500 tokens of 3 x 12.95 GFLOP; tower, adapter, attention and head add about a tenth
    assert plan.step_flops == pytest.approx(64 * 500 * 3 * 12.95e9, rel=0.12)
    assert plan.step_flops > 64 * 500 * 3 * 12.95e9
    assert plan.cost.compute_s == pytest.approx(plan.step_flops / (8 * 312e12 * 0.45))
    assert plan.cost.steps == 10 * 1000
    assert plan.cost.hours == pytest.approx(10_000 * plan.cost.compute_s / 3600)
    assert plan.cost.tokens == pytest.approx(10 * 64_000 * 500)


def test_shared_prefixes_cost_less_by_the_tokens_that_are_shared(plan_of):
    plan, _ = plan_of()
    # by tokens 4 x 350 / 500 = 2.8; the tower, which separate branches run four times, adds to it
    assert 2.7 < plan.separate_flops / plan.step_flops < 3.1


@pytest.mark.parametrize(
    ("name", "branches", "gain"), [("b", 4, 2.9), ("b", 8, 4.3), ("l", 4, 3.4), ("l", 8, 5.6)]
)
def test_shared_prefixes_gain_what_the_readme_says(name, branches, gain):
    shape, scope = shape_of(variant(name)), Scope(stage="stage2")
    lengths = replace(ASSUMED["stage2"], branches=branches)
    loads = [
        step_load(64, 64, lengths, shape, Packing(mode=mode, max_row_tokens=2048, attention="tree"))
        for mode in ("separate", "shared_prefix")
    ]
    separate, shared = (
        total_flops(flops_by_direction(shape, load, scope, checkpointing=False)) for load in loads
    )
    assert separate / shared == pytest.approx(gain, rel=0.03)


def test_the_suggested_passes_take_the_hours_that_are_told(plan_of):
    plan, _ = plan_of(machine=replace(MACHINE, nodes=2, node_bytes_per_s=25e9))
    best = plan.suggested
    again, _ = plan_of(
        *("--training.per_device_train_batch_size", str(best.rows_per_pass)),
        *("--training.gradient_accumulation_steps", str(best.passes)),
        machine=replace(MACHINE, nodes=2, node_bytes_per_s=25e9),
    )
    assert plan.suggested_cost.communication_s == again.cost.communication_s < plan.cost.communication_s


def test_the_price_counts_every_gpu(plan_of):
    plan, _ = plan_of(machine=replace(MACHINE, price_per_gpu_hour=2.0))
    assert plan.cost.price == pytest.approx(2 * 8 * plan.cost.hours)


def test_max_steps_decide_over_epochs(plan_of):
    plan, _ = plan_of("--training.max_steps", "500")
    assert (plan.cost.steps, plan.cost.epochs) == (500, 0.5)


def test_checkpointing_takes_memory_for_operations(plan_of):
    plain, _ = plan_of()
    checkpointed, _ = plan_of("--training.gradient_checkpointing", "true")
    assert checkpointed.step_flops > 1.2 * plain.step_flops
    assert checkpointed.memory.activations.kept < plain.memory.activations.kept / 5
    assert (
        checkpointed.memory.largest_pass == plain.memory.largest_checkpointed_pass > plain.memory.largest_pass
    )


def test_the_largest_pass_fits_and_one_row_more_does_not(plan_of):
    most = plan_of()[0].memory.largest_pass
    assert most >= 1
    for rows, fits in ((most, True), (most + 1, False)):
        plan, found = plan_of("--training.per_device_train_batch_size", str(rows))
        assert plan.memory.fits == fits
        assert bool([text for text in failures(found) if f"at most {most} fit" in text]) != fits


def test_a_small_card_holds_the_model_in_no_way(plan_of):
    plan, found = plan_of(machine=replace(MACHINE, gpu=GPUS["rtx4090"]))
    assert plan.memory.largest_pass == plan.memory.largest_checkpointed_pass == 0
    assert "not one row fits, even with training.gradient_checkpointing" in failures(found)[0]
    assert "ZeRO-3, all in host memory" in failures(found)[0]


def test_too_few_rows_for_a_step_are_a_failure_that_names_the_passes(plan_of):
    _, found = plan_of("--training.gradient_accumulation_steps", "1")
    (text,) = failures(found)
    assert "a step needs about 16 rows and is divided into 8" in text
    assert "training.gradient_accumulation_steps to 2" in text


def test_rows_that_hardly_fill_are_a_warning(plan_of):
    _, found = plan_of()  # 40 rows for what fits into 16
    assert any("filled to 40%" in text for text in warnings(found))


def test_rows_of_a_step_can_be_kept_for_another_number_of_ranks(plan_of):
    plan, _ = plan_of(machine=replace(MACHINE, gpus=4), rows_per_step=40)
    assert (plan.run.division.passes, plan.run.division.rows) == (10, 40)
    with pytest.raises(ValueError, match="40 rows a step do not divide by 16 ranks"):
        plan_of(machine=replace(MACHINE, nodes=2), rows_per_step=40)


def test_ranks_exchange_more_with_every_pass_under_zero_2_and_once_without(plan_of):
    one, five = (plan_of("--training.gradient_accumulation_steps", passes)[0].run for passes in ("1", "5"))
    gradients = 4 * one.trained
    assert communication_bytes(one) == pytest.approx((2 * gradients + 2 * one.trained) * 7 / 8)
    assert communication_bytes(five) == pytest.approx((10 * gradients + 2 * one.trained) * 7 / 8)
    plain = plan_of("--training.deepspeed", "null")[0].run
    assert communication_bytes(plain) == pytest.approx(2 * gradients * 7 / 8)
    alone = plan_of(machine=replace(MACHINE, gpus=1))[0].run
    assert communication_bytes(alone) == 0


def test_a_slow_network_is_a_warning_and_counts_in_the_hours(plan_of):
    plan, found = plan_of(machine=replace(MACHINE, nodes=2, node_bytes_per_s=5e9))
    assert plan.cost.communication_s > plan.cost.compute_s
    assert plan.cost.hours == pytest.approx(plan.cost.steps * plan.cost.communication_s / 3600)
    assert any("at 5 GB/s" in text and "fewer passes, or ZeRO-1" in text for text in warnings(found))


def test_checkpoints_that_pile_up_are_a_warning(plan_of):
    _, found = plan_of("--training.save_total_limit", "null")
    assert any("11 checkpoints" in text and "save_total_limit" in text for text in warnings(found))
    plan, found = plan_of()
    assert plan.cost.num_checkpoints == 3
    assert not any("checkpoints" in text for text in warnings(found))


def test_settings_that_cannot_work_are_failures(plan_of):
    muon = ("--optimizer.matrices", "muon", "--packing.max_row_tokens", "4096")
    texts = failures(plan_of(*muon)[1])
    assert any("muon: ZeRO refuses it" in text for text in texts)
    assert any("4096, more than the model's 2048 positions" in text for text in texts)


def test_host_memory_is_a_warning_with_its_size(plan_of):
    _, found = plan_of("--training.deepspeed", "ds_configs/zero3_offload.json")
    assert any("GB of each node, pinned" in text for text in warnings(found))


def test_stage_1_writes_and_exchanges_the_adapter_alone(plan_of):
    plan, _ = plan_of(stage=1)
    adapter = 1025 * 4096
    assert plan.run.trained == adapter
    assert plan.cost.final_bytes == 2 * (adapter + 4097 * 4096)  # its identity is a part of the file
    assert communication_bytes(plan.run) == pytest.approx((2 * 4 + 2) * adapter * 7 / 8)


def test_text_and_json_hold_the_figures(plan_of):
    plan, found = plan_of(machine=replace(MACHINE, price_per_gpu_hour=2.0))
    text, values = to_text(plan, found), to_json(plan, found)
    for words in ("ZeRO-3, all in host memory", "without activation checkpointing", "GPU hours", "Verdict"):
        assert words in text
    assert f"{plan.run.total:,}" in text
    assert values["totals"]["flops_per_step"] == plan.step_flops
    assert values["cost"]["hours"] == plan.cost.hours
    assert values["verdicts"][0].keys() == {"level", "text"}
    assert max(map(len, text.splitlines())) < 140
