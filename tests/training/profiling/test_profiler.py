import gzip
import json

import pytest
import torch

from locvlm.io import read_json
from locvlm.training.arguments import ProfileConfig
from locvlm.training.profiling.observe import observe
from locvlm.training.profiling.timeline import PARTS
from locvlm.training.stages.run import train

SIX_STEPS = ("--training.max_steps", "6")


def weights_after(trainer, run):
    train(trainer, run)
    return [parameter.detach().clone() for parameter in trainer.core.parameters()]


def test_a_profiled_run_leaves_parts_and_a_trace_and_computes_the_same(build):
    plain = weights_after(*build(*SIX_STEPS, run="plain"))
    trainer, run = build(*SIX_STEPS, run="profiled")
    observe(trainer, ProfileConfig(steps=2, after=1), run=run.path)
    profiled = weights_after(trainer, run)

    assert all(map(torch.equal, plain, profiled))
    parts = read_json(run.path / "profile" / "parts.json")
    assert parts["steps"] == 2
    assert set(parts["seconds_per_step"]) == set(PARTS)
    computed = ("tower, adapter", "language model", "head, loss", "backward", "optimizer")
    assert all(parts["seconds_per_step"][part] > 0 for part in computed)
    assert "language model" in (run.path / "profile" / "parts.txt").read_text()
    trace = json.loads(gzip.decompress((run.path / "profile" / "trace.json.gz").read_bytes()))
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert {"ProfilerStep#1", "ProfilerStep#2"} <= set(names)
    assert any("scaled_dot_product" in name for name in names)


def test_nothing_is_left_on_the_model_after_the_profile(build):
    trainer, run = build(*SIX_STEPS)
    observe(trainer, ProfileConfig(steps=2, after=1), run=run.path)
    train(trainer, run)
    assert "get_image_features" not in vars(trainer.core)
    assert not trainer.core._forward_hooks
    assert not trainer.core.model.language_model._forward_pre_hooks
    assert "backward" not in vars(trainer.accelerator)


def test_a_run_that_is_too_short_to_be_profiled_says_so(build):
    trainer, run = build(*SIX_STEPS)
    with pytest.raises(ValueError, match=r"profile\.steps 3 after 5 takes 12 steps, the run has 6"):
        observe(trainer, ProfileConfig(steps=3, after=5), run=run.path)


def test_a_run_that_goes_on_near_its_end_does_without(build, caplog):
    trainer, run = build(*SIX_STEPS)  # saves at step 5
    train(trainer, run)
    trainer, run = build(*SIX_STEPS)
    observe(trainer, ProfileConfig(steps=2, after=1), run=run.path)
    train(trainer, run)
    assert "no profile: " in caplog.text
    assert not (run.path / "profile").exists()


def test_the_log_counts_operations_and_holds_them_against_a_stated_peak(build, rows_of):
    trainer, run = build("--training.max_steps", "2")
    observe(trainer, ProfileConfig(peak_tflops=0.5), run=run.path)
    train(trainer, run)
    rows = rows_of(run.path)
    assert len(rows) == 2
    for row in rows:
        assert row["tflops_per_s"] > 0
        assert row["mfu"] == pytest.approx(row["tflops_per_s"] / 0.5)
        assert {"tokens_per_s", "data_wait_s", "step_s"} <= row.keys()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may have a known peak")
def test_a_cpu_has_no_peak_and_no_mfu(build, rows_of):
    trainer, run = build("--training.max_steps", "1")
    observe(trainer, ProfileConfig(), run=run.path)
    train(trainer, run)
    (row,) = rows_of(run.path)
    assert row["tflops_per_s"] > 0
    assert "mfu" not in row


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps >= 0, after >= 1"):
        ProfileConfig(after=0)
