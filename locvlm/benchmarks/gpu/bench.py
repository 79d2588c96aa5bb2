"""Where and how it is measured, and what becomes of an attempt that fails."""

import gc
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import torch

from locvlm.benchmarks.gpu.cases import Setup, Sizes, Workload
from locvlm.benchmarks.gpu.estimates import Estimate, estimate
from locvlm.benchmarks.gpu.results import CaseResult, Report, Status, line_of

logger = logging.getLogger(__name__)

T = TypeVar("T")


class DeviceLost(Exception):
    """The device answers every call with an earlier error: nothing more can be measured in this process."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One device, one report, so much time."""

    device: torch.device
    memory_bytes: int  # of the device; 0: no limit is known
    peak_flops: float
    sizes: Sizes
    rounds: int
    deadline: float  # of time.monotonic()
    report: Report

    def remaining_s(self) -> float:
        """Until the time is up."""
        return self.deadline - time.monotonic()

    def estimate(self, setup: Setup, workload: Workload) -> Estimate:
        """What a case will take here."""
        return estimate(
            setup,
            workload,
            self.sizes,
            memory_bytes=self.memory_bytes,
            rounds=self.rounds,
            peak_flops=self.peak_flops,
        )

    def tell(self, setup: Setup, workload: Workload, status: Status, reason: str = "", **found: Any) -> None:
        """Note what came of a case, and log it."""
        result = CaseResult(
            name=case_name(setup, workload),
            stage=setup.stage,
            variant=setup.variant,
            setup=asdict(setup),
            workload=asdict(workload),
            status=status,
            reason=reason,
            **found,
        )
        self.report.put(result)
        logger.info("%s", line_of(result, self.peak_flops))


def case_name(setup: Setup, workload: Workload) -> str:
    """Such as l-stage2-adamw_bf16/k8-shared-sdpa."""
    return f"{setup.name}/{workload.name}"


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """What came of a call: a value, or why there is none."""

    value: T | None
    status: Status = "ok"
    reason: str = ""


def attempt(action: Callable[[], T], device: torch.device) -> Attempt[T]:
    """Call it; whatever it raises is its result, and what it had allocated is free again.

    Raises:
        DeviceLost: if the device cannot go on.
    """
    try:
        return Attempt(action())
    except DeviceLost:
        raise
    except torch.OutOfMemoryError as error:
        failed: Attempt[T] = Attempt(None, "does not fit", first_line(error))
    except ValueError as error:
        failed = Attempt(None, "not here", str(error))
    except ImportError as error:
        failed = Attempt(None, "not here", f"not installed: {error}")
    except Exception as error:  # compilers and kernels raise anything; the other cases go on
        logger.debug("a case failed", exc_info=True)
        failed = Attempt(None, "failed", first_line(error))
    free(device)  # here, where the exception no longer holds the frames that hold tensors
    return failed


def free(device: torch.device) -> None:
    """Give back what is no longer held of a GPU's memory.

    Raises:
        DeviceLost: if the device cannot go on.
    """
    if device.type != "cuda":
        return
    gc.collect()
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise DeviceLost(first_line(error)) from error


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def first_line(error: BaseException) -> str:
    """What an exception says, without the pages that some have."""
    text = str(error).strip() or "no message"
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}"
