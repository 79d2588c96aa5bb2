"""eval/run.py --tasks paper and eval/judge.py as a user starts them, a real server on this host as judge."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from locvlm.coords.contract import CoordinateContract
from locvlm.evals.asking.store import PredictionMeta, append_predictions, predictions_path, write_meta
from locvlm.io import read_json
from locvlm.records import Prediction

TASK = "activitynet_qa_frame"


@pytest.fixture
def out(tmp_path):
    """An evaluation folder with four answers to ActivityNet-QA, of which one could not be asked."""
    folder = tmp_path / "eval"
    write_answers(
        folder, [("is it red", "yes", "Yes, it is."), ("who is it", "girl", "A boy."), ("?", "two", "Two.")]
    )
    return folder


def write_answers(folder, answered):
    path = predictions_path(folder, TASK, "real")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    kinds = ["free", "motion"]
    made_by = {
        "checkpoint": "c",
        "fingerprint": "f",
        "records": "q.json",
        "records_sha256": "s",
        "image_root": "v",
    }
    meta = PredictionMeta(
        task=TASK,
        version=1,
        images="real",
        contract=CoordinateContract(canvas=112, patch=14).to_dict(),
        decoding="greedy",
        seed=0,
        num_questions=len(answered) + 1,
        **made_by,
    )
    write_meta(path, meta)
    predictions = [
        Prediction(
            id=f"v/{n}",
            record_id="v",
            image="v.mp4",
            question=question,
            answer=answer,
            gold={
                "answer": gold,
                "source": {"question": question, "question_type": kinds[n % 2], "answer_type": kinds[n % 2]},
            },
        )
        for n, (question, gold, answer) in enumerate(answered)
    ]
    failed = {
        **asdict(predictions[0]),
        "id": "v/9",
        "answer": "",
        "failed": "unreadable image: no such video",
    }
    append_predictions(path, [*predictions, Prediction(**failed)])


def judge_well(question, number):
    """Right if the words of the correct answer are in the prediction."""
    gold, said = re.findall(
        r"^(?:Correct|Predicted) Answer: (.*)$", question["messages"][-1]["content"], re.M
    )
    return "{'pred': 'yes', 'score': 4}" if gold in said.lower() else "{'pred': 'no', 'score': 1}"


def options(folder, endpoint, *more):
    return ("--output-dir", folder, "--server", endpoint.url, *more)


def test_the_judge_stands_beside_the_offline_metric_by_type_and_by_name(program, out, serve, capsys):
    program("eval/score.py", "--output-dir", out)
    said = capsys.readouterr().out
    assert "no judge_accuracy: not judged; run eval/judge.py" in said
    program("eval/judge.py", *options(out, serve(judge_well), "--yes"))
    scores = read_json(out / "scores.json")["tasks"][TASK]
    assert (scores["asked"], scores["failed"]) == (4, 1)
    assert scores["scores"]["judge_accuracy"] == 2 / 4
    assert scores["scores"]["judge_score"] == (4 + 1 + 4) / 4
    assert scores["scores"]["exact_match"] == 1 / 4
    assert scores["breakdowns"]["question_type"]["motion"]["judge_accuracy"] == 0
    assert scores["breakdowns"]["question_type"]["free"]["judge_score"] == (4 + 4) / 3
    judge = scores["judge"]
    assert (judge["model"], judge["version"]) == ("tiny", "tiny-1.2")
    assert judge["rubric"].startswith("video_qa 1 (")
    assert (judge["unreadable_replies"], judge["without_answer"]) == (0, 1)
    assert f"judged by {judge['name']}; unreadable replies: 0, without answer: 1" in capsys.readouterr().out


def test_scoring_again_needs_no_judge_and_a_second_start_asks_nothing(program, out, serve):
    endpoint = serve(judge_well)
    program("eval/judge.py", *options(out, endpoint, "--yes"))
    scores = read_json(out / "scores.json")
    (out / "scores.json").unlink()
    program("eval/score.py", "--output-dir", out)
    assert read_json(out / "scores.json") == scores
    assert len(endpoint.questions) == 3
    program("eval/judge.py", *options(out, endpoint))  # nothing to agree to
    assert len(endpoint.questions) == 3


def test_a_new_answer_is_judged_alone(program, out, serve):
    endpoint = serve(judge_well)
    program("eval/judge.py", *options(out, endpoint, "--yes"))
    answers = [("is it red", "yes", "Yes, it is."), ("who is it", "girl", "A girl."), ("?", "two", "Two.")]
    write_answers(out, answers)
    program("eval/score.py", "--output-dir", out)
    scores = read_json(out / "scores.json")["tasks"][TASK]
    assert "judge_accuracy" not in scores["scores"]
    assert scores["unavailable"]["judge_accuracy"].startswith("2 of 3 are judged, by tiny-1.2.video_qa.")
    program("eval/judge.py", *options(out, endpoint, "--yes"))
    assert len(endpoint.questions) == 4
    assert read_json(out / "scores.json")["tasks"][TASK]["scores"]["judge_accuracy"] == 3 / 4


def test_garbage_is_wrong_and_counted(program, out, serve):
    endpoint = serve(lambda question, number: "It depends." if number == 0 else judge_well(question, number))
    program("eval/judge.py", *options(out, endpoint, "--yes", "--concurrency", 1))
    scores = read_json(out / "scores.json")["tasks"][TASK]
    assert scores["judge"]["unreadable_replies"] == 1
    assert scores["scores"]["judge_accuracy"] == 1 / 4


def test_what_it_costs_is_said_before_anything_is_asked(program, out, serve, monkeypatch):
    endpoint = serve(judge_well)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(ValueError, match=r"3 calls, about [\d,]+ tokens in .*no prices given.*give --yes"):
        program("eval/judge.py", *options(out, endpoint))
    prices = ("--price-in", 1000, "--price-out", 1000)
    with pytest.raises(
        ValueError, match=r"3 calls.*about 0\.\d\d at the prices given: more than --max-cost 0.1"
    ):
        program("eval/judge.py", *options(out, endpoint, *prices, "--max-cost", 0.1))
    assert endpoint.questions == []
    program("eval/judge.py", *options(out, endpoint, *prices, "--max-cost", 10))
    assert len(endpoint.questions) == 3


def test_the_key_comes_from_the_environment(program, out, serve, monkeypatch):
    endpoint = serve(judge_well)
    with pytest.raises(ValueError, match="the environment variable JUDGE_KEY is empty"):
        program("eval/judge.py", *options(out, endpoint, "--yes", "--key-variable", "JUDGE_KEY"))
    monkeypatch.setenv("JUDGE_KEY", "sesame")
    program("eval/judge.py", *options(out, endpoint, "--yes", "--key-variable", "JUDGE_KEY"))
    assert {headers["authorization"] for headers in endpoint.headers} == {"Bearer sesame"}


def test_of_two_judges_one_has_to_be_named(program, out, serve, tmp_path):
    endpoint = serve(judge_well)
    program("eval/judge.py", *options(out, endpoint, "--yes"))
    program("eval/judge.py", *options(out, endpoint, "--yes", "--served-model", "big"))
    assert read_json(out / "scores.json")["tasks"][TASK]["judge"]["model"] == "big"
    program("eval/score.py", "--output-dir", out)
    scores = read_json(out / "scores.json")["tasks"][TASK]
    assert "name one with --judge" in scores["unavailable"]["judge_score"]
    assert "judge" not in scores
    program("eval/score.py", "--output-dir", out, "--judge", "tiny")
    assert read_json(out / "scores.json")["tasks"][TASK]["judge"]["model"] == "tiny"


def test_without_answers_it_says_what_to_do(program, out, serve, tmp_path):
    with pytest.raises(ValueError, match=r"holds no answers to .*activitynet_qa.*run eval/run.py first"):
        program("eval/judge.py", *options(tmp_path / "none", serve(judge_well), "--yes"))


# ---- from the question files on


@pytest.fixture
def data_root(tmp_path, write_clip):
    """A data root that holds, of all the paper asks, two videos of ActivityNet-QA, one of which is broken."""
    root = tmp_path / "data"
    videos = root / "activitynet" / "videos"
    videos.mkdir(parents=True)
    write_clip(videos / "v_abc.mkv", [np.full((64, 96, 3), gray, dtype=np.uint8) for gray in (10, 90, 170)])
    (videos / "v_def.mp4").write_bytes(b"not a video")
    names = ("abc", "abc", "def")
    asked = [
        {"video_name": name, "question": "what is it", "question_id": f"{n}"} for n, name in enumerate(names)
    ]
    answers = [{"answer": "square", "type": 5, "question_id": f"{n}"} for n in range(3)]
    (root / "activitynet_qa").mkdir()
    (root / "activitynet_qa" / "test_q.json").write_text(json.dumps(asked))
    (root / "activitynet_qa" / "test_a.json").write_text(json.dumps(answers))
    return root


def test_the_paper_is_run_as_far_as_its_data_is_here_and_then_judged(
    program, tiny_world, data_root, serve, tmp_path, capsys
):
    out = tmp_path / "out"
    program(
        *("eval/run.py", "--model", tiny_world.init, "--tasks", "paper", "--data-root", data_root),
        *("--output-dir", out, "--max-dropped-fraction", 0.5),
    )
    said = capsys.readouterr().out
    assert re.search(rf"^{TASK} +3 +1 ", said, re.MULTILINE)
    assert "left out: pope_random: there is no " in said
    assert "get it: https://github.com/RUCAIBox/POPE" in said
    program(
        "eval/judge.py", *options(out, serve(lambda question, number: "{'pred': 'no', 'score': 2}"), "--yes")
    )
    scores = read_json(out / "scores.json")["tasks"][TASK]
    assert (scores["asked"], scores["answered"], scores["failed"]) == (3, 2, 1)
    spoke = scores["answered"] - scores["unreadable"]  # an untrained model may say nothing
    assert scores["scores"]["judge_score"] == 2 * spoke / 3
    assert scores["judge"]["without_answer"] == 3 - spoke


def test_without_any_data_it_says_so_before_the_model_is_loaded(program, tmp_path):
    with pytest.raises(
        ValueError, match=r"nothing to ask, with the data below .*\nleft out: gqa: there is no "
    ) as error:
        program(
            *("eval/run.py", "--model", tmp_path / "no model", "--tasks", "paper"),
            *("--data-root", tmp_path, "--output-dir", tmp_path / "out"),
        )
    assert "left out: rd_refcocog_test" in str(error.value)
