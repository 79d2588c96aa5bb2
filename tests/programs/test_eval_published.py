"""eval/run.py on files as their authors publish them, with the tiny world's untrained checkpoint."""

import runpy
from pathlib import Path

import pytest
from PIL import Image

from locvlm.evals.readers import READERS
from locvlm.io import read_json, read_jsonl

TASKS = {  # name -> (file below shared/data, where the task looks for it)
    "pope_random": {"pope/coco_pope_random.json": "pope/coco_pope_random.json"},
    "gqa": {"vqa_gqa/gqa_questions_a.json": "gqa/testdev_balanced_questions.json"},
    "vqav2_val": {
        "vqa_gqa/vqav2_questions.json": "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
        "vqa_gqa/vqav2_annotations.json": "vqav2/v2_mscoco_val2014_annotations.json",
    },
    "whatsup_b_captions": {"whatsup/controlled_clevr_dataset.json": "whatsup/controlled_clevr_dataset.json"},
}
IMAGES = {
    "gqa/images/n578564.jpg": "vqa_gqa/n578564.jpg",
    "coco/val2014/COCO_train2014_000000458752.jpg": "vqa_gqa/COCO_train2014_000000458752.jpg",
}


@pytest.fixture
def root(tmp_path, shared_data):
    """A data root as the tasks expect it; where there is no real image, a plain one is put."""
    root = tmp_path / "data"
    for files in TASKS.values():
        for published, expected in files.items():
            (root / expected).parent.mkdir(parents=True, exist_ok=True)
            (root / expected).write_bytes((shared_data / published).read_bytes())
    for expected, real in IMAGES.items():
        (root / expected).parent.mkdir(parents=True, exist_ok=True)
        (root / expected).write_bytes((shared_data / real).read_bytes())
    pope = READERS["pope"](root / "pope/coco_pope_random.json")
    whatsup = READERS["whatsup"](root / "whatsup/controlled_clevr_dataset.json")
    for folder, records in (("coco/val2014", pope), ("whatsup", whatsup)):
        for record in records:
            (root / folder / record.image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (60, 40), (90, 120, 60)).save(root / folder / record.image)
    return root


@pytest.fixture
def evaluate(tmp_path, tiny_world, repo_root, monkeypatch):
    """evaluate(root, tasks): the scores."""

    def run(root, tasks) -> dict:
        options = {
            "--model": tiny_world.init,
            "--tasks": ",".join(tasks),
            "--data-root": root,
            "--output-dir": tmp_path / "out",
        }
        monkeypatch.setattr(
            "sys.argv", ["eval/run.py", *[str(part) for pair in options.items() for part in pair]]
        )
        runpy.run_path(str(repo_root / "eval/run.py"), run_name="__main__")
        return read_json(tmp_path / "out" / "scores.json")["tasks"]

    return run


def test_published_files_are_asked_and_scored(root, evaluate, tmp_path):
    scores = evaluate(root, TASKS)
    asked = {name: (result["asked"], result["answered"]) for name, result in scores.items()}
    assert asked == {
        "pope_random": (120, 120),
        "gqa": (1, 1),
        "vqav2_val": (3, 3),
        "whatsup_b_captions": (80, 80),
    }
    pope = scores["pope_random"]
    assert sum(group["asked"] for group in pope["breakdowns"]["answer"].values()) == 120
    assert pope["scores"]["assumed_fraction"] > 0.5  # an untrained model says neither yes nor no
    assert set(scores["vqav2_val"]["scores"]) >= {"vqa_accuracy", "vqa_accuracy_normalised"}
    captions = scores["whatsup_b_captions"]
    assert captions["unreadable"] == 0
    assert captions["decoding"] == "the likeliest option, per token"
    assert "no set of 4 questions" in captions["unavailable"]["set_accuracy"]  # the sample is an excerpt
    for _, row in read_jsonl(tmp_path / "out" / "predictions" / "whatsup_b_captions.jsonl"):
        assert row["answer"] == max(row["option_nats"], key=row["option_nats"].get)
        assert set(row["option_nats"]) == set(row["gold"]["source"]["options"])
    questions = [row["question"] for _, row in read_jsonl(tmp_path / "out/predictions/vqav2_val.jsonl")]
    assert all(text.endswith("\nAnswer the question using a single word or phrase.") for text in questions)


def test_a_missing_file_stops_the_run_and_says_where_to_get_it(root, evaluate):
    Path(root / "vqav2/v2_mscoco_val2014_annotations.json").unlink()
    with pytest.raises(ValueError, match=r"v2_mscoco_val2014_annotations\.json; get it: https://visualqa"):
        evaluate(root, ["vqav2_val"])
