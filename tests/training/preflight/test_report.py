"""What is said about findings; tests/programs/test_preflight.py makes real ones."""

from dataclasses import replace

import pytest

from locvlm.training.plan.memory import Zero
from locvlm.training.plan.settings import TrainingSettings
from locvlm.training.preflight.check import Findings, Limits
from locvlm.training.preflight.machine import Exchange, RankSpeed
from locvlm.training.preflight.report import judge, to_json, to_text
from locvlm.training.preflight.survey import StepFacts, Survey
from locvlm.training.preflight.trial import MemoryPeak, Trial

SETTINGS = TrainingSettings(
    rows_per_pass=2,
    passes=2,
    precision="bf16",
    checkpointing=False,
    zero=Zero(),
    max_steps=1000,
    epochs=3,
    save_strategy="steps",
    save_steps=100,
    save_total_limit=2,
)
STEP = StepFacts(
    step=7, longest_row=2000, tokens=7000, slots=8000, images=16, targets=900, pairs=10**6, dense_pairs=10**7
)
GOOD = Findings(
    limits=Limits(
        settings=SETTINGS,
        num_steps=1000,
        max_row_tokens=2048,
        max_position=4096,
        max_dropped_fraction=0.001,
        max_checkpoints_bytes=0.0,
        missing_adapter="",
        free_disk_bytes=10**12,
    ),
    survey=Survey(
        steps=(STEP, replace(STEP, step=8, tokens=5000)),
        problems=(),
        num_dropped=0,
        num_conversations=200,
        num_images=64,
        image_problems=(),
    ),
    tried=(STEP,),
    trial=Trial(
        losses=(2.0, 1.5),
        repeated_loss=1.5,
        step_s=2.0,
        tokens_per_s=3000.0,
        data_wait_fraction=0.01,
        save_s=36.0,
        reload_s=60.0,
        checkpoint_bytes=10**11,
        weight_bytes=10**10,
    ),
    flops_per_token=4e10,
    memory=(
        MemoryPeak(rank=0, used_bytes=60 * 10**9, reserved_bytes=70 * 10**9, total_bytes=80 * 10**9),
        MemoryPeak(rank=1, used_bytes=61 * 10**9, reserved_bytes=70 * 10**9, total_bytes=80 * 10**9),
    ),
    speeds=(RankSpeed(rank=0, host="a", flops=2e14), RankSpeed(rank=1, host="b", flops=2.1e14)),
    exchange=Exchange(num_bytes=2**28, seconds=0.002, bytes_per_s=1.3e11),
    first_batch="row 0, sample 0\n",
)


def texts(found, level):
    return [verdict.text for verdict in judge(found) if verdict.level == level]


def test_a_good_run_has_no_failure_and_no_warning():
    assert texts(GOOD, "failure") == texts(GOOD, "warning") == []
    assert any("saved and resumed from" in text for text in texts(GOOD, "ok"))
    assert any("nothing was found" in text for text in texts(GOOD, "ok"))


def test_hours_are_those_of_mean_steps_and_of_saving():
    # 1000 steps of 6000 tokens at 3000 a second; ten checkpoints and the final weights, 36 s each
    assert GOOD.hours == pytest.approx((1000 * 2 + 11 * 36) / 3600)
    assert GOOD.flops_per_rank == pytest.approx(4e10 * 3000 / 2)


def test_the_disk_holds_kept_checkpoints_one_more_and_the_final_weights():
    assert GOOD.disk_bytes == 3 * 10**11 + 10**10
    limited = replace(GOOD, limits=replace(GOOD.limits, max_checkpoints_bytes=1.5e11))
    assert limited.disk_bytes == 1.5e11 + 10**11 + 10**10
    unlimited = replace(GOOD, limits=replace(GOOD.limits, settings=replace(SETTINGS, save_total_limit=None)))
    assert unlimited.disk_bytes == 11 * 10**11 + 10**10


def changed(**parts):
    """`GOOD` with other values in one of its parts: changed(trial={"losses": ...})."""
    return replace(GOOD, **{name: replace(getattr(GOOD, name), **values) for name, values in parts.items()})


@pytest.mark.parametrize(
    ("found", "level", "message"),
    [
        (changed(trial={"repeated_loss": 1.6}), "failure", "1.5, and 1.6 when a checkpoint is resumed from"),
        (changed(trial={"losses": (2.0, float("nan"))}), "failure", "a loss is no number"),
        (changed(limits={"free_disk_bytes": 3 * 10**11}), "failure", "310.0 GB of disk"),
        (changed(limits={"missing_adapter": "runs/a"}), "failure", "not there yet: runs/a"),
        (changed(survey={"problems": ("step 3: x",) * 5}), "failure", "step 3: x (5 such steps)"),
        (
            changed(survey={"image_problems": ("i: gone",)}),
            "failure",
            "1.6% of the images that",
        ),
        (changed(survey={"num_dropped": 2}), "failure", "1.0% of the conversations"),
        (changed(trial={"data_wait_fraction": 0.3}), "warning", "raise data.num_workers"),
    ],
)
def test_what_would_go_wrong_is_said(found, level, message):
    assert any(message in text for text in texts(found, level)), judge(found)
    assert (level == "failure") != any("nothing was found" in text for text in texts(found, "ok"))


def test_a_few_bad_samples_are_a_warning_where_the_run_allows_them():
    found = changed(survey={"num_dropped": 2}, limits={"max_dropped_fraction": 0.05})
    assert any("1.0% of the conversations" in text for text in texts(found, "warning"))
    assert texts(found, "failure") == []


def test_a_full_device_a_slow_rank_and_short_rows_are_warnings():
    full = replace(GOOD, memory=(replace(GOOD.memory[0], reserved_bytes=79 * 10**9), GOOD.memory[1]))
    assert any("rank 0 takes 79.0 of 80.0 GB" in text for text in texts(full, "warning"))
    slow = replace(GOOD, speeds=(GOOD.speeds[0], replace(GOOD.speeds[1], flops=1e14)))
    assert any("rank 1 on b multiplies at 50%" in text for text in texts(slow, "warning"))
    short = replace(GOOD, tried=(replace(STEP, longest_row=1000),))
    assert any("has 1000 tokens; packing allows 2048" in text for text in texts(short, "warning"))


def test_text_and_json_hold_the_figures():
    verdicts = judge(GOOD)
    text, values = to_text(GOOD, verdicts), to_json(GOOD, verdicts)
    for words in (
        "256 MiB summed over 2 ranks in 2.0 ms: 130.00",
        "rank 1 used most, 61.00 GB",
        "row 0",
    ):
        assert words in text
    assert values["derived"]["hours"] == GOOD.hours
    assert values["trial"]["checkpoint_bytes"] == 10**11
    alone = replace(GOOD, exchange=None)
    assert "one rank, nothing to exchange" in to_text(alone, verdicts)
