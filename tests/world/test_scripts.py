import json
import subprocess
import sys

import pytest

from locvlm.io import read_records
from locvlm.world import backbones


def run(repo_root, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=repo_root,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_make_world_writes_scenes_and_backbones(repo_root, tmp_path):
    arguments = ["scripts/make_world.py", "--out", tmp_path, "--train", 3, "--val", 2, "--workers", 1]
    done = run(repo_root, *arguments)
    assert done.returncode == 0, done.stderr
    for split, count in (("train", 3), ("val", 2)):
        assert len(list((tmp_path / "images" / split).glob("*.jpg"))) == count
        for kind in ("instances", "captions"):
            assert (
                len(json.loads((tmp_path / "annotations" / f"{kind}_{split}.json").read_text())["images"])
                == count
            )
    for part in ("tokenizer/tokenizer.model", "clip/open_clip_model.safetensors", "llm/config.json"):
        assert (tmp_path / part).exists()
    assert "stood already" in run(repo_root, *arguments).stderr


def test_make_world_writes_clips_from_which_the_builder_asks_about_what_rests(repo_root, tmp_path):
    world, out = tmp_path / "world", tmp_path / "localize.jsonl"
    arguments = ["scripts/make_world.py", "--out", world, "--only", "clips", "--workers", 1]
    refused = run(repo_root, *arguments)
    assert refused.returncode != 0
    assert "say how many" in refused.stderr
    arguments += ["--train-clips", 6, "--val-clips", 2]
    done = run(repo_root, *arguments)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in world.iterdir()) == ["annotations", "videos"]
    assert len(list((world / "videos" / "val").glob("*.mp4"))) == 2
    assert run(repo_root, *arguments).stderr.count("stood already") == 2

    panoptic = world / "annotations" / "panoptic_clips_train.json"
    source = ["--videos", world / "videos" / "train", "--panoptic", panoptic, "--out", out]
    done = run(repo_root, "data_builders/localize_activitynet.py", *source)
    assert done.returncode == 0, done.stderr
    acts = {r.video: r.source["acts"] for r in read_records(panoptic.with_name("qa_clips_train.jsonl"))}
    assert len(acts) == 6
    for record in read_records(out):
        asked = {query.objective: set() for query in record.queries}
        for query in record.queries:
            asked[query.objective].add(query.category)
        assert asked["locpred"] == asked["revloc"]
        assert {acts[record.video][name] for name in asked["locpred"]} <= {"rests", "appears"}
        assert not asked["negpred"] & set(acts[record.video])


@pytest.mark.slow
def test_the_backbones_are_pretrained_by_their_program(repo_root, tmp_path):
    few = {
        "documents": 400,
        "scenes": 40,
        "clip-steps": 4,
        "clip-batch": 4,
        "llm-steps": 2,
        "llm-batch": 2,
        "probe-scenes": 10,
        "probe-lookups": 1,
        "workers": 1,
        "parts": "tokenizer,clip,patches,llm,llm_more,probe",
        "patch-steps": 2,
    }
    options = [part for name, value in few.items() for part in (f"--{name}", value)]
    done = run(repo_root, "scripts/pretrain_world_backbones.py", "--out", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    shipped = backbones.load_weights(backbones.WEIGHTS / backbones.CLIP_FILE)
    made = backbones.load_weights(tmp_path / backbones.CLIP_FILE)
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in shipped.items()}
    assert (tmp_path / backbones.LLM_FILE).exists()
    assert "finds one thing of 4 in a grid: 0.000" in done.stdout
