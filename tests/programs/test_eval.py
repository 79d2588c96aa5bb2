"""eval/run.py, eval/score.py and eval/report.py as a user starts them, on the tiny world's untrained
checkpoint.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from locvlm.answering.checkpoints import fingerprint
from locvlm.answering.locvlm import load_answerer
from locvlm.data.image import load_image
from locvlm.data.prompt import render_question
from locvlm.data.tokenize import tokenize_prompts
from locvlm.evals.asking.ask import AskOptions
from locvlm.evals.small_evaluation import SmallEvaluation
from locvlm.evals.task import load_tasks
from locvlm.io import read_json, read_jsonl
from locvlm.model.generate import answer_one


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("eval") / "run"


@pytest.fixture
def evaluated(program, tiny_world, out):
    """A run folder with an evaluation of the tiny world's records, made by the first test that asks."""
    if not (out / "eval" / "scores.json").exists():
        program("eval/run.py", *options(tiny_world, out / "eval"), "--images", "real,blank,shuffled")
    return out


def options(world, folder):
    named = {
        "--model": world.init,
        "--records": world.records,
        "--image-root": world.images,
        "--output-dir": folder,
        "--tasks": "locpred,present,absent,revloc",
        "--batch-size": 16,
    }
    return [part for pair in named.items() for part in pair]


def test_every_question_is_asked_in_every_image_mode(evaluated, tiny_world):
    scores = read_json(evaluated / "eval" / "scores.json")
    queries = [query for _, row in read_jsonl(tiny_world.records) for query in row["queries"]]
    for task, objective in (("locpred", "locpred"), ("absent", "negpred"), ("revloc", "revloc")):
        number = sum(query["objective"] == objective for query in queries)
        for name in (task, f"{task}.blank", f"{task}.shuffled"):
            result = scores["tasks"][name]
            assert result["asked"] == result["answered"] == number > 0
    assert {"locpred_acc50", "absent_acc", "present_acc", "revloc_acc", "blank_acc50"} <= set(scores["flat"])


def test_batched_answers_are_those_of_one_question_at_a_time(evaluated, tiny_world):
    answerer = load_answerer(tiny_world.init)
    rows = [row for _, row in read_jsonl(evaluated / "eval/predictions/revloc.jsonl")][:6]
    for row in rows:
        pixels = answerer.pixels(load_image(tiny_world.images / row["image"]))
        text = render_question(row["question"], answerer.conversation, True)
        [ids] = tokenize_prompts([text], answerer.tokenizer, answerer.model.spec.num_image_tokens)
        alone = answer_one(
            answerer.model,
            ids,
            torch.from_numpy(pixels),
            eos_token_id=answerer.tokenizer.eos_token_id,
            max_new_tokens=24,
        )
        assert answerer.tokenizer.decode(alone, skip_special_tokens=True).strip() == row["answer"]


def test_a_second_start_asks_nothing_and_changes_nothing(evaluated, program, tiny_world, monkeypatch):
    before = {path: path.read_bytes() for path in (evaluated / "eval").rglob("*") if path.is_file()}

    def never(*args, **kwargs):
        raise AssertionError("asked again")

    monkeypatch.setattr("locvlm.answering.locvlm.generate_answers", never)
    program("eval/run.py", *options(tiny_world, evaluated / "eval"), "--images", "real,blank,shuffled")
    assert {path: path.read_bytes() for path in before} == before


def test_a_wrong_image_root_stops_the_run_and_the_right_one_completes_it(program, tiny_world, tmp_path):
    wrong, out = tmp_path / "nowhere", tmp_path / "out"
    arguments = options(tiny_world, out)
    arguments[arguments.index("--tasks") + 1] = "revloc"
    mistaken = [wrong if part == tiny_world.images else part for part in arguments]
    with pytest.raises(ValueError, match=rf"100\.00%.*no such image.*looked for in {re.escape(str(wrong))};"):
        program("eval/run.py", *mistaken)
    assert not (out / "scores.json").exists()
    program("eval/run.py", *arguments)
    result = read_json(out / "scores.json")["tasks"]["revloc"]
    assert result["asked"] == result["answered"] > 0


