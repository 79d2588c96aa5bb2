"""Stage 3 on a tiny world with clips: both kinds of it, videos beside images, resume, kept features."""

import signal
import subprocess
import sys
import time

import pytest
import torch

from locvlm.io import read_json, read_jsonl
from locvlm.model.locvlm import LocVLM

NUM_FRAMES = 4  # of `stage3_of`
STEPS = ("--training.max_steps", "12")
BOTH = ("--trains", "adapter_and_llm")


def moved(before, after):
    """Which parts of the model differ."""
    parts = ("vision_tower", "multi_modal_projector", "language_model", "lm_head")
    return {
        part
        for (name, a), b in zip(after.named_parameters(), before.parameters(), strict=True)
        for part in parts
        if part in name and not torch.equal(a, b)
    }


@pytest.mark.parametrize(
    ("overrides", "trained"),
    [((), {"multi_modal_projector"}), (BOTH, {"multi_modal_projector", "language_model", "lm_head"})],
    ids=["vid_b", "vid_b_plus"],
)
def test_what_is_to_train_learns_and_the_final_folder_knows_how_it_sees_videos(
    overrides, trained, stage3_of, run_stage, rows_of, tiny_world, tmp_path
):
    run = tmp_path / "run"
    run_stage(3, stage3_of(run, *STEPS, *overrides))
    losses = [row["loss"] for row in rows_of(run)]
    assert sum(losses[-4:]) < sum(losses[:4])
    model = LocVLM.from_pretrained(run / "final")
    start = LocVLM.from_pretrained(tiny_world.init)
    assert moved(start, model) == trained
    assert model.contract == start.contract
    assert model.video is not None
    assert (model.spec.num_frames, model.spec.num_video_tokens) == (NUM_FRAMES, NUM_FRAMES + 16)
    is_whole = (run / "checkpoint-10" / "model.safetensors").exists()
    assert is_whole == bool(overrides)  # the adapter alone, where nothing else trains
    assert f"<image> x {NUM_FRAMES + 16}" in (run / "first_batch.txt").read_text()
    assert read_json(run / "dropped.json")["by_rank"][0]["dropped"] == 0


def test_a_killed_run_goes_on_to_the_same_weights(
    stage3_of, run_stage, rows_of, weights_of, tmp_path, repo_root
):
    whole, run = tmp_path / "whole", tmp_path / "run"
    run_stage(3, stage3_of(whole, *STEPS, *BOTH))
    command = [sys.executable, "train/stage3.py", *stage3_of(run, *STEPS, *BOTH)]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, cwd=repo_root, stdout=log, stderr=log)
        until = time.monotonic() + 120
        while not (run / "checkpoint-5").is_dir():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (run / "final").exists()

    subprocess.run(command, cwd=repo_root, check=True, capture_output=True)

    assert [row["loss"] for row in rows_of(run)] == [row["loss"] for row in rows_of(whole)]
    first, second = weights_of(whole / "final"), weights_of(run / "final")
    assert max(float((first[name] - second[name]).abs().max()) for name in first) == 0.0


def test_kept_features_give_the_same_run_to_the_bit(
    stage3_of, run_stage, rows_of, weights_of, tmp_path, repo_root, monkeypatch
):
    live, kept = tmp_path / "live", tmp_path / "kept"
    run_stage(3, stage3_of(live, *STEPS, "--training.bf16", "true"))
    refusing = (*STEPS, "--training.bf16", "true", "--data.video_cache", str(tmp_path / "features"))
    refusing += ("--data.video_cache_missing", "refuse")
    with pytest.raises(ValueError, match=r"no features that this run could use.*no features at all"):
        run_stage(3, stage3_of(tmp_path / "none", *refusing))
    make = [sys.executable, "scripts/cache_video_features.py", *stage3_of(kept, *refusing)]
    for shard in ("0/2", "1/2"):
        subprocess.run([*make, "--shard", shard, "--workers", "0"], cwd=repo_root, check=True)

    run_stage(3, stage3_of(kept, *refusing))

    assert [row["loss"] for row in rows_of(kept)] == [row["loss"] for row in rows_of(live)]
    first, second = weights_of(live / "final"), weights_of(kept / "final")
    assert max(float((first[name] - second[name]).abs().max()) for name in first) == 0.0
    other = stage3_of(tmp_path / "other", *refusing, "--video.num_frames", "5")
    with pytest.raises(ValueError, match="num_frames is 4 there, 5 here"):
        run_stage(3, other)


