"""A scripted answerer, records with images on disk, and judged answers written by hand."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.evals.metrics import Judged
from locvlm.evals.parse import Reading
from locvlm.evals.store import PredictionMeta
from locvlm.evals.task import Task, TaskData, load_tasks
from locvlm.geometry import Box
from locvlm.io import write_records
from locvlm.records import Prediction, Query, Record

CONTRACT = CoordinateContract(canvas=112, patch=14)
WIDTH, HEIGHT = 200, 100


@pytest.fixture
def contract() -> CoordinateContract:
    return CONTRACT


@pytest.fixture
def judged() -> Callable[..., Judged]:
    """judged(reading, box_px=..., phrase=...): an answer that was read so, about a 200 x 100 image."""

    def make(reading: Reading, *, failed: str = "", **gold: object) -> Judged:
        known = {
            "objective": "locpred",
            "phrase": "mug",
            "category": "mug",
            "answer": "",
            "box_px": [0, 0, 40, 40],
            "width": WIDTH,
            "height": HEIGHT,
            "overlap_fraction": 0.0,
        }
        prediction = Prediction(
            id="r/0",
            record_id="r",
            image="0.png",
            question="Where?",
            answer="",
            gold={**known, **gold},
            failed=failed,
        )
        return Judged(prediction=prediction, reading=reading)

    return make


@pytest.fixture
def tasks(repo_root) -> dict[str, Task]:
    return {task.name: task for task in load_tasks(repo_root / "eval" / "tasks", ("*",))}


@pytest.fixture
def locpred_task() -> Task:
    return Task(
        name="locpred",
        version=1,
        data=TaskData(file="val.jsonl", objective="locpred"),
        parse="location",
        metrics=("acc50", "miou", "absent_fraction", "unreadable_fraction"),
        breakdowns=("size",),
    )


@pytest.fixture
def meta() -> PredictionMeta:
    return PredictionMeta(
        task="locpred",
        version=1,
        images="real",
        checkpoint="runs/x",
        fingerprint="f",
        contract=CONTRACT.to_dict(),
        records="val.jsonl",
        records_sha256="s",
        image_root="images",
        decoding="greedy",
        seed=0,
        num_questions=2,
    )


class ScriptedAnswerer:
    """Answers every question by `script(question, pixels)` and notes what it was shown, batch by batch."""

    def __init__(self, script: Callable[[str, np.ndarray | None], str]) -> None:
        self.contract = CONTRACT
        self.model = SimpleNamespace()
        self.script = script
        self.batches: list[list[int]] = []  # questions per image
        self.shown: list[float] = []  # mean pixel of every image shown

    def pixels(self, image: Image.Image) -> np.ndarray:
        return np.full((3, 112, 112), np.asarray(image).mean(), dtype=np.float32)

    def blank_pixels(self) -> np.ndarray:
        return np.zeros((3, 112, 112), dtype=np.float32)

    def answer(self, asked, *, max_new_tokens, temperature, seed):
        self.batches.append([len(item.questions) for item in asked])
        self.shown += [float(item.pixels.mean()) for item in asked if item.pixels is not None]
        return [[self.script(question, item.pixels) for question in item.questions] for item in asked]


@pytest.fixture
def scripted() -> Callable[..., ScriptedAnswerer]:
    return ScriptedAnswerer


@pytest.fixture
def val(tmp_path) -> SimpleNamespace:
    """Three records about images of gray 10, 20 and 30: two questions for a mug each, one absent, one
    description.
    """
    (tmp_path / "images").mkdir()
    records = []
    for i in range(3):
        Image.new("RGB", (WIDTH, HEIGHT), (10 * (i + 1),) * 3).save(tmp_path / "images" / f"{i}.png")
        box = Box(20, 10, 60, 50)
        queries = (
            Query(objective="locpred", phrase="mug", category="mug", box_px=box),
            Query(objective="negpred", phrase="kite", category="kite"),
            Query(objective="locpred", phrase="bus", category="bus", box_px=Box(40, 10, 80, 50)),
            Query(objective="revloc", phrase="mug", category="mug", box_px=box),
        )
        records.append(Record(id=f"r{i}", image=f"{i}.png", width=WIDTH, height=HEIGHT, queries=queries))
    write_records(tmp_path / "val.jsonl", records)
    return SimpleNamespace(path=tmp_path / "val.jsonl", images=tmp_path / "images", records=records)
