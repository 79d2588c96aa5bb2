import os
import socket
import subprocess
import sys

import pytest
import torch

from locvlm import dist

LAUNCHER_VARIABLES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "RANK")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_a_process_without_launcher_is_rank_0_of_1() -> None:
    assert (dist.rank(), dist.world_size(), dist.expected_world_size(), dist.is_main()) == (0, 1, 1, True)
    dist.require_joined()


def test_a_sum_over_one_rank_is_a_copy() -> None:
    values = torch.tensor([1.0, 2.0])
    total = dist.sum_over_ranks(values)
    total += 1
    assert values.tolist() == [1.0, 2.0]


def test_the_largest_of_one_ranks_numbers_is_its_own() -> None:
    assert dist.max_over_ranks(3, device=torch.device("cpu")) == 3


@pytest.mark.parametrize("name", LAUNCHER_VARIABLES[:4])
def test_ranks_that_would_train_alone_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    with pytest.raises(ValueError, match=r"launcher started 2 ranks, .* one of 1: .*use_cpu"):
        dist.require_joined()


def test_a_broken_launcher_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE must be a whole number, got 'two'"):
        dist.expected_world_size()


def test_two_joined_ranks_sum() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"""
import sys, torch
from locvlm import dist
where = "tcp://127.0.0.1:{port}"
torch.distributed.init_process_group("gloo", init_method=where, rank=int(sys.argv[1]), world_size=2)
dist.require_joined()
assert dist.sum_over_ranks(torch.tensor([1, dist.rank()])).tolist() == [2, 1]
assert dist.max_over_ranks(5 - dist.rank(), device=torch.device("cpu")) == 5
assert dist.is_main() == (dist.rank() == 0) and dist.world_size() == 2
dist.leave()
assert not torch.distributed.is_initialized()
dist.leave()  # alone by now
"""
    environment = {**os.environ, "WORLD_SIZE": "2"}
    ranks = [subprocess.Popen([sys.executable, "-c", code, str(rank)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=60) for process in ranks] == [0, 0]


def test_deepspeed_does_not_compile_its_shared_memory_operator_on_a_cpu() -> None:
    code = """
import torch
from locvlm.dist import prepare_deepspeed_cpu
did = prepare_deepspeed_cpu()
assert did == (not torch.cuda.is_available())
if did:
    import deepspeed
    assert deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] is False
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
