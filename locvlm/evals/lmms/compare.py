"""Predictions of ours -> the same questions as a task of lmms-eval -> its answers -> where the two differ.

Tried with lmms-eval 0.7.3 and its model llava_hf, which asks stock LLaVA one question at a time. Questions
are written by our side, and images as it sees them: what is compared is what the export makes of both.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from locvlm.answering.answerer import Decoding
from locvlm.data.image import load_image
from locvlm.evals.lmms import task_functions
from locvlm.evals.task import Task
from locvlm.io import read_json, read_jsonl, resolve_inside, write_jsonl
from locvlm.records import Prediction

VERSION = "0.7.3"  # that this was tried with
_ROOT = Path(__file__).parents[3]  # holds the package
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")  # everything is here


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A question that lmms-eval's model answers otherwise."""

    id: str
    question: str
    ours: str
    theirs: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """How lmms-eval runs the model."""

    python: str  # of the environment that lmms-eval is installed in
    export: Path
    dtype: str = "float32"
    device: str = "cpu"
    image_backend: str = "pil"  # see pinned.py


def find_lmms_eval(python: str) -> str:
    """The version of lmms-eval that a Python has.

    Raises:
        ValueError: if it has none, or is no Python.
    """
    code = "import importlib.metadata as m; print(m.version('lmms-eval'))"
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"cannot start {python} ({error}); --python is that of an environment") from error
    if found.returncode != 0:
        raise ValueError(
            f"{python} has no lmms-eval; docs/evaluation.md says how to install {VERSION} into an "
            f"environment of its own. Give the Python of that as --python"
        )
    return found.stdout.strip()


def require_stock(export: Path) -> None:
    """Nothing, if llava_hf can load this folder.

    Raises:
        ValueError: if it is no stock LLaVA.
    """
    config = export / "config.json"
    model_type = read_json(config).get("model_type") if config.is_file() else None
    if model_type != "llava":
        raise ValueError(
            f"{export} is no stock LLaVA ({model_type or 'it has no config.json'}), the only kind that "
            f"llava_hf loads; export it with scripts/export_hf.py --class stock"
        )


def task_name(name: str) -> str:
    """A task's name within lmms-eval, which has hundreds of its own."""
    return f"locvlm_{name}"


def write_task(folder: Path, task: Task, predictions: Sequence[Prediction], *, image_root: Path) -> None:
    """The questions of `predictions` as a task of lmms-eval: declaration, functions, questions and images.

    Raises:
        ValueError: for a task whose answers are not generated greedily about images, and for a question
            without an image or an answer.
        UnreadableImage: if an image is not there any more.
    """
    _require_comparable(task)
    for prediction in predictions:
        if prediction.image is None or prediction.failed:
            raise ValueError(
                f"{task.name}: question {prediction.id!r} has no {'answer' if prediction.image else 'image'} "
                f"({prediction.failed or 'text alone'}); what is compared are answers about images"
            )
    name = task_name(task.name)
    questions = folder.resolve() / f"{name}.jsonl"
    images = _write_images(folder.resolve() / f"{name}_images", predictions, image_root)
    docs = ({"id": p.id, "image": images[_shown(p)], "question": p.question} for p in predictions)
    write_jsonl(questions, docs)
    functions = Path(task_functions.__file__)
    shutil.copyfile(functions, folder / functions.name)
    declaration = _declare(name, questions, task.decode.max_new_tokens)
    (folder / f"{name}.yaml").write_text(declaration, encoding="utf-8")


