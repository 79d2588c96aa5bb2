"""Ranks: which one this is, how many there are, sums over them; all works without a process group too."""

import importlib.util
import os
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# What launchers tell every process: torchrun and deepspeed, OpenMPI, PMI, a bare srun.
_SIZE_VARIABLES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
_RANK_VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")


def rank() -> int:
    """This process's rank: the process group's, before there is one the launcher's, alone 0."""
    group = _process_group()
    return int(group.get_rank()) if group is not None else _from_environment(_RANK_VARIABLES, default=0)


def world_size() -> int:
    """Ranks in the process group, 1 without one."""
    group = _process_group()
    return int(group.get_world_size()) if group is not None else 1


def expected_world_size() -> int:
    """Ranks that the launcher says it started, 1 without a launcher."""
    return _from_environment(_SIZE_VARIABLES, default=1)


def is_main() -> bool:
    """Whether this is rank 0, which logs and writes for all."""
    return rank() == 0


def require_joined() -> None:
    """Refuse to train as several ranks that do not know of each other.

    On a CPU this happens in silence: without `use_cpu: true` every rank of a launcher trains its own copy.

    Raises:
        ValueError: if the process group has another size than the launcher started.
    """
    expected, joined = expected_world_size(), world_size()
    if expected != joined:
        raise ValueError(
            f"the launcher started {expected} ranks, but this process is one of {joined}: "
            f"each would train alone. "
            f"Without a GPU set training.use_cpu: true; start with torchrun or deepspeed"
        )


def join(*, timeout_h: float = 24.0) -> None:
    """Meet the other ranks that torchrun started; nothing where there is one process, or they have met.

    For programs that train nothing: ranks exchange no tensors, and wait for each other through the CPU.

    Args:
        timeout_h: how long a rank waits for the slowest. (Where one dies, torchrun ends the others at once.)

    Raises:
        ValueError: if several were started by something that does not say where they meet.
    """
    if expected_world_size() == 1 or _process_group() is not None:
        return
    if "MASTER_ADDR" not in os.environ:
        raise ValueError(
            f"{expected_world_size()} processes were started, but not where they meet; start them with "
            f"torchrun, or each with a --shard of its own"
        )
    import torch.distributed

    torch.distributed.init_process_group("gloo", timeout=timedelta(hours=timeout_h))


def sum_over_ranks(tensor: "torch.Tensor") -> "torch.Tensor":
    """The element-wise sum over all ranks, as a new tensor of the same shape; the argument is left alone."""
    total = tensor.detach().clone()
    group = _process_group()
    if group is not None and group.get_world_size() > 1:
        group.all_reduce(total)
    return total


def max_over_ranks(number: int, *, device: "torch.device") -> int:
    """The largest of all ranks' numbers; each rank must ask at the same point.

    Args:
        device: that the process group exchanges tensors on.
    """
    group = _process_group()
    if group is None or group.get_world_size() == 1:
        return number
    import torch

    largest = torch.tensor(number, device=device)
    group.all_reduce(largest, op=group.ReduceOp.MAX)
    return int(largest)


def wait() -> None:
    """Until every rank has come this far; nothing without a process group."""
    group = _process_group()
    if group is not None:
        group.barrier()


def leave() -> None:
    """Part from the other ranks once all have come this far; nothing without a process group.

    Rank 0 keeps the store that the others report to: were it gone first, they would be aborted at their exit.
    """
    group = _process_group()
    if group is not None:
        group.barrier()
        group.destroy_process_group()


def prepare_deepspeed_cpu() -> bool:
    """On a machine without CUDA, keep DeepSpeed from compiling its shared-memory operator; True if it did.

    The first start with two ranks would otherwise compile for almost two minutes, and hang for ever on the
    lock of a build that was killed. gloo does the same work. Call it before DeepSpeed initialises.
    """
    import torch

    if torch.cuda.is_available() or importlib.util.find_spec("deepspeed") is None:
        return False
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return True


def _process_group() -> Any:
    """torch.distributed if it is initialised, else None; asks without importing torch."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def _from_environment(names: tuple[str, ...], *, default: int) -> int:
    for name in names:
        text = os.environ.get(name, "")
        if text:
            if not text.isdecimal():
                raise ValueError(
                    f"the launcher's environment variable {name} must be a whole number, got {text!r}"
                )
            return int(text)
    return default
