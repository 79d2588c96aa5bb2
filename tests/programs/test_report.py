"""eval/report.py as a user starts it, on answers written by hand: the demo's report, tables, comparisons."""

import runpy

import pytest
from PIL import Image

from locvlm.coords.contract import CoordinateContract
from locvlm.evals.asking.store import PredictionMeta, append_predictions, open_predictions, predictions_path
from locvlm.evals.task import load_tasks
from locvlm.io import read_json
from locvlm.records import Prediction


@pytest.fixture
def program(monkeypatch, repo_root):
    """program("--run", ...): eval/report.py in this process."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["report.py", *map(str, arguments)])
        runpy.run_path(str(repo_root / "eval" / "report.py"), run_name="__main__")

    return run


@pytest.fixture
def answer(repo_root, tmp_path):
    """answer(folder, "hal_coco", "yyn"): answers, as eval/run.py leaves them; truly yes, no, yes ..."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "images" / "000000000000.jpg")
    versions = {task.name: task.version for task in load_tasks(repo_root / "eval" / "tasks", ("*",))}

    def make(folder, task, words):
        path = predictions_path(folder, task, "real")
        meta = PredictionMeta(
            task=task,
            version=versions[task],
            images="real",
            checkpoint="runs/x/stage2/final",
            fingerprint="f",
            contract=CoordinateContract(canvas=112, patch=14).to_dict(),
            records=f"{task}.jsonl",
            records_sha256="s",
            image_root=str(tmp_path / "images"),
            decoding="greedy",
            seed=0,
            num_questions=len(words),
        )
        open_predictions(path, meta)
        append_predictions(path, [prediction(n, word) for n, word in enumerate(words)])

    return make


def prediction(number, word):
    gold = {"objective": "vqa", "phrase": "mug", "category": "mug", "answer": ("yes", "no")[number % 2]}
    return Prediction(
        id=f"r{number}/0",
        record_id=f"r{number}",
        image=f"{number:012}.jpg",
        question="Is there a mug in the image?",
        answer={"y": "Yes.", "n": "No."}.get(word, word),
        gold={**gold, "box_px": [20, 10, 60, 50], "width": 200, "height": 100, "overlap_fraction": 0.0},
    )


def test_tables_are_written_for_tasks_beyond_the_demo_s(program, answer, tmp_path, capsys):
    answer(tmp_path / "mine", "hal_coco", "ynyy?")
    answer(tmp_path / "other", "hal_coco", "nnyn")
    (tmp_path / "trained.txt").write_text("COCO_train2014_000000000003.jpg\n")
    program(
        *("--run", tmp_path / "mine", "--runs", f"LLaVA here={tmp_path / 'other'}"),
        *("--trained-on", tmp_path / "trained.txt"),
    )
    values = read_json(tmp_path / "mine" / "tables.json")
    mine, other = values["runs"]
    assert mine["tasks"]["hal_coco"]["scores"]["all"]["accuracy"]["value"] == 0.6
    assert mine["tasks"]["hal_coco"]["scores"]["seen"]["accuracy"]["value"] == 0.0
    assert mine["tasks"]["hal_coco"]["unreadable"] == 1
    assert (other["name"], other["tasks"]["hal_coco"]["asked"]) == ("LLaVA here", 4)
    text = (tmp_path / "mine" / "tables.md").read_text()
    assert "greedy, 4 questions each, images not in the training set" in text
    assert "Table 9" in text
    shown = capsys.readouterr().out
    assert "| LocVLM-B | 88.3 | 75.2 | - |" in shown
    assert "Table 9" not in shown  # of which nothing was measured
    assert 'href="examples/hal_coco.html"' in (tmp_path / "mine" / "tables.html").read_text()
    assert "3 right, 2 wrong." in (tmp_path / "mine" / "examples" / "hal_coco.html").read_text()
    assert not (tmp_path / "mine" / "report.html").exists()


def test_a_demo_s_run_gets_its_report_and_tables_if_asked_for(program, answer, tmp_path):
    answer(tmp_path / "demo" / "eval" / "stage2", "absent", ["There is no such object in the image", "x"])
    answer(tmp_path / "demo" / "eval" / "stage2", "coco_spatial_direct_horizontal", [])
    program("--run", tmp_path / "demo")
    assert read_json(tmp_path / "demo" / "scores.json")["absent_acc"] == 0.5
    assert not (tmp_path / "demo" / "tables.md").exists()
    before = (tmp_path / "demo" / "report.html").read_bytes()
    program("--run", tmp_path / "demo", "--tables", "--output-dir", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "scores.json",
        "tables.html",
        "tables.md",
        "tables.json",
        "examples",
    }
    assert (tmp_path / "out" / "report.html").read_bytes() == before


def test_the_scores_of_an_evaluation_folder_are_left_alone(program, answer, tmp_path):
    answer(tmp_path / "out", "absent", ["There is no such object in the image"])
    (tmp_path / "out" / "scores.json").write_text("{}")  # as eval/run.py leaves it
    program("--run", tmp_path / "out")
    assert (tmp_path / "out" / "scores.json").read_text() == "{}"
    assert (tmp_path / "out" / "tables.md").exists()


def test_two_runs_are_compared(program, answer, tmp_path, capsys):
    answer(tmp_path / "a", "pope_random", "yyyyy")
    answer(tmp_path / "b", "pope_random", "ynyny")
    program("--compare", tmp_path / "a", tmp_path / "b")
    values = read_json(tmp_path / "b" / "compared.json")["tasks"]["pope_random"]
    assert (values["lost"], values["won"]) == ([], ["r1/0", "r3/0"])
    assert values["mcnemar_p"] == 0.5
    assert "won" in capsys.readouterr().out
    page = (tmp_path / "b" / "compared.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "data:image/jpeg" not in page  # of the changed questions' images there is none


def test_reports_are_the_same_in_every_run(program, answer, tmp_path):
    answer(tmp_path / "a", "hal_coco", "ynyynnny" * 5)
    answer(tmp_path / "b", "hal_coco", "yyyynnnn" * 5)
    made = []
    for out in ("first", "second"):
        program("--run", tmp_path / "a", "--runs", tmp_path / "b", "--output-dir", tmp_path / out)
        program("--compare", tmp_path / "a", tmp_path / "b", "--output-dir", tmp_path / out)
        made.append({p.relative_to(tmp_path / out): p.read_bytes() for p in (tmp_path / out).rglob("*.*")})
    assert len(made[0]) == 6
    assert made[0] == made[1]


def test_a_run_and_a_comparison_exclude_each_other(program, tmp_path, capsys):
    for arguments in (["--run", tmp_path, "--compare", tmp_path, tmp_path], []):
        with pytest.raises(SystemExit):
            program(*arguments)
    message = capsys.readouterr().err
    assert "not allowed with argument --run" in message
    assert "one of the arguments --run --compare is required" in message
