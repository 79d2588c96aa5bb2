import re
import shlex

import pytest

from locvlm.config import load_config
from locvlm.io import read_json
from locvlm.training.arguments import Stage1Config, Stage2Config, check_training


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("tiny", Stage2Config),
        ("demo_stage1", Stage1Config),
        ("demo_stage2", Stage2Config),
        ("locvlm_b_stage1", Stage1Config),
        ("locvlm_b_stage2", Stage2Config),
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


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero3_offload"])
def test_deepspeed_takes_sizes_from_the_run_and_sums_gradients_in_fp32(repo_root, name):
    config = read_json(repo_root / "ds_configs" / f"{name}.json")
    sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    assert [config[size] for size in (*sizes, "gradient_clipping")] == ["auto"] * 4
    assert config["data_types"]["grad_accum_dtype"] == config["communication_data_type"] == "fp32"
    assert "optimizer" not in config  # training.optim decides, with and without DeepSpeed
