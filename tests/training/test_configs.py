import re
import shlex

import pytest

from locvlm.config import load_config
from locvlm.config_text import to_dict
from locvlm.io import read_json
from locvlm.training.arguments import Stage1Config, Stage2Config, Stage3Config, check_training


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("tiny", Stage2Config),
        ("demo_stage1", Stage1Config),
        ("demo_stage2", Stage2Config),
        ("demo_stage3", Stage3Config),
        ("llava15_baseline_stage1", Stage1Config),
        ("llava15_baseline_stage2", Stage2Config),
        ("locvlm_b_refcoco", Stage2Config),
        ("locvlm_b_stage1", Stage1Config),
        ("locvlm_b_stage2", Stage2Config),
        ("locvlm_l_stage1", Stage1Config),
        ("locvlm_l_stage2", Stage2Config),
        ("locvlm_l_stage2_vqa", Stage2Config),
        ("locvlm_vid_b", Stage3Config),
        ("locvlm_vid_b_plus", Stage3Config),
        ("try_coco", Stage2Config),
    ],
)
def test_every_run_config_is_read_strictly_to_the_last_argument(repo_root, name, cls):
    cfg = load_config(cls, ["--config", str(repo_root / "train" / "configs" / f"{name}.yaml")])
    training = check_training(cfg.training)
    if "deepspeed" in training:
        assert (repo_root / training["deepspeed"]).is_file()


def test_every_config_is_listed_above(repo_root):
    names = {path.stem for path in (repo_root / "train" / "configs").glob("*.yaml")}
    listed = test_every_run_config_is_read_strictly_to_the_last_argument.pytestmark[0].args[1]
    assert names == {name for name, _ in listed}


@pytest.mark.parametrize(
    ("name", "cls", "batch", "learning_rate", "warmup", "epochs"),
    [
        ("locvlm_b_stage1", Stage1Config, 128, 2e-3, 0.03, 1),
        ("locvlm_b_stage2", Stage2Config, 64, 2e-5, 0.3, 10),
        ("locvlm_l_stage1", Stage1Config, 256, 1e-3, 0.03, 1),
        ("locvlm_l_stage2", Stage2Config, 64, 2e-5, 0.3, 10),
        ("llava15_baseline_stage1", Stage1Config, 256, 1e-3, 0.03, 1),
        ("llava15_baseline_stage2", Stage2Config, 128, 2e-5, 0.03, 1),
    ],
)
def test_configs_have_the_papers_values(repo_root, name, cls, batch, learning_rate, warmup, epochs):
    cfg = load_config(cls, ["--config", str(repo_root / "train" / "configs" / f"{name}.yaml")])
    training = check_training(cfg.training)
    assert cfg.data.conversations_per_step == batch
    assert (training["learning_rate"], training["warmup_steps"]) == (learning_rate, warmup)
    assert training["num_train_epochs"] == epochs
    assert (training["lr_scheduler_type"], training["weight_decay"], training["bf16"]) == (
        "cosine",
        0.0,
        True,
    )
    assert cfg.packing.max_row_tokens == 2048
    is_stage2 = cls is Stage2Config
    assert cfg.data.conversation == ("vicuna_v1" if is_stage2 else "plain")
    assert (cfg.model.adapter is not None) == is_stage2


@pytest.mark.parametrize(
    ("name", "frames", "trains"),
    [("locvlm_vid_b", 100, "adapter"), ("locvlm_vid_b_plus", 8, "adapter_and_llm")],
)
def test_video_configs_have_the_papers_values(repo_root, name, frames, trains):
    cfg = load_config(Stage3Config, ["--config", str(repo_root / "train" / "configs" / f"{name}.yaml")])
    training = check_training(cfg.training)
    assert (cfg.data.conversations_per_step, cfg.video.num_frames, cfg.trains) == (32, frames, trains)
    assert (training["learning_rate"], training["warmup_steps"]) == (2e-5, 0.03)
    assert (training["num_train_epochs"], training["weight_decay"], training["bf16"]) == (3, 0.0, True)
    stage2 = load_config(
        Stage2Config, ["--config", str(repo_root / "train" / "configs" / "locvlm_b_stage2.yaml")]
    )
    assert cfg.model.checkpoint == f"{stage2.training['output_dir']}/final"
    assert "video_instruct_100k" in {source.name for source in cfg.data.sources}


def test_stage_2_starts_where_stage_1_of_its_model_ends(repo_root):
    for name in ("locvlm_b", "locvlm_l", "llava15_baseline"):
        paths = [repo_root / "train" / "configs" / f"{name}_stage{stage}.yaml" for stage in (1, 2)]
        first = load_config(Stage1Config, ["--config", str(paths[0])])
        second = load_config(Stage2Config, ["--config", str(paths[1])])
        assert second.model.checkpoint == first.model.checkpoint
        assert second.model.adapter == f"{first.training['output_dir']}/final"
        assert second.coords.frame == first.coords.frame  # stage 2 refuses an adapter of another


