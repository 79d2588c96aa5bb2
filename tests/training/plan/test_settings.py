import json

import pytest

from locvlm.io import read_json
from locvlm.model.variants import variant
from locvlm.training.plan.planner import MODES, mode_settings
from locvlm.training.plan.settings import load_stage_config, read_settings, scope_of, shape_of_run, zero_of
from locvlm.training.plan.shapes import shape_of

SHAPE = shape_of(variant("b"))


def settings(**training):
    return read_settings({"output_dir": "runs/none", **training}, SHAPE)


def test_what_is_left_out_is_as_in_training_arguments():
    found = settings()
    assert (found.rows_per_pass, found.passes, found.epochs, found.max_steps) == (8, 1, 3.0, 0)
    assert (found.precision, found.checkpointing, found.zero.stage) == ("fp32", False, 0)


def test_precision_follows_from_bf16_and_the_engine(repo_root):
    assert settings(bf16=True).precision == "autocast"
    assert settings(bf16=True, deepspeed=str(repo_root / "ds_configs" / "zero2.json")).precision == "bf16"


def test_a_deepspeed_file_is_read_as_the_library_reads_it(repo_root):
    two, three, offload = (
        zero_of(read_json(repo_root / "ds_configs" / name), SHAPE)
        for name in ("zero2.json", "zero3.json", "zero3_offload.json")
    )
    assert (two.stage, two.reduce_bucket, two.overlap, two.accumulate_fp32) == (2, 500_000_000, True, True)
    assert (three.stage, three.reduce_bucket, three.max_live) == (3, 4096**2, 1_000_000_000)
    assert (offload.offload_optimizer, offload.offload_param) == (True, True)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("zero1.json", "ZeRO-1"),
        ("zero2.json", "ZeRO-2"),
        ("zero2_offload.json", "ZeRO-2, optimizer in host memory"),
        ("zero3.json", "ZeRO-3"),
        ("zero3_offload.json", "ZeRO-3, all in host memory"),
    ],
)
def test_the_table_of_zero_stages_is_for_the_files_of_ds_configs(repo_root, name, mode):
    assert mode in MODES
    assert mode_settings(mode, SHAPE) == zero_of(read_json(repo_root / "ds_configs" / name), SHAPE)


def test_a_deepspeed_file_that_contradicts_the_run_is_a_problem(tmp_path):
    (tmp_path / "ds.json").write_text(
        json.dumps({"zero_optimization": {"stage": 2}, "gradient_accumulation_steps": 3})
    )
    found = settings(deepspeed=str(tmp_path / "ds.json"), gradient_accumulation_steps=5)
    (problem,) = found.problems
    assert "gradient_accumulation_steps is 3, training.gradient_accumulation_steps is 5" in problem


def test_checkpoints_are_counted_as_the_trainer_writes_them():
    assert settings(save_steps=100).num_saves(1050) == 10
    assert settings(save_steps=0.25).num_saves(1000) == 4
    assert settings(save_strategy="no").num_saves(1000) == 0
    assert settings(save_strategy="epoch", num_train_epochs=3).num_saves(1000) == 3
    assert settings(save_steps=100, save_total_limit=2).num_kept(1000) == 2
    assert settings(save_steps=100).num_kept(1000) == 10


def test_wrong_names_are_errors():
    with pytest.raises(ValueError, match=r"training\.learning_rte.*'learning_rate'"):
        settings(learning_rte=1)
    with pytest.raises(ValueError, match=r"names no file: 'ds_configs/zero4\.json'"):
        settings(deepspeed="ds_configs/zero4.json")


def test_the_stage_is_told_or_follows_from_the_conversation(repo_root):
    one = ["--config", str(repo_root / "train/configs/locvlm_b_stage1.yaml")]
    two = ["--config", str(repo_root / "train/configs/locvlm_b_stage2.yaml")]
    assert [load_stage_config(argv)[0] for argv in (one, two)] == ["stage1", "stage2"]
    assert load_stage_config(one, "2")[0] == "stage2"
    assert load_stage_config(two, "1")[0] == "stage1"


def test_what_is_said_of_videos_makes_it_stage_3(repo_root):
    b, plus = (
        ["--config", str(repo_root / f"train/configs/{name}.yaml")]
        for name in ("locvlm_vid_b", "locvlm_vid_b_plus")
    )
    stage, config = load_stage_config(b)
    assert (stage, scope_of(config, stage).trains_llm) == ("stage3", False)
    stage, config = load_stage_config(plus)
    assert (stage, scope_of(config, stage).trains_llm) == ("stage3", True)
    shape = shape_of_run(config, variant("b"))
    assert (shape.num_frames, shape.video_tokens) == (8, 264)
    tiny = ["--config", str(repo_root / "train/configs/tiny.yaml")]
    assert load_stage_config([*tiny, "--video.num_frames", "4"])[0] == "stage3"
    stage, config = load_stage_config(tiny, "3")
    assert stage == "stage3"
    with pytest.raises(ValueError, match=r"neither video\.num_frames nor the checkpoint"):
        shape_of_run(config, variant("b"))