def test_a_checkpoint_that_was_trained_otherwise_is_refused(stage3_of, run_stage, tmp_path):
    run_stage(3, stage3_of(tmp_path / "run", "--training.max_steps", "1"))
    after = ("--training.max_steps", "1", "--model.checkpoint", str(tmp_path / "run" / "final"))
    with pytest.raises(ValueError, match=r"trained to see videos otherwise.*num_frames=4.*num_frames=8"):
        run_stage(3, stage3_of(tmp_path / "other", *after, "--video.num_frames", "8"))
    with pytest.raises(ValueError, match="trained with other coordinates"):
        run_stage(3, stage3_of(tmp_path / "third", *after, "--coords.codec", "nfp"))


def test_how_many_frames_there_are_has_to_be_said_once(stage3_of, run_stage, tmp_path):
    arguments = stage3_of(tmp_path / "run")
    place = arguments.index("--video.num_frames")
    with pytest.raises(ValueError, match=r"by how many frames it sees a video.*set video.num_frames"):
        run_stage(3, arguments[:place] + arguments[place + 2 :])


def test_a_video_that_cannot_be_read_is_quarantined(stage3_of, video_world, run_stage, tmp_path):
    whole = (video_world / "videos" / "v_0.mp4").read_bytes()
    path = video_world / "videos" / "v_0.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    try:
        run_stage(3, stage3_of(tmp_path / "run", *STEPS, "--data.max_dropped_fraction", "0.5"))
    finally:
        path.write_bytes(whole)
    rows = [row for _, row in read_jsonl(tmp_path / "run" / "quarantine-rank0.jsonl")]
    assert {row["id"] for row in rows} == {"v0", "v_0"}  # of the records, of the questions
    assert {row["reason"] for row in rows} == {"unreadable video"}


def test_stages_1_and_2_are_not_given_videos(stage3_of, run_stage, tmp_path):
    arguments = [
        word for word in stage3_of(tmp_path / "run") if word not in ("--video.num_frames", str(NUM_FRAMES))
    ]
    for stage in (1, 2):
        with pytest.raises(ValueError, match="video_root of a source are for stage 3"):
            run_stage(stage, arguments)


def test_keys_of_another_stage_say_whose_they_are(tiny_world, run_stage, stage3_of, tmp_path):
    for key, value in (("--trains", "adapter"), ("--video.num_frames", "8")):
        with pytest.raises(ValueError, match=r"unknown key '(trains|video)': it is one of train/stage3\.py"):
            run_stage(2, tiny_world.stage(2, tmp_path / "run", key, value))
    with pytest.raises(ValueError, match=r"unknown key 'video': it is one of train/stage3\.py"):
        run_stage(1, tiny_world.stage(1, tmp_path / "run", "--video.num_frames", "8"))
    with pytest.raises(ValueError, match="lora is set, but trains is adapter"):
        run_stage(3, stage3_of(tmp_path / "run", "--lora.rank", "4"))
    with pytest.raises(ValueError, match=r"data\.video_cache names no folder"):
        run_stage(3, stage3_of(tmp_path / "run", "--data.video_cache_missing", "refuse"))


@pytest.mark.parametrize("overrides", [(), BOTH], ids=["vid_b", "vid_b_plus"])
def test_an_evaluation_during_training_asks_about_clips_and_keeps_the_best_whole(
    overrides, stage3_of, video_world, run_stage, rows_of, tmp_path
):
    (tmp_path / "localize_clips_val.jsonl").write_bytes((video_world / "videos.jsonl").read_bytes())
    asked = {
        "tasks": "[video_locpred, video_revloc]",
        "every_steps": 1,
        "num_questions": 3,
        "keep_best_on": "video_locpred_miou",
        "data_root": tmp_path,
        "image_root": video_world / "videos",
    }
    options = [text for name, value in asked.items() for text in (f"--evaluation.{name}", str(value))]
    plain, run = tmp_path / "plain", tmp_path / "run"
    run_stage(3, stage3_of(plain, "--training.max_steps", "2", *overrides))
    run_stage(3, stage3_of(run, "--training.max_steps", "2", *overrides, *options))
    rows = [row for _, row in read_jsonl(run / "metrics.jsonl") if "eval/video_locpred_miou" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert all("eval/video_revloc_exact_name" in row for row in rows)
    assert [row["loss"] for row in rows_of(run)] == [row["loss"] for row in rows_of(plain)]
    best = LocVLM.from_pretrained(run / "best")  # whole, and it knows how it sees videos
    assert best.spec.num_frames == NUM_FRAMES
    (tmp_path / "localize_clips_val.jsonl").write_text(
        (video_world / "videos.jsonl").read_text().replace("v_0.mp4", "v_none.mp4")
    )
    with pytest.raises(ValueError, match=r"no video 'v_none\.mp4' in .*give the folder of the videos"):
        run_stage(3, stage3_of(tmp_path / "none", "--training.max_steps", "2", *overrides, *options))
