"""A scripted answerer, records with images on disk, and judged answers written by hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.evals.asking.ask import AskOptions, ask
from locvlm.evals.asking.questions import read_questions
from locvlm.evals.asking.store import PredictionMeta
from locvlm.evals.judged import Judged
from locvlm.evals.parse import Reading
from locvlm.evals.reports.answers import Answers, Run
from locvlm.evals.task import Task, TaskData, load_tasks
from locvlm.geometry import Box
from locvlm.io import write_json, write_records
from locvlm.objectives.render import render_query
from locvlm.records import Prediction, Query, Record

CONTRACT = CoordinateContract(canvas=112, patch=14)
WIDTH, HEIGHT = 200, 100


@pytest.fixture
def contract() -> CoordinateContract:
    return CONTRACT


@pytest.fixture
def judged() -> Callable[..., Judged]:
    """judged(reading, box_px=..., phrase=...): an answer that was read so, about a 200 x 100 image."""

    def make(
        reading: Reading,
        *,
        failed: str = "",
        record: str = "r",
        index: int = 0,
        image: str | None = "0.png",
        question: str = "Where?",
        said: str = "",
        **gold: object,
    ) -> Judged:
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
            id=f"{record}/{index}",
            record_id=record,
            image=image,
            question=question,
            answer=said,
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


@pytest.fixture
def answers(meta) -> Callable[..., Answers]:
    """answers(task, rows, checkpoint=...): what a run holds of a task."""

    def make(task: Task, rows: list[Judged], **facts: object) -> Answers:
        known = {"task": task.name, "version": task.version, "num_questions": len(rows)}
        return Answers(task=task, meta=replace(meta, **{**known, **facts}), rows=rows)

    return make


@pytest.fixture
def answered(answers, tasks) -> Callable[..., Run]:
    """answered("A", pope_random=rows, ...): a run that answered so."""

    def make(name: str, **rows_of: list[Judged]) -> Run:
        found = {task: answers(tasks[task], rows) for task, rows in rows_of.items()}
        return Run(name=name, folder=Path("runs") / name, answers=found)

    return make


class Page(HTMLParser):
    """Checks that every tag is closed, and collects tags with their attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "hr", "input", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of_class(self, name: str) -> list[str]:
        return [tag for tag, attrs in self.tags if name in (attrs.get("class") or "").split()]


@pytest.fixture
def read_page() -> Callable[[str], Page]:
    """read_page(html): the page, taken apart."""
    return Page


class ScriptedAnswerer:
    """Answers every question by `script(question, image)` and notes what it was shown, batch by batch."""

    def __init__(self, script: Callable[[str, Image.Image | None], str]) -> None:
        self.contract = CONTRACT
        self.model = SimpleNamespace()
        self.script = script
        self.batches: list[list[int]] = []  # questions per image
        self.shown: list[float] = []  # mean value of every image shown

    def question(self, query, *, location_text, rng):
        representation = self.contract.representation
        return render_query(
            query, rng=rng, location_text=location_text, representation=representation
        ).question

    def answer(self, asked, decoding):
        self.batches.append([len(item.questions) for item in asked])
        self.shown += [float(np.asarray(item.image).mean()) for item in asked if item.image is not None]
        return [[self.script(question, item.image) for question in item.questions] for item in asked]


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


@pytest.fixture
def video_questions() -> Callable[[Path, Sequence[str]], None]:
    """video_questions(folder, "aba"): files q.json and a.json with a question about each of these videos."""

    def write(folder: Path, names: Sequence[str]) -> None:
        ids = [str(number) for number in range(len(names))]
        asked = [
            {"video_name": name, "question": f"what is {i}", "question_id": i}
            for i, name in zip(ids, names, strict=True)
        ]
        write_json(folder / "q.json", asked)
        write_json(folder / "a.json", [{"answer": "red", "question_id": i} for i in ids])

    return write


@pytest.fixture
def video_task() -> Callable[..., Task]:
    """video_task(folder, shows="frame"): asks what `video_questions` wrote; videos are called v_a.mp4."""

    def make(folder: Path, *, shows: str) -> Task:
        options = {"answers": "a.json", "videos": "v_{}.mp4"}
        data = TaskData(reader="video_qa", file="q.json", options=options, objective="vqa", shows=shows)
        return Task(name="t", version=1, data=data.below(folder), parse="text", metrics=("exact_match",))

    return make


@pytest.fixture
def answers_to() -> Callable[..., list[Prediction]]:
    """answers_to(task, folder, answerer, images="real"): the predictions, all of one window."""

    def ask_all(task: Task, folder: Path, answerer: object, images: str = "real") -> list[Prediction]:
        questions = read_questions(folder / "q.json", task, images=images)
        (window,) = ask(answerer, task, questions, AskOptions(image_root=folder, images=images))
        return window

    return ask_all
