"""eval/run.py on whole videos: records of clips to scores, by a checkpoint that sees them, and its export."""

import json
import runpy

import numpy as np
import pytest

from locvlm.export.hf import export_hf
from locvlm.geometry import Box
from locvlm.io import write_records
from locvlm.records import Query, Record

NUM_CLIPS = 3


@pytest.fixture
def evaluate(monkeypatch, repo_root):
    """evaluate(**options): eval/run.py with these, in this process."""

    def run(**options):
        words = [
            str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)
        ]
        monkeypatch.setattr("sys.argv", ["run.py", *words])
        runpy.run_path(str(repo_root / "eval" / "run.py"), run_name="__main__")

    return run


@pytest.fixture
def clips(tmp_path, write_clip):
    """clips/ with three videos of 96 x 64 pixels, and records that ask where something is in each."""
    (tmp_path / "clips").mkdir()
    rng = np.random.default_rng(0)
    records = []
    for k in range(NUM_CLIPS):
        noise = [rng.integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(6)]
        write_clip(tmp_path / "clips" / f"{k}.mp4", noise)
        query = Query(
            objective="locpred", phrase="red square", category="red square", box_px=Box(8, 8, 40, 40)
        )
        records.append(
            Record(id=f"v{k}", image=None, video=f"{k}.mp4", width=96, height=64, queries=(query, query))
        )
    write_records(tmp_path / "clips.jsonl", records)
    return tmp_path


def test_clips_are_asked_about_and_scored_and_an_export_answers_alike(evaluate, stage3, clips):
    export_hf(stage3, clips / "export")
    told = {"tasks": "video_locpred", "records": clips / "clips.jsonl", "image_root": clips / "clips"}
    for model in ("stage3", "export"):
        evaluate(model=clips / model, output_dir=clips / f"{model}_eval", **told)
    scores = json.loads((clips / "stage3_eval" / "scores.json").read_text())
    assert scores
    answers = [
        [
            json.loads(line)
            for line in (folder / "predictions" / "video_locpred.jsonl").read_text().splitlines()
        ]
        for folder in (clips / "stage3_eval", clips / "export_eval")
    ]
    said = [[(line["id"], line["answer"]) for line in lines if "answer" in line] for lines in answers]
    assert len(said[0]) == 2 * NUM_CLIPS
    assert said[0] == said[1]


def test_a_checkpoint_of_images_is_not_asked_about_clips(evaluate, tiny_world, clips):
    told = {"tasks": "video_locpred", "records": clips / "clips.jsonl", "image_root": clips / "clips"}
    with pytest.raises(ValueError, match=r"task video_locpred shows whole videos: .*`shows: frame`"):
        evaluate(model=tiny_world.init, output_dir=clips / "eval", **told)
    assert not (clips / "eval").exists()
    told["tasks"] = "video_locpred_frame"
    evaluate(model=tiny_world.init, output_dir=clips / "eval", **told)
    assert (clips / "eval" / "scores.json").is_file()
