"""Goes through the cases: each is its own try, the rest goes on, and what is known is written at once."""

import logging
from collections.abc import Iterator, Sequence

from locvlm.benchmarks.gpu import correctness
from locvlm.benchmarks.gpu.bench import Bench, DeviceLost, attempt, case_name, free
from locvlm.benchmarks.gpu.cases import Group, Setup, Workload
from locvlm.benchmarks.gpu.estimates import build_seconds
from locvlm.benchmarks.gpu.measure import Running, search, start, time_step
from locvlm.benchmarks.gpu.steps import Built, build

logger = logging.getLogger(__name__)


def run_groups(groups: Sequence[Group], bench: Bench) -> None:
    """Compare the attention paths, then measure until the time is up. What is not reached is named, too."""
    taken = {correctness.path_of(workload) for _, workloads in groups for workload in workloads}
    found = correctness.check_paths(bench.device, taken)
    bench.report.correctness = correctness.to_json(found)
    free(bench.device)
    for agreement in found:
        logger.info("%s", correctness.line_of(agreement))
    wrong, why = correctness.wrong_paths(found), "the time was up"
    for setup, workloads in groups:
        try:
            _run_group(setup, [*_worth_trying(setup, workloads, bench, wrong)], bench)
            free(bench.device)
        except DeviceLost as error:
            why = f"the device is lost: {error}"
            logger.error("%s", why)
            break
    for setup, workloads in groups:
        for workload in workloads:
            if case_name(setup, workload) not in bench.report.cases:
                bench.tell(setup, workload, "not started", why)


def _worth_trying(
    setup: Setup, workloads: Sequence[Workload], bench: Bench, wrong: set[str]
) -> Iterator[Workload]:
    """All but those of which it is known beforehand that they would give nothing."""
    for workload in workloads:
        guess = bench.estimate(setup, workload)
        path = correctness.path_of(workload)
        if path in wrong:
            bench.tell(setup, workload, "wrong", f"{path} does not agree with dense SDPA on this device")
        elif not guess.largest_rows:
            needed, there = guess.needed_bytes / 1e9, bench.memory_bytes / 1e9
            why = f"one row in a pass needs about {needed:.1f} GB, the device has {there:.1f} GB"
            bench.tell(setup, workload, "does not fit", why, estimated_bytes=guess.needed_bytes)
        else:
            yield workload


def _run_group(setup: Setup, workloads: Sequence[Workload], bench: Bench) -> None:
    """Build the model once; time its workloads in turns, then search."""
    quickest = min((bench.estimate(setup, w).seconds for w in workloads), default=0.0)
    if not workloads or bench.remaining_s() < build_seconds(setup) + quickest:
        return
    made = attempt(lambda: build(setup, bench.device), bench.device)
    if made.value is None:
        for workload in workloads:
            bench.tell(setup, workload, made.status, made.reason)
        return
    _time_in_turns(made.value, [w for w in workloads if not w.is_search], bench)
    for workload in workloads:
        guess = bench.estimate(setup, workload)
        if not workload.is_search or bench.remaining_s() < guess.seconds:
            continue
        built = made.value
        sought = attempt(lambda w=workload, b=built: search(b, w, bench), bench.device)  # type: ignore[misc]
        limits = {"largest_rows": sought.value, "estimated_largest_rows": guess.largest_rows}
        bench.tell(setup, workload, sought.status, sought.reason, **limits)


def _time_in_turns(built: Built, workloads: Sequence[Workload], bench: Bench) -> None:
    """A step of each, round by round, so that a device that slows down slows all alike."""
    running: list[Running] = []
    for workload in workloads:
        if bench.remaining_s() < bench.estimate(built.setup, workload).seconds:
            continue
        begun = start(built, workload, bench)
        if begun.value is None:
            bench.tell(built.setup, workload, begun.status, begun.reason)
        else:
            running.append(begun.value)
    for _ in range(bench.rounds):
        for one in list(running):
            if bench.remaining_s() < 1.2 * max(one.step_s, default=0.0):
                return
            timed = attempt(lambda one=one: time_step(built, one, bench), bench.device)  # type: ignore[misc]
            if timed.value is None:
                built.optimizer.zero_grad()
                running.remove(one)
            if timed.value is None and one.step_s:  # what earlier rounds gave stands
                logger.warning("%s: %s", case_name(built.setup, one.workload), timed.reason)
                continue
            values = {"timed": timed.value, "estimated_bytes": one.estimated_bytes}
            bench.tell(built.setup, one.workload, timed.status, timed.reason, **values)