def run_lmms_eval(setup: Setup, folder: Path, names: Sequence[str]) -> Path:
    """lmms-eval's own command line on the tasks in `folder`; returns where its samples are.

    Raises:
        RuntimeError: if it fails, with the end of what it said.
    """
    out = folder / "out"
    command = [
        setup.python,
        "-m",
        "locvlm.evals.lmms.pinned",
        setup.image_backend,
        *arguments(setup, folder, names),
    ]
    environment = {
        **os.environ,
        **dict.fromkeys(_OFFLINE, "1"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
        "LMMS_EVAL_DATASETS_CACHE": str(folder.resolve() / "cache"),
    }
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0 or not out.is_dir():
        said = "\n".join(done.stdout.splitlines()[-30:])
        raise RuntimeError(f"lmms-eval ended with status {done.returncode}:\n{said}")
    return out


def arguments(setup: Setup, folder: Path, names: Sequence[str]) -> list[str]:
    """What lmms-eval is started with."""
    model = {
        "pretrained": str(setup.export.resolve()),
        "dtype": setup.dtype,
        "device": setup.device,
        "device_map": setup.device,  # left empty, transformers 5 refuses it
    }
    return [
        "eval",
        *("--model", "llava_hf"),
        *("--model_args", ",".join(f"{key}={value}" for key, value in model.items())),
        *("--include_path", str(folder.resolve())),
        *("--tasks", ",".join(map(task_name, names))),
        *("--batch_size", "1"),
        *("--output_path", str(folder.resolve() / "out")),
        "--log_samples",
    ]


def read_answers(out: Path, name: str) -> dict[str, str]:
    """The answers in lmms-eval's samples of a task, by question id.

    Raises:
        ValueError: if there are no samples, several files of them, or several answers to a question.
    """
    files = sorted(out.rglob(f"*_samples_{task_name(name)}.jsonl"))
    if len(files) != 1:
        raise ValueError(f"expected one file of samples of {task_name(name)} below {out}, got {len(files)}")
    answers: dict[str, str] = {}
    for number, row in read_jsonl(files[0]):
        said = row["answered"]
        if said["id"] in answers:
            raise ValueError(f"{files[0]}:{number} answers {said['id']!r} again; each is asked once")
        answers[said["id"]] = said["answer"]
    return answers


def compare(predictions: Sequence[Prediction], theirs: Mapping[str, str]) -> list[Difference]:
    """The questions of which the answers differ, outer spaces aside.

    Raises:
        ValueError: if the two are not about the same questions.
    """
    ours = {prediction.id for prediction in predictions}
    if ours != theirs.keys():
        missing, unknown = sorted(ours - theirs.keys())[:3], sorted(theirs.keys() - ours)[:3]
        raise ValueError(
            f"lmms-eval answered {len(theirs)} of {len(ours)} questions; missing {missing}, unknown {unknown}"
        )
    return [
        Difference(id=p.id, question=p.question, ours=p.answer, theirs=theirs[p.id].strip())
        for p in predictions
        if p.answer != theirs[p.id].strip()
    ]


def _require_comparable(task: Task) -> None:
    """Nothing, if llava_hf can be asked for the same."""
    wrong = {
        f"{task.decode.describe()}, not greedy": task.decode
        != Decoding(max_new_tokens=task.decode.max_new_tokens),
        f"chosen by {task.choose}, not generated": task.choose == "likelihood",
        f"about a {task.data.shows}, not an image": task.data.shows != "image",
    }
    if found := [problem for problem, is_there in wrong.items() if is_there]:
        raise ValueError(f"task {task.name} cannot be compared: its answers are {found[0]}")


def _shown(prediction: Prediction) -> tuple[str, int, int]:
    """Image and the raster that its record's boxes are in; width and height are 0 if it says none."""
    return (prediction.image or "", prediction.gold["width"], prediction.gold["height"])


def _write_images(
    folder: Path, predictions: Sequence[Prediction], image_root: Path
) -> dict[tuple[str, int, int], str]:
    """Every image once, as PNG; what is shown -> its file."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[tuple[str, int, int], str] = {}
    for shown in map(_shown, predictions):
        if shown not in files:
            image, width, height = shown
            path = folder / f"{len(files)}.png"
            load_image(resolve_inside(image_root, image), (width, height)).save(path, compress_level=1)
            files[shown] = str(path)
    return files


def _declare(name: str, questions: Path, max_new_tokens: int) -> str:
    """The task's YAML. Functions are named by tags, which are lmms-eval's own."""
    functions = Path(task_functions.__file__).stem
    plain = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_target": "",
        "generation_kwargs": {
            "max_new_tokens": max_new_tokens,
            "temperature": 0,
            "do_sample": False,
            "num_beams": 1,
        },
        "metadata": [{"version": 1}],
    }
    return (
        yaml.safe_dump(plain, sort_keys=False)
        + f"doc_to_visual: !function {functions}.shown\n"
        + f"doc_to_text: !function {functions}.asked\n"
        + f"process_results: !function {functions}.answered\n"
        + "metric_list:\n"
        + "- metric: answered\n"
        + f"  aggregation: !function {functions}.count\n"
        + "  higher_is_better: true\n"
    )
