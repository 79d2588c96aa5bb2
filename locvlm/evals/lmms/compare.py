"""Predictions of ours -> the same questions as a task of lmms-eval -> its answers -> where the two differ.

Tested with lmms-eval 0.7.3 and its model llava_hf, which asks one question at a time, with stock LLaVA.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from locvlm.answering.answerer import Decoding
from locvlm.evals.lmms import task_functions
from locvlm.io import read_jsonl, resolve_inside, write_jsonl
from locvlm.records import Prediction

VERSION = "0.7.3"
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
            f"{python} has no lmms-eval ({found.stderr.strip().splitlines()[-1:]}); docs/evaluation.md says "
            f"how to install {VERSION} into an environment of its own. Give its Python as --python"
        )
    return found.stdout.strip()


def task_name(name: str) -> str:
    """A task's name within lmms-eval, which has hundreds of its own."""
    return f"locvlm_{name}"


def write_task(
    folder: Path, name: str, predictions: Sequence[Prediction], *, image_root: Path, decoding: Decoding
) -> None:
    """The questions of `predictions` as a task of lmms-eval: its declaration, functions and questions.

    Raises:
        ValueError: for a question without an image or an answer, an image outside of its folder, or a decoding
            that is not greedy.
    """
    if decoding != Decoding(max_new_tokens=decoding.max_new_tokens):
        raise ValueError(f"only greedy answers can be compared, and {name} is {decoding.describe()}")
    for prediction in predictions:
        if prediction.image is None or prediction.failed:
            raise ValueError(
                f"{name}: question {prediction.id!r} has no {'answer' if prediction.image else 'image'} "
                f"({prediction.failed or 'text alone'}); llava_hf compares answers about images"
            )
    folder.mkdir(parents=True, exist_ok=True)
    questions = folder / f"{task_name(name)}.jsonl"
    write_jsonl(questions, (_doc(prediction, image_root.resolve()) for prediction in predictions))
    functions = Path(task_functions.__file__)
    shutil.copyfile(functions, folder / functions.name)
    declaration = _declare(task_name(name), questions.resolve(), decoding.max_new_tokens)
    (folder / f"{task_name(name)}.yaml").write_text(declaration, encoding="utf-8")


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
        ValueError: if there are no samples, or several files of them.
    """
    files = sorted(out.rglob(f"*_samples_{task_name(name)}.jsonl"))
    if len(files) != 1:
        raise ValueError(f"expected one file of samples of {task_name(name)} below {out}, got {len(files)}")
    rows = (row["answered"] for _, row in read_jsonl(files[0]))
    return {row["id"]: row["answer"] for row in rows}


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


def _doc(prediction: Prediction, image_root: Path) -> dict[str, Any]:
    assert prediction.image is not None
    path = resolve_inside(image_root, prediction.image)
    return {"id": prediction.id, "image": str(path), "question": prediction.question}


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
