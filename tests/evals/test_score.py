from dataclasses import replace

import pytest

from locvlm.evals.asking.store import append_predictions, open_predictions, predictions_path
from locvlm.evals.score import FLAT_SCORES, flatten, format_table, judge, score_folder, score_rows
from locvlm.geometry import Box
from locvlm.records import Prediction


def answered(name: str, text: str, *, failed: str = "") -> Prediction:
    gold = {
        "objective": "locpred",
        "phrase": "mug",
        "category": "mug",
        "answer": "",
        "box_px": [0, 0, 224, 28],
        "width": 448,
        "height": 56,
        "overlap_fraction": 0.0,
    }
    return Prediction(
        id=name, record_id="r", image="0.png", question="Where?", answer=text, gold=gold, failed=failed
    )


RIGHT, WRONG = "It is located at (0, 0, 56, 56)", "It is located at (56, 56, 112, 112)"
ROWS = [
    answered("a", RIGHT),
    answered("b", WRONG),
    answered("c", "I do not know"),
    answered("d", "", failed="unreadable image: 0.png"),
]


@pytest.fixture
def folder(tmp_path, meta):
    """folder(rows): an evaluation folder that holds these answers to locpred."""

    def write(rows, **changes):
        path = predictions_path(tmp_path, "locpred", "real")
        open_predictions(path, replace(meta, num_questions=len(rows), **changes))
        append_predictions(path, rows)
        return tmp_path

    return write


def test_boxes_are_compared_in_source_pixels(contract):
    # 448 x 56 stretched to 112 x 112: four source pixels to one across, one to two down
    assert judge(ROWS[0], parse="location", contract=contract).reading == Box(0, 0, 224, 28)


def test_every_question_is_counted_once(contract, locpred_task):
    result = score_rows(locpred_task, [judge(row, parse="location", contract=contract) for row in ROWS])
    assert {k: result[k] for k in ("asked", "answered", "failed", "unreadable")} == {
        "asked": 4,
        "answered": 3,
        "failed": 1,
        "unreadable": 1,
    }
    assert result["scores"]["acc50"] == 1 / 4
    assert result["breakdowns"]["size"] == {"large": {"asked": 4, **result["scores"]}}
    assert result["centre_box"]["acc50"] == 0


def test_answers_with_several_boxes_are_counted_and_the_table_says_so(contract, locpred_task):
    rows = [*ROWS, answered("e", f"{RIGHT} or {WRONG}"), answered("f", f"{WRONG}, {RIGHT}")]
    result = score_rows(locpred_task, [judge(row, parse="location", contract=contract) for row in rows])
    assert result["remarks"]["several locations, the first read"] == 2
    assert result["scores"]["acc50"] == 2 / 6  # a and e: the first counts
    assert "2 several locations, the first read" in format_table({"tasks": {"t": result}})
    only_one_each = score_rows(locpred_task, [judge(r, parse="location", contract=contract) for r in ROWS])
    assert only_one_each["remarks"] == {"failed: unreadable image": 1, "unreadable: no location": 1}
    assert "several" not in format_table({"tasks": {"t": only_one_each}})


def test_an_answer_about_a_side_has_no_locations_to_count(contract):
    assert not judge(answered("a", f"left {RIGHT} {WRONG}"), parse="side", contract=contract).says_several
    assert not judge(answered("a", f"left {RIGHT} {WRONG}"), parse="side", contract=None).says_several


def test_a_metric_that_cannot_be_computed_here_is_named_and_the_others_are_there(
    contract, locpred_task, monkeypatch
):
    monkeypatch.setenv("PATH", "")  # no Java
    task = replace(locpred_task, parse="text", metrics=("meteor", "token_f1"), breakdowns=("size",))
    result = score_rows(task, [judge(row, parse="text", contract=contract) for row in ROWS])
    assert set(result["scores"]) == {"token_f1"}
    assert "install a Java runtime" in result["unavailable"]["meteor"]
    assert set(result["breakdowns"]["size"]["large"]) == {"asked", "token_f1"}
    table = format_table({"tasks": {"rd": result}})
    assert "no meteor: METEOR and the tokenizer" in table


def test_a_folder_is_scored_without_a_model(folder, locpred_task):
    scores = score_folder(folder(ROWS), [locpred_task])
    assert scores["flat"] == {
        "locpred_acc50": 1 / 4,
        "locpred_miou": 1 / 4,
        "parse_failures": 1 / 3,  # of the answered ones
        "centre_box_acc50": 0.0,
    }
    assert scores["tasks"]["locpred"]["decoding"] == "greedy"
    assert "acc50 0.250" in format_table(scores)


def test_baselines_are_scored_beside(folder, meta, locpred_task):
    root = folder(ROWS)
    path = predictions_path(root, "locpred", "blank")
    open_predictions(path, replace(meta, images="blank"))
    append_predictions(path, ROWS[:2])
    flat = score_folder(root, [locpred_task])["flat"]
    assert flat["blank_acc50"] == 1 / 2
    assert flat["locpred_acc50"] == 1 / 4


def test_answers_to_another_version_and_unfinished_files_are_refused(folder, locpred_task, meta):
    root = folder(ROWS)
    with pytest.raises(ValueError, match="version 1 of task locpred, this is version 2"):
        score_folder(root, [replace(locpred_task, version=2)])
    path = predictions_path(root, "locpred", "real")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(ValueError, match="3 of 4 answers"):
        score_folder(root, [locpred_task])


def test_a_folder_without_answers_is_an_error(tmp_path, locpred_task):
    with pytest.raises(ValueError, match=r"run eval/run\.py first"):
        score_folder(tmp_path, [locpred_task])


def test_flat_scores_point_at_tasks_and_metrics_that_exist(tasks):
    for task, metric in FLAT_SCORES.values():
        assert metric in tasks[task.split(".")[0]].metrics
    assert flatten({}) == {}
