"""What a step costs: tokens, pairs, operations, waiting for data, peak memory; written to `metrics.jsonl`."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from locvlm.constants import NO_SAMPLE
from locvlm.dist import sum_over_ranks, world_size
from locvlm.training.plan.flops import Load
from locvlm.training.plan.loads import useful_load


class StepMeter:
    """Counts what passes through a rank, and the time it takes."""

    def __init__(self) -> None:
        self.last_wait_s = 0.0  # for the data of the last step
        self._flops_of: Callable[[Load], float] | None = None
        self._peak_flops: float | None = None
        self.restart()

    def count_flops(self, flops_of: Callable[[Load], float], *, peak_flops: float | None) -> None:
        """Also count operations, from now on, and hold them against a device's peak if that is known."""
        self._flops_of, self._peak_flops = flops_of, peak_flops

    def restart(self) -> None:
        """Forget what was counted."""
        self._counts = dict.fromkeys(("tokens", "slots", "targets", "pairs", "wait_s", "flops"), 0.0)
        self._start = time.perf_counter()

    def count(self, batches: Sequence[dict[str, Any]], *, wait_s: float) -> None:
        """Add micro-batches that are still on the CPU, and the time in which they were waited for."""
        self.last_wait_s = wait_s
        self._counts["wait_s"] += wait_s
        for batch in batches:
            self._counts["tokens"] += int((batch["sample_ids"] != NO_SAMPLE).sum())
            self._counts["slots"] += batch["sample_ids"].numel()
            self._counts["targets"] += int((batch["target_weights"] > 0).sum())
            self._counts["pairs"] += count_branches(batch["sample_ids"], batch["branch_ids"])
            if self._flops_of is not None:
                self._counts["flops"] += self._flops_of(useful_load(batch))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside (saving, evaluating) is not time of steps."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def report(self, *, num_steps: int) -> dict[str, float]:
        """Of the `num_steps` steps since the last report, over all ranks. Every rank has to call this.

        tokens_per_s           tokens without padding
        pairs_per_s            question-answer pairs, or captions
        data_wait_s            waited for data, a step and rank
        step_s                 seconds a step, the wait included
        supervised_fraction    of the tokens, those that are learned
        row_fill               of the slots of all rows, those that hold tokens
        tflops_per_s           useful operations of a rank: a shared prefix once; no padding, no recomputation
        mfu                    that as a share of the device's peak, where one is known
        peak_memory_gb         of this GPU, since the start
        """
        seconds = max(time.perf_counter() - self._start, 1e-9)
        names = list(self._counts)
        total = sum_over_ranks(torch.tensor([self._counts[name] for name in names], dtype=torch.float64))
        sums = dict(zip(names, total.tolist(), strict=True))
        num_steps = max(num_steps, 1)
        report = {
            "tokens_per_s": sums["tokens"] / seconds,
            "pairs_per_s": sums["pairs"] / seconds,
            "data_wait_s": sums["wait_s"] / num_steps / world_size(),
            "step_s": seconds / num_steps,
            "supervised_fraction": sums["targets"] / max(sums["tokens"], 1),
            "row_fill": sums["tokens"] / max(sums["slots"], 1),
        }
        if self._flops_of is not None:
            rate = sums["flops"] / seconds / world_size()
            report["tflops_per_s"] = rate / 1e12
            if self._peak_flops is not None:
                report["mfu"] = rate / self._peak_flops
        if torch.cuda.is_available():
            report["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        self.restart()
        return report


def count_branches(sample_ids: torch.Tensor, branch_ids: torch.Tensor) -> int:
    """Branches in packed rows (R, L): a branch starts where the id differs from the token before it."""
    before_sample = torch.nn.functional.pad(sample_ids[:, :-1], (1, 0), value=NO_SAMPLE)
    before_branch = torch.nn.functional.pad(branch_ids[:, :-1], (1, 0), value=0)
    starts = (branch_ids > 0) & ((branch_ids != before_branch) | (sample_ids != before_sample))
    return int(starts.sum())
