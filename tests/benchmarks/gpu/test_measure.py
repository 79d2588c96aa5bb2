import time

import pytest
import torch

from locvlm.benchmarks.gpu.bench import Bench, DeviceLost, attempt
from locvlm.benchmarks.gpu.cases import TOY_SIZES, Setup, Workload
from locvlm.benchmarks.gpu.measure import largest_that_fits, start, time_step
from locvlm.benchmarks.gpu.results import Report
from locvlm.benchmarks.gpu.run import run_groups
from locvlm.benchmarks.gpu.steps import build

CPU = torch.device("cpu")
PLAIN = Setup(variant="toy", stage="stage2")


@pytest.fixture
def bench():
    """bench(seconds): on this CPU, with a report that is not written."""

    def make(seconds=600.0, out=None):
        return Bench(
            device=CPU,
            memory_bytes=0,
            peak_flops=1e12,
            sizes=TOY_SIZES,
            rounds=2,
            deadline=time.monotonic() + seconds,
            report=Report(out=out, machine={}, settings={}, peak_flops=1e12),
        )

    return make


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 7, 8, 30, 64, 100])
def test_the_largest_that_fits_is_found_with_few_tries(largest):
    tried = []

    def fits(rows):
        tried.append(rows)
        return rows <= largest

    assert largest_that_fits(fits, most=64) == min(largest, 64)
    assert len(tried) == len(set(tried)) <= 12
    assert max(tried) <= 64


def test_an_attempt_keeps_what_went_wrong_and_of_which_kind():
    def fail(error):
        raise error

    out_of_memory = attempt(lambda: fail(torch.OutOfMemoryError("tried to allocate 20 GiB\nmore")), CPU)
    assert out_of_memory.status == "does not fit"
    assert out_of_memory.reason == "OutOfMemoryError: tried to allocate 20 GiB"
    missing = attempt(lambda: fail(ModuleNotFoundError("No module named 'x'")), CPU)
    assert (missing.status, missing.reason) == ("not here", "not installed: No module named 'x'")
    assert attempt(lambda: fail(RuntimeError("kernel")), CPU).status == "failed"
    assert attempt(lambda: 3, CPU).value == 3


def test_a_pass_that_does_not_fit_is_tried_with_half_the_rows(bench, monkeypatch):
    built = build(PLAIN, CPU)
    forward, rows = built.forward, []

    def small_device(**inputs):
        rows.append(inputs["input_ids"].shape[0])
        if rows[-1] > 1:
            raise torch.OutOfMemoryError("too much")
        return forward(**inputs)

    object.__setattr__(built, "forward", small_device)
    begun = start(built, Workload(pairs=1), bench())
    assert begun.value is not None
    assert rows[:2] == [2, 1]
    assert begun.value.batches[0]["input_ids"].shape[0] == 1


def test_a_timed_step_takes_as_long_as_its_parts_and_teaches_nothing(bench):
    built = build(PLAIN, CPU)
    before = built.model.lm_head.weight.detach().clone()
    running = start(built, Workload(pairs=4), bench()).value
    timed = [time_step(built, running, bench()) for _ in range(2)][-1]
    assert len(timed.step_s) == 2
    assert sum(timed.parts_s.values()) == pytest.approx(sum(timed.step_s) / 2, rel=0.05)
    assert timed.parts_s["tower, adapter"] > 0
    assert timed.pairs == 4 * timed.conversations
    assert timed.executed_flops > timed.useful_flops
    assert torch.equal(built.model.lm_head.weight, before)


def test_a_case_that_fails_later_keeps_its_first_rounds_and_the_others_go_on(bench, monkeypatch):
    steps = []

    def failing(built, running, bench):
        steps.append(running.workload.pairs)
        if running.workload.pairs == 1 and steps.count(1) == 2:
            raise RuntimeError("kernel")
        return time_step(built, running, bench)

    monkeypatch.setattr("locvlm.benchmarks.gpu.run.time_step", failing)
    monkeypatch.setattr("locvlm.benchmarks.gpu.correctness.check_paths", lambda device, paths: [])
    one = bench()
    run_groups([(PLAIN, (Workload(pairs=1), Workload(pairs=4)))], one)
    rounds = {case.workload["pairs"]: len(case.timed.step_s) for case in one.report.cases.values()}
    assert rounds == {1: 1, 4: 2}


def test_out_of_time_names_every_case_that_was_not_reached(bench):
    late = bench(seconds=0.0)
    run_groups([(PLAIN, (Workload(), Workload(is_search=True)))], late)
    assert [(case.status, case.reason) for case in late.report.cases.values()] == [
        ("not started", "the time was up")
    ] * 2
    assert late.report.correctness  # comes first


def test_after_a_lost_device_nothing_is_tried(bench, monkeypatch):
    def lost(setup, device):
        raise DeviceLost("illegal memory access")

    monkeypatch.setattr("locvlm.benchmarks.gpu.run.build", lost)
    monkeypatch.setattr("locvlm.benchmarks.gpu.correctness.check_paths", lambda device, paths: [])
    one = bench()
    run_groups([(PLAIN, (Workload(),)), (Setup(variant="toy", stage="stage1"), (Workload(pairs=1),))], one)
    assert {case.reason for case in one.report.cases.values()} == {
        "the device is lost: illegal memory access"
    }
