import runpy

import pytest

from locvlm.io import read_json

DESCRIBED = ("--llm", "llama-7b", "--tower", "clip-l-14-224", "--adapter", "linear", "--samples", "253611")


@pytest.fixture
def plan(monkeypatch, repo_root):
    """plan(arguments...): scripts/plan.py in this process, from the checkout."""

    def run(*arguments):
        monkeypatch.chdir(repo_root)
        monkeypatch.setattr("sys.argv", ["scripts/plan.py", *map(str, arguments)])
        runpy.run_path("scripts/plan.py", run_name="__main__")

    return run


def test_a_large_run_is_planned_without_its_files(plan, tmp_path, capsys):
    config = ("--config", "train/configs/locvlm_b_stage2.yaml")
    machine = ("--gpus", "8", "--gpu", "a100-80g", "--price-per-gpu-hour", "2")
    plan(*config, *machine, *DESCRIBED, "--json", tmp_path / "plan.json")
    text, values = capsys.readouterr().out, read_json(tmp_path / "plan.json")
    assert "stage2 on 1 x 8 GPUs: ZeRO-2, bf16" in text
    assert "lengths assumed" in text
    assert values["totals"]["parameters"] == 7_063_099_392
    assert values["cost"]["price"] == pytest.approx(2 * values["cost"]["gpu_hours"])


def test_overrides_go_to_the_configuration(plan, tmp_path):
    config = ("--config", "train/configs/locvlm_b_stage1.yaml", "--gpus", "1", "--gpu", "h100-80g")
    plan(*config, *DESCRIBED, "--training.per_device_train_batch_size", "2", "--json", tmp_path / "plan.json")
    values = read_json(tmp_path / "plan.json")
    assert values["run"]["scope"]["stage"] == "stage1"
    assert values["run"]["division"] == {"ranks": 1, "passes": 1, "rows_per_pass": 2}


def test_a_run_whose_files_are_there_is_counted_and_measured(plan, tiny_world, tmp_path):
    machine = ("--gpus", "2", "--gpu", "l40s", "--json", str(tmp_path / "plan.json"))
    plan(*tiny_world.stage(2, tmp_path / "run", *machine))
    values = read_json(tmp_path / "plan.json")
    assert values["run"]["data"]["conversations"] == 12
    assert values["run"]["data"]["lengths"]["source"] == "measured on 12 conversations"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpu", "a100-80gb", "--gpus", "8", *DESCRIBED), r"nearest is 'a100-80g'"),
        (("--gpu", "a100-80g", "--gpus", "8", *DESCRIBED[2:]), r"missing --llm"),
        (("--gpu", "a100-80g", "--gpus", "8"), r"--llm llama-7b"),
        (("--gpu", "a100-80g", "--gpus", "8", *DESCRIBED[:6]), r"--samples N"),
        (("--gpu", "a100-80g", "--gpus", "16", *DESCRIBED, "--rows-per-step", "40"), r"32 and 48 rows"),
        (("--gpu", "a100-80g", "--gpus", "8", *DESCRIBED, "--packing.mod", "x"), r"packing\.mode"),
    ],
)
def test_what_cannot_be_planned_is_an_error_that_says_what_to_do(plan, arguments, message):
    with pytest.raises(ValueError, match=message):
        plan("--config", "train/configs/locvlm_b_stage2.yaml", *arguments)


def test_a_run_on_videos_is_planned_with_its_frames_or_without(plan, tmp_path, capsys):
    machine = ("--gpus", "8", "--gpu", "a100-80g", *DESCRIBED, "--json", tmp_path / "plan.json")
    plan("--config", "train/configs/locvlm_vid_b.yaml", *machine)
    kept, text = read_json(tmp_path / "plan.json"), capsys.readouterr().out
    assert "stage3 on 1 x 8 GPUs" in text
    assert "32 videos (features kept)" in text
    assert "pooled features: 0.73 MB for each video" in text  # 356 tokens x 1024 x 2 bytes
    plan("--config", "train/configs/locvlm_vid_b.yaml", *machine, "--data.video_cache", "null")
    live, text = read_json(tmp_path / "plan.json"), capsys.readouterr().out
    assert "32 videos (3,200 frames)" in text
    assert kept["run"]["data"]["conversations"] == live["run"]["data"]["conversations"]
    assert live["cost"]["hours"] > 1.9 * kept["cost"]["hours"]
    assert kept["cost"]["checkpoint_bytes"] < 1e9 < 1.4e10 < kept["cost"]["final_bytes"]


def test_a_run_on_videos_whose_files_are_there_is_measured(plan, stage3_of, tmp_path):
    machine = ("--gpus", "1", "--gpu", "l40s", "--json", str(tmp_path / "plan.json"))
    plan(*stage3_of(tmp_path / "run", *machine))
    lengths = read_json(tmp_path / "plan.json")["run"]["data"]["lengths"]
    assert lengths["source"] == "measured on 18 conversations"
    assert lengths["video_fraction"] == pytest.approx(12 / 18)
    assert lengths["image_fraction"] == pytest.approx(6 / 18)


def test_different_videos_are_counted_where_they_are(plan, stage3_of, tmp_path):
    machine = ("--gpus", "2", "--gpu", "l40s", "--json", str(tmp_path / "plan.json"))
    plan(*stage3_of(tmp_path / "run", *machine))
    videos = read_json(tmp_path / "plan.json")["videos"]
    assert videos["source"] == "counted"
    assert videos["videos"] > 0
