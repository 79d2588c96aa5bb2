import pytest

from locvlm.benchmarks.gpu.results import CaseResult, Report, Timed, goals, line_of, loss_spread
from locvlm.benchmarks.result import Headline
from locvlm.io import read_json

PEAK = 1e15


def case(name, *, seconds, stage="stage2", pairs=8, mode="shared_prefix", loss=2.0, lora=None, flops=3e14):
    timed = Timed(
        step_s=(seconds, 100.0, seconds / 2, seconds, seconds),
        parts_s={},
        loss=loss,
        rows_per_pass=1,
        passes=4,
        conversations=16,
        pairs=16 * pairs,
        tokens=8000.0,
        useful_flops=flops,
        executed_flops=flops * 1.2,
        peak_memory_bytes=None,
    )
    workload = {"pairs": pairs, "mode": mode, "checkpointing": False}
    return CaseResult(
        name=name,
        stage=stage,
        variant=name[0],
        setup={"lora": lora},
        workload=workload,
        status="ok",
        timed=timed,
    )


def test_rates_are_of_the_median_step(tmp_path):
    report = Report(out=tmp_path / "out.json", machine={"gpu": "x"}, settings={}, peak_flops=PEAK)
    report.put(case("l-stage2-adamw_bf16/k8-shared-sdpa", seconds=0.5))
    (saved,) = read_json(tmp_path / "out.json")["cases"]
    assert saved["median_step_s"] == 0.5
    assert saved["pairs_per_s"] == 2 * 128
    assert saved["images_per_s"] == 32
    assert saved["mfu"] == pytest.approx(0.6)
    assert saved["executed_share"] == pytest.approx(0.72)


def test_what_is_no_number_does_not_keep_the_file_from_being_written(tmp_path):
    report = Report(out=tmp_path / "out.json", machine={}, settings={}, peak_flops=PEAK)
    report.correctness = [{"path": "tree", "gradient_error": float("nan")}]
    report.save()
    assert read_json(tmp_path / "out.json")["correctness"] == [{"path": "tree", "gradient_error": None}]


def test_goals_that_were_measured_are_quoted(tmp_path):
    report = Report(out=tmp_path / "out.json", machine={}, settings={}, peak_flops=PEAK)
    report.put(case("l-stage2-adamw_bf16/k8-shared-sdpa", seconds=0.5))
    (quoted,) = read_json(tmp_path / "out.json")["headline"]
    one = Headline(**quoted)
    assert (one.what, one.unit) == ("one GPU, l: stage 2, MFU without checkpointing", "of the peak")
    assert one.figure == pytest.approx(0.6)
    assert one.is_reached


def test_goals_take_the_best_case_and_the_fastest_kernel_of_each_mode():
    cases = [
        case("l-stage2-adamw_bf16/k8-shared-sdpa", seconds=2.0),
        case("l-stage2-adamw_bf16/k8-shared-tree", seconds=1.0),
        case("l-stage2-adamw_bf16/k8-separate-sdpa", seconds=6.0, mode="separate"),
        case("l-stage2-adamw_bf16/k8-separate-flex", seconds=5.0, mode="separate"),
        case("l-stage2-adamw_bf16-lora/k8-shared-sdpa", seconds=0.1, lora={"rank": 1}),
        case("l-stage1-adamw_bf16/k1-shared-sdpa", seconds=0.5, stage="stage1", pairs=1),
    ]
    mfu, gain, images = goals(cases, PEAK)
    assert mfu.reached == pytest.approx(0.3)
    assert mfu.by == "l-stage2-adamw_bf16/k8-shared-tree"
    assert gain.reached == 5.0
    assert gain.by == "l-stage2-adamw_bf16/k8-shared-tree against l-stage2-adamw_bf16/k8-separate-flex"
    assert (gain.wanted, images.wanted, images.reached) == (4.7, 30.0, 32.0)


def test_a_goal_without_a_case_is_not_reached():
    (mfu, gain) = goals(
        [case("b-stage1-adamw_bf16/k1-shared-sdpa", seconds=1, stage="stage1", pairs=1)], PEAK
    )
    assert mfu.reached is None
    assert gain.reached is None


def test_losses_of_the_same_pairs_are_compared():
    cases = [case("l-s/a", seconds=1), case("l-s/b", seconds=1, loss=2.1), case("l-s/c", seconds=1, pairs=4)]
    assert loss_spread(cases) == {"l-s/k8": pytest.approx(0.05)}


def test_a_line_tells_what_a_case_gave_or_why_nothing():
    assert "MFU 60.0%" in line_of(case("l-s/a", seconds=0.5), PEAK)
    failed = CaseResult(
        name="l-s/b",
        stage="stage2",
        variant="l",
        setup={},
        workload={},
        status="does not fit",
        reason="121 GB",
    )
    assert line_of(failed, PEAK).endswith("does not fit: 121 GB")