def test_another_checkpoint_does_not_continue_the_answers(evaluated, program, tiny_world, tmp_path):
    other = shutil.copytree(tiny_world.init, tmp_path / "other")
    config = read_json(other / "config.json")
    config["locvlm"]["contract"]["codec"] = "nfp"
    (other / "config.json").write_text(json.dumps(config))
    assert fingerprint(other) != fingerprint(tiny_world.init)
    arguments = [
        other if part == tiny_world.init else part for part in options(tiny_world, evaluated / "eval")
    ]
    with pytest.raises(ValueError, match="was made with fingerprint"):
        program("eval/run.py", *arguments)


def test_scoring_again_needs_no_model(evaluated, program, capsys):
    path = evaluated / "eval" / "scores.json"
    before = path.read_bytes()
    path.unlink()
    program("eval/score.py", "--output-dir", evaluated / "eval")
    assert path.read_bytes() == before
    assert "locpred.shuffled" in capsys.readouterr().out


def test_the_report_is_written_with_flat_scores_and_a_table(evaluated, program, capsys):
    program("eval/report.py", "--run", evaluated)
    assert "Finds it" in capsys.readouterr().out
    assert (evaluated / "report.html").read_text().startswith("<!doctype html>")
    flat = read_json(evaluated / "scores.json")
    assert flat["locpred_acc50"] == read_json(evaluated / "eval" / "scores.json")["flat"]["locpred_acc50"]


def test_a_small_evaluation_leaves_the_model_as_it_was(tiny_world, tmp_path, repo_root):
    answerer = load_answerer(tiny_world.init)
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for name in ("locpred", "present"):
        values = yaml.safe_load((repo_root / f"eval/tasks/{name}.yaml").read_text())
        values["data"]["file"] = tiny_world.records.name
        (tasks / f"{name}.yaml").write_text(yaml.safe_dump(values))
    answerer.model.train()
    tasks, settings = load_tasks(tasks, ("*",)), {"data_root": tiny_world.root, "num_questions": 5}
    evaluation = SmallEvaluation(tasks, options=AskOptions(image_root=tiny_world.images), **settings)
    scores = evaluation(answerer.model, answerer.tokenizer)
    assert {"locpred_acc50", "locpred_miou", "present_acc", "parse_failures"} <= set(scores)
    assert answerer.model.training
    packed = shutil.make_archive(str(tmp_path / "images"), "zip", tiny_world.images)
    zipped = SmallEvaluation(tasks, options=AskOptions(image_root=Path(packed)), **settings)
    assert zipped(answerer.model, answerer.tokenizer) == scores
    with pytest.raises(ValueError, match=r"no image .* give the folder of the images"):
        SmallEvaluation(tasks, options=AskOptions(image_root=tmp_path), **settings)


def test_a_folder_that_is_no_checkpoint_and_an_unknown_mode_are_errors(program, tiny_world, tmp_path, capsys):
    arguments = options(tiny_world, tmp_path / "out")
    with pytest.raises(SystemExit):
        program("eval/run.py", *arguments, "--images", "grey")
    assert "real, blank, shuffled, got grey" in capsys.readouterr().err
    arguments[1] = tmp_path
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        program("eval/run.py", *arguments)


def test_a_checkpoint_without_a_contract_is_refused(program, tiny_world, tmp_path):
    other = shutil.copytree(tiny_world.init, tmp_path / "stock")
    config = read_json(other / "config.json")
    del config["locvlm"]["contract"]  # without the whole section, it is a LLaVA like any other
    (other / "config.json").write_text(json.dumps(config))
    arguments = options(tiny_world, tmp_path / "out")
    arguments[1] = other
    with pytest.raises(ValueError, match=r"no locvlm\.co"):
        program("eval/run.py", *arguments)
