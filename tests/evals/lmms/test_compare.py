"""A task of lmms-eval is written and its answers are compared; tests/programs has the real run."""

import importlib.util
import sys
import venv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from locvlm.answering.answerer import Decoding
from locvlm.data.image import load_image
from locvlm.evals.lmms.compare import (
    Difference,
    Setup,
    arguments,
    compare,
    find_lmms_eval,
    read_answers,
    require_stock,
    write_task,
)
from locvlm.evals.task import Task, TaskData
from locvlm.io import read_jsonl, write_json, write_jsonl
from locvlm.records import Prediction

SAMPLED = Decoding(greedy=False, max_new_tokens=24)


def answered(
    name: str, image: str | None = "a.jpg", *, answer: str = "There is a mug.", **more
) -> Prediction:
    return Prediction(
        id=name,
        record_id="r",
        image=image,
        question=f"What, {name}: «das»?",
        answer=answer,
        gold={"width": 30, "height": 20},
        **more,
    )


@pytest.fixture
def images(tmp_path) -> Path:
    """a.jpg, and turned.jpg, which is to be turned upright: both 30 x 20 to the eye."""
    root = tmp_path / "images"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "a.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise).rotate(90, expand=True).save(root / "turned.jpg", exif=turned)
    return root


@pytest.fixture
def task(locpred_task) -> Task:
    return replace(locpred_task, name="revloc", decode=Decoding(max_new_tokens=24))


def load_as_lmms_eval_does(path: Path) -> dict:
    """A declaration with its `!function file.name` tags replaced by the functions of the files beside it."""

    class Loader(yaml.SafeLoader):
        pass

    def function(loader, node):
        module, name = loader.construct_scalar(node).split(".")
        spec = importlib.util.spec_from_file_location(module, path.parent / f"{module}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, name)

    Loader.add_constructor("!function", function)
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def test_a_task_holds_questions_images_and_decoding_as_our_side_has_them(tmp_path, images, task):
    predictions = [answered("1/0"), answered("1/1"), answered("2/0", "turned.jpg")]
    write_task(tmp_path / "task", task, predictions, image_root=images)
    task = load_as_lmms_eval_does(tmp_path / "task" / "locvlm_revloc.yaml")
    assert task["task"] == "locvlm_revloc"
    assert task["generation_kwargs"] == {
        "max_new_tokens": 24,
        "temperature": 0,
        "do_sample": False,
        "num_beams": 1,
    }
    docs = [row for _, row in read_jsonl(task["dataset_kwargs"]["data_files"][task["test_split"]])]
    assert [task["doc_to_text"](doc) for doc in docs] == [p.question for p in predictions]
    assert len({doc["image"] for doc in docs}) == 2
    for doc, prediction in zip(docs, predictions, strict=True):
        [shown] = task["doc_to_visual"](doc)
        expected = load_image(images / prediction.image, (30, 20))
        assert shown.mode == "RGB"
        assert shown.tobytes() == expected.tobytes()
    said = [task["process_results"](doc, [f" {doc['id']}"])["answered"] for doc in docs]
    assert said == [{"id": p.id, "answer": f" {p.id}"} for p in predictions]
    [metric] = task["metric_list"]
    assert metric["metric"] == "answered"
    assert metric["aggregation"](said) == 3


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (answered("1/0", None), "'1/0' has no image"),
        (answered("1/0", failed="unreadable image: a.jpg"), "no answer .unreadable image: a.jpg"),
        (answered("1/0", "../a.jpg"), "must stay inside its root"),
    ],
)
def test_questions_that_cannot_be_compared_are_refused(tmp_path, images, task, prediction, message):
    with pytest.raises(ValueError, match=message):
        write_task(tmp_path / "task", task, [prediction], image_root=images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decode": SAMPLED}, "sampled at temperature 0.2, seed 0, not greedy"),
        ({"decode": Decoding(beams=3)}, "3 beams, not greedy"),
        ({"choose": "likelihood", "options": ("a", "b")}, "chosen by likelihood"),
        ({"data": TaskData(file="q.jsonl", objective="vqa", shows="video")}, "about a video"),
    ],
)
def test_tasks_that_cannot_be_compared_are_refused(tmp_path, images, task, change, message):
    with pytest.raises(ValueError, match=message):
        write_task(tmp_path / "task", replace(task, **change), [answered("1/0")], image_root=images)


def test_answers_are_found_by_question_and_differences_told(tmp_path):
    rows = [
        {"doc_id": 1, "answered": {"id": "1/1", "answer": "There is a cup."}},
        {"doc_id": 0, "answered": {"id": "1/0", "answer": " There is a mug.\n"}},
    ]
    (tmp_path / "out" / "model").mkdir(parents=True)
    write_jsonl(tmp_path / "out" / "model" / "2026_samples_locvlm_revloc.jsonl", rows)
    theirs = read_answers(tmp_path / "out", "revloc")
    mug, cup = answered("1/0"), answered("1/1")
    assert compare([mug, cup], theirs) == [
        Difference(id="1/1", question=cup.question, ours="There is a mug.", theirs="There is a cup.")
    ]
    assert compare([mug, replace(cup, answer="There is a cup.")], theirs) == []
    with pytest.raises(ValueError, match=r"answered 2 of 1 questions; missing \[\], unknown \['1/1'\]"):
        compare([mug], theirs)
    with pytest.raises(ValueError, match=r"answered 1 of 2 questions; missing \['1/1'\]"):
        compare([mug, cup], {"1/0": "a"})
    with pytest.raises(ValueError, match="expected one file of samples of locvlm_locpred"):
        read_answers(tmp_path / "out", "locpred")
    write_jsonl(tmp_path / "out" / "model" / "2026_samples_locvlm_revloc.jsonl", [*rows, rows[1]])
    with pytest.raises(ValueError, match=r"revloc\.jsonl:3 answers '1/0' again"):
        read_answers(tmp_path / "out", "revloc")


def test_the_model_is_loaded_in_one_precision_on_one_device(tmp_path):
    words = arguments(Setup(python="python", export=tmp_path / "export"), tmp_path, ["locpred", "absent"])
    given = dict(zip(words[1:-1:2], words[2:-1:2], strict=True))
    assert given["--model"] == "llava_hf"
    model = dict(part.split("=") for part in given["--model_args"].split(","))
    assert model.pop("pretrained") == str(tmp_path / "export")
    assert model == {"dtype": "float32", "device": "cpu", "device_map": "cpu"}
    assert given["--tasks"] == "locvlm_locpred,locvlm_absent"
    assert given["--batch_size"] == "1"


def test_where_lmms_eval_is_not_installed_it_is_said_how_to(tmp_path):
    venv.create(tmp_path / "empty", with_pip=False)
    with pytest.raises(ValueError, match=r"has no lmms-eval; docs/evaluation\.md says how to install"):
        find_lmms_eval(str(tmp_path / "empty" / "bin" / "python"))
    with pytest.raises(ValueError, match=r"cannot start .*nowhere"):
        find_lmms_eval(str(tmp_path / "nowhere"))


def test_only_stock_llava_is_taken(tmp_path):
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        require_stock(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "locvlm_video"})
    with pytest.raises(ValueError, match=r"no stock LLaVA .locvlm_video.*--class stock"):
        require_stock(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "llava"})
    require_stock(tmp_path)


def test_the_functions_of_a_task_need_nothing_but_pillow(repo_root):
    source = (repo_root / "locvlm" / "evals" / "lmms" / "task_functions.py").read_text()
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported - sys.stdlib_module_names == {"PIL"}
