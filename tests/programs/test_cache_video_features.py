"""scripts/cache_video_features.py: resumable, atomic, by content; what a run then finds."""

import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch

from locvlm.config import load_config
from locvlm.data.feature_cache import FeatureCache
from locvlm.data.feature_key import content_key
from locvlm.io import read_json
from locvlm.model.locvlm import LocVLM
from locvlm.model.video import VideoPooling, pool_clip
from locvlm.training.arguments import Stage3Config
from locvlm.training.stages.video import prepare_features
from locvlm.training.video_features import (
    Precision,
    feature_settings,
    load_tower_alone,
    make_features,
    pool,
    videos_of,
)

NUM_FRAMES = 4  # of `stage3_of`


@pytest.fixture
def world(video_world, stage3_of, tmp_path):
    """A copy of the clips, and the command line of a run on them: (videos, command)."""
    shutil.copytree(video_world / "videos", tmp_path / "videos")
    command = stage3_of(tmp_path / "run", "--data.video_cache", str(tmp_path / "features"))
    videos = str(video_world / "videos")
    return tmp_path / "videos", [w.replace(f'"{videos}"', f'"{tmp_path / "videos"}"') for w in command]


@pytest.fixture
def make(repo_root):
    """Runs the program in a process of its own."""

    def run(command, *options):
        program = [sys.executable, "scripts/cache_video_features.py", *command, *options]
        subprocess.run(program, cwd=repo_root, check=True, capture_output=True, text=True)

    return run


def job_of(command, monkeypatch, repo_root, **options):
    monkeypatch.chdir(repo_root)
    config = load_config(Stage3Config, command)
    return config, prepare_features(config, device="cpu", **{"workers": 0, "videos_per_file": 2, **options})


@pytest.mark.parametrize("bf16", [False, True])
def test_the_tower_alone_pools_as_the_whole_model_does(world, monkeypatch, repo_root, tiny_world, bf16):
    _, command = world
    config, job = job_of([*command, "--training.bf16", str(bf16).lower()], monkeypatch, repo_root)
    model = LocVLM.from_pretrained(tiny_world.init)
    model.config.locvlm = {**model.config.locvlm, "video": {"num_frames": NUM_FRAMES}}
    assert sum(p.numel() for p in job.model.model.language_model.parameters()) < 200
    frames = torch.randn(NUM_FRAMES, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        assert torch.equal(pool_clip(job.model, frames), pool_clip(model, frames))
    assert model.video == VideoPooling(num_frames=NUM_FRAMES)
    precision = Precision.of(deepspeed=None, bf16=bf16, fp16=False)
    assert feature_settings(model, config.model, precision) == job.settings


def test_another_tower_or_precision_is_another_setting_and_saving_it_anew_is_not(
    world, monkeypatch, repo_root, tiny_world, tmp_path
):
    _, command = world
    _, job = job_of(command, monkeypatch, repo_root)
    model = LocVLM.from_pretrained(tiny_world.init)
    model.save_pretrained(tmp_path / "same")
    with torch.no_grad():
        model.model.vision_tower.encoder.layers[0].mlp.fc1.bias[0] += 1e-3
    model.save_pretrained(tmp_path / "moved")
    digests = {}
    for name in ("same", "moved"):
        _, other = job_of([*command, "--model.checkpoint", str(tmp_path / name)], monkeypatch, repo_root)
        digests[name] = other.settings.digest
    assert digests["same"] == job.settings.digest != digests["moved"]
    _, tree = job_of([*command, "--model.attn_implementation", "tree"], monkeypatch, repo_root)
    assert tree.settings == job.settings  # in the tower it is sdpa
    _, bf16 = job_of([*command, "--training.bf16", "true"], monkeypatch, repo_root)
    assert list(job.settings.differences(asdict(replace(bf16.settings, image_mean=[], image_std=[]))))[
        :1
    ] == ["autocast is bfloat16 there,  here"]


def test_what_changed_alone_is_made_again(world, make, monkeypatch, repo_root, tmp_path):
    videos, command = world
    make(command, "--videos-per-file", "1", "--workers", "1")
    config, job = job_of(command, monkeypatch, repo_root)
    folder = tmp_path / "features" / job.settings.digest
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert len(before) == 6
    assert read_json(folder / "videos-0-of-1.json")["kept"] == 6

    made = []
    monkeypatch.setattr("locvlm.training.video_features.pool", lambda *a: made.append(a[1]) or pool(*a))
    paths = videos_of(config.data.sources)
    assert len(paths) == 6  # each once, though two sources name them
    make_features(job, paths, tmp_path / "features")
    assert made == []
    shutil.copy(videos / "v_5.mp4", videos / "v_0.mp4")  # the same content as another: nothing to make
    content = (videos / "v_1.mp4").read_bytes()
    (videos / "v_2.mp4").write_bytes(content + b"\0" * 8)  # what follows the last box is ignored
    (videos / "v_3.mp4").write_bytes(content[: len(content) // 2])
    ledger = make_features(job, paths, tmp_path / "features")
    assert len(made) == 1
    assert ledger.dropped == {"unreadable video": 1}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    cache = FeatureCache(tmp_path / "features", job.settings)
    assert (len(cache), content_key(videos / "v_2.mp4") in cache) == (7, True)


def test_a_killed_build_goes_on_and_a_torn_file_is_made_again(world, make, monkeypatch, repo_root, tmp_path):
    _, command = world
    config, job = job_of(command, monkeypatch, repo_root)
    folder = tmp_path / "features" / job.settings.digest
    program = [sys.executable, "scripts/cache_video_features.py", *command, "--videos-per-file", "1"]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([*program, "--workers", "0"], cwd=repo_root, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while not list(folder.glob("*.safetensors")):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.001)
        process.kill()
        process.wait()
    first = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    torn = folder / min(first)
    torn.write_bytes(first[torn.name][:-5])
    make_features(job, videos_of(config.data.sources), tmp_path / "features")
    cache = FeatureCache(tmp_path / "features", job.settings)
    assert (len(cache), cache.damaged) == (6, [])
    assert all(cache.read(key) is not None for key in cache._places)


def test_without_a_folder_it_says_so(stage3_of, repo_root, tmp_path):
    program = [sys.executable, "scripts/cache_video_features.py", *stage3_of(tmp_path / "run")]
    done = subprocess.run(program, cwd=repo_root, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "data.video_cache is not set" in done.stderr


def test_a_tower_that_does_not_fit_is_refused(tiny_world, tmp_path, repo_root):
    folder = shutil.copytree(tiny_world.init, tmp_path / "model")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"patch_size": 14', '"patch_size": 28'))
    config = load_config(
        Stage3Config,
        ["--config", str(repo_root / "train/configs/tiny.yaml"), "--model.checkpoint", str(folder)],
    ).model
    with pytest.raises(ValueError, match="has shape"):
        load_tower_alone(config, torch.float32)
