"""Every way to train stage 2 on two ranks, against one rank without DeepSpeed: losses, gradients, weights.

ZeRO 0 to 3 and offloading x whole or LoRA x fp32 or bf16, on CPUs. What needs a GPU (4-bit weights, fused
kernels) is refused with a message, see tests/training/test_arguments.py.
"""

import subprocess
import sys

import pytest
import torch

from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import attach_lora, merge_lora

pytestmark = pytest.mark.slow

ONE_RANK = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "4")
TWO_RANKS = ("--training.per_device_train_batch_size", "1", "--training.gradient_accumulation_steps", "2")
SHORT = ("--training.max_steps", "4", "--training.save_steps", "2")
TRAINED = {
    "whole": (),
    "lora": (
        "--lora.rank",
        "4",
        "--lora.alpha",
        "8",
        "--lora.dropout",
        "0",
        "--training.learning_rate",
        "1e-2",
    ),
}
ENGINES = (None, "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")


@pytest.fixture(scope="module")
def on_one_rank(tiny_world, tmp_path_factory, repo_root):
    """on_one_rank("lora"): the folder of the run that the others are to equal; made once."""
    runs = {}

    def run(trained):
        if trained not in runs:
            runs[trained] = tmp_path_factory.mktemp("one") / trained
            arguments = tiny_world.stage(2, runs[trained], *ONE_RANK, *SHORT, *TRAINED[trained])
            command = [sys.executable, "train/stage2.py", *arguments]
            subprocess.run(command, cwd=repo_root, check=True, capture_output=True)
        return runs[trained]

    return run


def final_weights(folder, init, trained):
    """Of the whole model, LoRA merged into it."""
    if trained == "whole":
        return LocVLM.from_pretrained(folder).state_dict()
    model = LocVLM.from_pretrained(init)
    attach_lora(model, folder)
    merge_lora(model)
    return model.state_dict()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_train_as_one(tiny_world, launch, tmp_path, rows_of, on_one_rank, engine, trained, dtype):
    options = [*TWO_RANKS, *SHORT, *TRAINED[trained]]
    if engine is not None:
        options += ["--training.deepspeed", f"ds_configs/{engine}.json"]
    if dtype == "bf16":
        options += ["--training.bf16", "true"]
    run = tmp_path / "run"
    launch("torchrun", 2, tiny_world.stage(2, run, *options))

    expected, got = rows_of(on_one_rank(trained)), rows_of(run)
    exact = dtype == "fp32"  # sums in another order; bf16 has 8 bits
    losses = [row["loss"] for row in expected]
    assert [row["loss"] for row in got] == pytest.approx(losses, rel=2e-5 if exact else 0.02)
    norms = [row["grad_norm"] for row in expected]
    assert [row["grad_norm"] for row in got] == pytest.approx(norms, rel=1e-3 if exact else 0.1)

    theirs = final_weights(on_one_rank(trained) / "final", tiny_world.init, trained)
    ours = final_weights(run / "final", tiny_world.init, trained)
    assert {name: tensor.shape for name, tensor in ours.items()} == {k: v.shape for k, v in theirs.items()}
    # Adam divides by the gradient's size, so noise in tiny gradients moves a weight by up to a learning rate
    limit = 2e-3 if exact else 2e-2
    start = LocVLM.from_pretrained(tiny_world.init).state_dict()
    assert any(not torch.equal(ours[name], tensor) for name, tensor in start.items())
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < limit


@pytest.mark.parametrize("engine", [None, "zero2", "zero3"])
def test_lora_resumes_to_the_last_bit(tiny_world, launch, tmp_path, rows_of, engine):
    options = [*TWO_RANKS, *SHORT, *TRAINED["lora"]]
    if engine is not None:
        options += ["--training.deepspeed", f"ds_configs/{engine}.json"]
    launch("torchrun", 2, tiny_world.stage(2, tmp_path / "whole", *options))
    on = ("--training.resume_from_checkpoint", str(tmp_path / "whole" / "checkpoint-2"))
    launch("torchrun", 2, tiny_world.stage(2, tmp_path / "resumed", *options, *on))
    whole, resumed = rows_of(tmp_path / "whole"), rows_of(tmp_path / "resumed")
    assert [row["loss"] for row in resumed] == [row["loss"] for row in whole[2:]]
    theirs, ours = (
        final_weights(tmp_path / name / "final", tiny_world.init, "lora") for name in ("whole", "resumed")
    )
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) == 0.0


def test_activation_checkpointing_changes_nothing(tiny_world, launch, tmp_path, rows_of, on_one_rank):
    options = ("--training.gradient_checkpointing", "true", "--training.deepspeed", "ds_configs/zero3.json")
    launch("torchrun", 2, tiny_world.stage(2, tmp_path / "run", *TWO_RANKS, *SHORT, *options))
    losses = [row["loss"] for row in rows_of(on_one_rank("whole"))]
    assert [row["loss"] for row in rows_of(tmp_path / "run")] == pytest.approx(losses, rel=2e-5)
