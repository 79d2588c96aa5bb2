"""The preflight on two real ranks, with and without DeepSpeed."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from locvlm.io import read_json
from locvlm.training.plan.cost import checkpoint_sizes
from locvlm.training.plan.data import ASSUMED, size_of_data
from locvlm.training.plan.machines import GPUS, Machine
from locvlm.training.plan.run import describe_run
from locvlm.training.plan.settings import load_stage_config
from locvlm.training.plan.shapes import model_config

pytestmark = pytest.mark.slow

TWO_RANKS = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "2")


@pytest.mark.parametrize("deepspeed", [None, "ds_configs/zero2.json", "ds_configs/zero3.json"])
def test_two_ranks_exchange_save_and_resume(tiny_world, tmp_path, repo_root, deepspeed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    out = tmp_path / "preflight.json"
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    command = [torchrun, "--nproc_per_node", "2", "--master_port", port, "scripts/preflight.py"]
    engine = ("--training.deepspeed", deepspeed) if deepspeed else ()
    arguments = tiny_world.stage(2, tmp_path / "run", *TWO_RANKS, *engine, "--steps", "4", "--json", str(out))
    done = subprocess.run(
        [*command, *arguments], cwd=repo_root, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    values = read_json(out)
    assert values["exchange"]["bytes_per_s"] > 1e6
    assert [speed["rank"] for speed in values["speeds"]] == [0, 1]
    assert len(values["memory"]) == 2
    assert values["trial"]["repeated_loss"] == values["trial"]["losses"][-1]
    assert not (tmp_path / "run.preflight").exists()
    expected = planned_checkpoint(arguments[:-4], tiny_world, repo_root)
    # beside what grows with the model: tokenizer, settings, random numbers, DeepSpeed's own scripts
    assert expected < values["trial"]["checkpoint_bytes"] < expected + 200_000


def planned_checkpoint(arguments, tiny_world, repo_root):
    """Bytes of a checkpoint, as the planner foresees them."""
    under_root = [str(repo_root / text) if text.startswith(("train/", "ds_")) else text for text in arguments]
    stage, config = load_stage_config(under_root)
    data = size_of_data(config.data, lengths=ASSUMED[stage], num_samples=12)
    machine = Machine(gpu=GPUS["l40s"], gpus=2)
    run = describe_run(config, machine, stage=stage, model=model_config(tiny_world.init), data=data)
    return checkpoint_sizes(run)[0]
