"""Where a run's answers lie, and what is said of them."""

from dataclasses import replace

import pytest

from locvlm.evals.asking.store import append_predictions, open_predictions, predictions_path
from locvlm.evals.parse import Unanswered, Unreadable, YesNo
from locvlm.evals.reports.answers import evaluation_folders, named_run, read_run
from locvlm.records import Prediction


@pytest.fixture
def write(tasks, meta):
    """write(folder, "pope_random", ["yes", ...]): an evaluation folder with these answers."""

    def make(folder, task, texts, **facts):
        path = predictions_path(folder, task, "real")
        made = replace(meta, task=task, version=tasks[task].version, num_questions=len(texts))
        open_predictions(path, replace(made, **facts))
        gold = {"objective": "vqa", "answer": "yes", "phrase": "", "box_px": None, "width": 0, "height": 0}
        predictions = [
            Prediction(
                id=f"r{n}/0", record_id=f"r{n}", image=f"{n}.png", question="?", answer=text, gold=gold
            )
            for n, text in enumerate(texts)
        ]
        append_predictions(path, predictions)

    return make


@pytest.mark.parametrize(
    ("inside", "label"), [("eval", "training"), ("eval/stage1", "stage1"), ("", "run")], ids=str
)
def test_a_run_is_found_in_any_of_three_places(tmp_path, write, tasks, inside, label):
    write(tmp_path / "run" / inside, "pope_random", ["Yes.", "No."])
    assert list(evaluation_folders(tmp_path / "run")) == [label]
    run = read_run(tmp_path / "run", list(tasks.values()))
    assert (run.name, list(run.answers)) == ("run", ["pope_random"])
    assert [row.reading for row in run.answers["pope_random"].rows][1] == YesNo(False)


def test_the_last_evaluation_by_name_is_read(tmp_path, write, tasks):
    for label, text in (("stage1", "No."), ("stage2", "Yes.")):
        write(tmp_path / "eval" / label, "pope_random", [text])
    run = read_run(tmp_path, list(tasks.values()))
    assert run.folder == tmp_path / "eval" / "stage2"
    assert run.answers["pope_random"].rows[0].reading == YesNo(True, is_assumed=False)


def test_a_run_can_be_given_a_name(tmp_path, write, tasks):
    write(tmp_path, "pope_random", ["Yes."])
    assert named_run(f"LLaVA-1.5 = 7B={tmp_path}", list(tasks.values())).name == "LLaVA-1.5 = 7B"
    assert named_run(str(tmp_path), list(tasks.values())).name == tmp_path.name


def test_answers_to_another_version_and_incomplete_ones_are_refused(tmp_path, write, tasks):
    write(tmp_path / "old", "pope_random", ["Yes."], version=99)
    with pytest.raises(ValueError, match="holds answers to version 99 of task pope_random"):
        read_run(tmp_path / "old", list(tasks.values()))
    write(tmp_path / "part", "pope_random", ["Yes."], num_questions=3000)
    with pytest.raises(ValueError, match="holds 1 of 3000 answers"):
        read_run(tmp_path / "part", list(tasks.values()))


def test_a_folder_without_answers_to_these_tasks_is_refused(tmp_path, write, tasks):
    with pytest.raises(ValueError, match=r"no predictions below .*run eval/run\.py"):
        read_run(tmp_path, list(tasks.values()))
    write(tmp_path, "pope_random", ["Yes."])
    with pytest.raises(ValueError, match=r"no predictions on real images .* for any of 1 tasks"):
        read_run(tmp_path, [tasks["gqa"]])


def test_counts_add_up_and_facts_say_how_answers_were_made(answers, judged, tasks):
    rows = [judged(YesNo(True)), judged(Unreadable("both")), judged(Unanswered("unreadable image"))]
    found = answers(tasks["pope_random"], rows, checkpoint="runs/x/stage2/final")
    assert found.counts() == {"asked": 3, "answered": 2, "failed": 1, "unreadable": 1}
    assert found.facts() == {
        "task": f"pope_random, version {tasks['pope_random'].version}",
        "questions": "val.jsonl",
        "model": "runs/x/stage2/final",
        "weights": "f",
        "contract": "codec ivb, frame stretch, location bbox, canvas 112, patch 14",
        "decoding": "greedy",
    }