def ablations(document):
    """(configuration, overrides) of every row of a document's tables that has overrides."""
    base = None
    for line in document.read_text().splitlines():
        if found := re.match(r"deepspeed train/stage[23].py --config (\S+)$", line):
            base = found[1]
        if line.startswith("|") and (overrides := re.search(r"`(--[^`]+)`", line)):
            named = re.search(r"`(train/configs/\w+\.yaml)`", line)
            yield named[1] if named else base, shlex.split(overrides[1])


def test_every_override_in_the_ablations_is_accepted(repo_root):
    rows = list(ablations(repo_root / "docs" / "ablations.md"))
    assert len(rows) == 19  # Tab. 2: 3, Tab. 11: 7, other readings: 3, Tab. 12: 4, of videos otherwise: 2
    folders = []
    for config, overrides in rows:
        cls = Stage1Config if "stage1" in config else Stage3Config if "vid_b" in config else Stage2Config
        plain = load_config(cls, ["--config", str(repo_root / config)])
        cfg = load_config(cls, ["--config", str(repo_root / config), *overrides])
        folders.append(check_training(cfg.training)["output_dir"])
        is_default = {folders[-1]} <= {"runs/ablations/ivb", "runs/ablations/bbox"}
        changed, before = (
            {**to_dict(one), "training": {**one.training, "output_dir": ""}} for one in (cfg, plain)
        )
        assert (changed != before) != is_default, overrides
    assert len(folders) == len(set(folders))  # a folder holds one configuration


def test_the_rows_of_table_11_ask_what_they_say(repo_root):
    asked = {}
    for config, overrides in ablations(repo_root / "docs" / "ablations.md"):
        if "stage2" in config:
            cfg = load_config(Stage2Config, ["--config", str(repo_root / config), *overrides])
            sources = {source.name: source.objectives for source in cfg.data.sources}
            asked[cfg.training["output_dir"].rpartition("/")[2]] = sources
    assert "localize_instruct_200k" not in asked["none"]
    assert asked["locpred"]["localize_instruct_200k"] == ("locpred",)
    assert asked["locpred_negpred"]["localize_instruct_200k"] == ("locpred", "negpred")
    assert asked["all"]["localize_instruct_200k"] == ("locpred", "negpred", "revloc")
    assert all("llava_instruct_158k" in sources for sources in asked.values())


def test_the_rows_of_table_12_ask_what_they_say(repo_root):
    asked = {}
    for config, overrides in ablations(repo_root / "docs" / "ablations.md"):
        if (
            "vid_b_plus" in config
            and ("--video.order" not in overrides)
            and "--video.pad_frames" not in overrides
        ):
            cfg = load_config(Stage3Config, ["--config", str(repo_root / config), *overrides])
            sources = {source.name: source.objectives for source in cfg.data.sources}
            assert "video_instruct_100k" in sources
            name = cfg.training["output_dir"].rpartition("/video_")[2]
            asked[name] = sources.get("localize_activitynet")
    everything = ("locpred", "negpred", "revloc")
    assert asked == {
        "none": None,
        "locpred": ("locpred",),
        "locpred_negpred": ("locpred", "negpred"),
        "all": everything,
    }


def stage2_commands(document):
    """The options of every command in a document's bash blocks that starts train/stage2.py."""
    blocks = re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if "train/stage2.py" in line]
    return [words[words.index("train/stage2.py") + 1 :] for words in commands]


def test_the_readmes_stage_2_commands_are_accepted_after_the_demo(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)  # the commands name files from here
    folders = []
    for options in stage2_commands(repo_root / "README.md"):
        cfg = load_config(Stage2Config, options)
        training = check_training(cfg.training)
        assert cfg.optimizer.matrices == "adamw" or not training.get("deepspeed"), options
        assert not training["output_dir"].startswith("runs/demo"), options
        folders.append(training["output_dir"])
    assert len(folders) == len(set(folders)) >= 3  # a folder holds one configuration


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"])
def test_deepspeed_takes_sizes_from_the_run_and_sums_gradients_in_fp32(repo_root, name):
    config = read_json(repo_root / "ds_configs" / f"{name}.json")
    sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    assert [config[size] for size in (*sizes, "gradient_clipping")] == ["auto"] * 4
    assert config["data_types"]["grad_accum_dtype"] == config["communication_data_type"] == "fp32"
    assert "optimizer" not in config  # training.optim decides, with and without DeepSpeed
