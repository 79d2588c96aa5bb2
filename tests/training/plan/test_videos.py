"""What videos cost, kept and live."""

import pytest

from locvlm.config import load_config
from locvlm.model.variants import variant
from locvlm.training.arguments import Stage3Config
from locvlm.training.plan.data import ASSUMED, size_of_data
from locvlm.training.plan.machines import GPUS, Machine
from locvlm.training.plan.planner import make_plan
from locvlm.training.plan.report import to_json, to_text
from locvlm.training.plan.run import describe_run
from locvlm.training.plan.verdicts import verdicts

MACHINE = Machine(gpu=GPUS["a100-80g"], gpus=8)


@pytest.fixture
def plan_of(repo_root, monkeypatch):
    """plan_of(overrides..., num_videos=..., decode_s=...): (plan, verdicts) of LocVLM-Vid-B."""
    monkeypatch.chdir(repo_root)

    def build(*overrides, num_videos=13_303, decode_s=None):
        config = load_config(Stage3Config, ["--config", "train/configs/locvlm_vid_b.yaml", *overrides])
        lengths = ASSUMED["stage3"]
        data = size_of_data(config.data, lengths=lengths, num_samples=100_010, num_videos=num_videos)
        run = describe_run(config, MACHINE, stage="stage3", model=variant("b"), data=data)
        plan = make_plan(run, decode_s=decode_s)
        return plan, verdicts(plan, config)

    return build


def test_kept_features_take_their_tokens_times_the_towers_width(plan_of):
    plan, _ = plan_of()
    assert plan.videos.bytes_each == (100 + 256) * 1024 * 2
    assert plan.videos.cache_bytes == 13_303 * 356 * 2048
    assert (plan.videos.is_kept, plan.videos.cores_needed) == (True, 0)
    assert plan.flops["forward"]["tower"] == 0


def test_live_videos_need_cores_that_decode_at_the_pace_of_steps(plan_of):
    plan, found = plan_of("--data.video_cache", "null", decode_s=2.0)
    assert plan.videos.cores_needed == pytest.approx(32 * 2.0 / plan.cost.compute_s)
    assert any("steps wait for videos" in v.text for v in found if v.level == "warning")
    _, fast = plan_of("--data.video_cache", "null", decode_s=0.1)
    assert not any("steps wait for videos" in v.text for v in fast)


def test_making_the_features_is_one_pass_of_the_tower_over_all_videos(plan_of):
    live, _ = plan_of("--data.video_cache", "null")
    kept, _ = plan_of()
    step = live.flops["forward"]["tower"]  # of 32 videos
    seconds = step / 32 * 13_303 / (312e12 * 0.45)
    assert kept.videos.gpu_hours == pytest.approx(seconds / 3600)
    assert kept.videos.core_hours == pytest.approx(13_303 * kept.videos.decode_s / 3600)


def test_without_a_number_of_videos_one_is_assumed_and_said_to_be(plan_of):
    plan, found = plan_of(num_videos=None)
    assert plan.videos.videos == pytest.approx(100_010 / 7.5)
    assert "(assumed: 7.5 conversations about each)" in to_text(plan, found)
    assert to_json(plan, found)["videos"]["decode_s"] == plan.videos.decode_s
    with pytest.raises(ValueError, match="--videos must be at least 1"):
        plan_of(num_videos=0)


def test_a_frame_count_of_vid_b_plus_makes_small_features(plan_of):
    plan, _ = plan_of("--video.num_frames", "8")
    assert plan.videos.bytes_each == 264 * 2048
