"""The report of a run folder written by hand: what it says, that it is one file, and that it holds up on bad
input.
"""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from locvlm.coords.contract import CoordinateContract
from locvlm.evals.asking.store import append_predictions, open_predictions, predictions_path
from locvlm.evals.pages.demo import count_scenes, render_page
from locvlm.evals.reports.demo import collect, flat_scores, terminal_table
from locvlm.evals.reports.demo_examples import choose_failures, choose_scenes
from locvlm.evals.reports.demo_figures import FIGURES, is_met
from locvlm.geometry import Box
from locvlm.records import Prediction

BOX, FAR = "(11, 11, 34, 56)", "(60, 60, 100, 100)"


@pytest.fixture
def run(tmp_path, val, tasks, meta):
    """A run folder with answers after two stages, curves and timings."""
    folder = tmp_path / "demo"
    meta = replace(meta, image_root=str(val.images))
    stage2 = {
        "locpred": [
            f"It is located at {BOX}",
            f"It is located at {FAR}",
            "There is no such object in the image",
        ],
        "absent": [
            "There is no such object in the image",
            f"It is located at {FAR}",
            "<script>alert(1)</script>",
        ],
        "revloc": ["There is a mug.", "There is a bus.", "mug"],
    }
    write_answers(folder / "eval/stage1", tasks, meta, {name: ["a caption"] * 3 for name in stage2})
    write_answers(folder / "eval/stage2", tasks, meta, stage2)
    write_answers(folder / "eval/stage2", tasks, meta, {"locpred": [f"It is located at {FAR}"] * 3}, "blank")
    for stage in ("stage1", "stage2"):
        (folder / stage).mkdir()
        rows = [{"step": step, "loss": 5 / (step + 1)} for step in range(60)]
        (folder / stage / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (folder / "seconds.json").write_text('{"stage1": 61.0, "stage2": 300.5}')
    return folder


def write_answers(folder, tasks, meta, answers, images="real", *, gold_answer=""):
    for task, texts in answers.items():
        gold = {
            "objective": task,
            "phrase": "mug" if task != "absent" else "kite & co",
            "category": "mug",
            "answer": gold_answer,
            "box_px": None if task == "absent" else [20, 10, 60, 50],
            "width": 200,
            "height": 100,
            "overlap_fraction": 0.0,
        }
        path = predictions_path(folder, task, images)
        version = tasks[task].version
        open_predictions(
            path, replace(meta, task=task, version=version, images=images, num_questions=len(texts))
        )
        append_predictions(
            path,
            [
                Prediction(
                    id=f"r{i}/0",
                    record_id=f"r{i}",
                    image=f"{i}.png",
                    question=f"Question {i} of {task}?",
                    answer=text,
                    gold=gold,
                )
                for i, text in enumerate(texts)
            ],
        )


@pytest.fixture
def report(run, tasks):
    return collect(run, list(tasks.values()))


def test_flat_scores_hold_figures_and_seconds(report):
    flat = flat_scores(report)
    third = pytest.approx(1 / 3)
    assert flat["locpred_acc50"] == flat["present_acc"] == flat["absent_acc"] == flat["revloc_acc"] == third
    assert flat["blank_acc50"] == 0
    assert flat["parse_failures"] == pytest.approx(2 / 9)
    assert flat["seconds_stage2"] == 300.5
    assert all(isinstance(value, float) for value in flat.values())


def test_the_terminal_table_sets_stages_and_baselines_side_by_side(report):
    head, first, *_ = terminal_table(report).splitlines()
    assert head.split("  ")[-1].strip() == "goal"
    assert "after stage1" in head
    assert first.split() == [
        "Finds",
        "it",
        "0.000",
        "0.333",
        "0.000",
        "0.000",
        "≥",
        "0.80",
    ]  # centre box last


def test_the_page_is_one_file_that_asks_nothing_of_the_network(report, read_page):
    page = read_page(render_page(report))
    for tag, attrs in page.tags:
        assert tag not in {"script", "link", "iframe"}
        for name in ("src", "href", "data", "poster"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, attrs)
    html = render_page(report)
    assert "url(" not in html
    assert "@import" not in html
    assert "http" not in html


def test_the_page_shows_boxes_questions_and_verdicts(report, read_page):
    page = read_page(render_page(report))
    assert "finds 33 of 100" in page.text
    assert page.of_class("said-of") == ["dl"] * 3  # one card a scene
    assert len(page.of_class("missed")) >= 5
    assert "Question 0 of locpred?" in page.text
    true = next(attrs for tag, attrs in page.tags if tag == "rect" and attrs.get("class") == "true")
    assert (true["x"], true["y"], true["width"], true["height"]) == ("20.00", "10.00", "40.00", "40.00")
    views = {attrs["viewbox"] for tag, attrs in page.tags if tag == "svg" and "preserveaspectratio" in attrs}
    assert views == {"0 0 200 100"}  # drawn in source pixels
    assert "1 min 1 s" in page.text


def test_left_and_right_are_called_no_question_of_stage_2_rather_than_never_seen(
    run, tasks, meta, val, read_page
):
    meta = replace(meta, image_root=str(val.images))
    for axis, side in (("horizontal", "left"), ("vertical", "above")):
        answers = {f"coco_spatial_direct_{axis}": [f"It is {side}."] * 3}
        write_answers(run / "eval/stage2", tasks, meta, answers, gold_answer=side)
    text = read_page(render_page(collect(run, list(tasks.values())))).text
    assert "no question of stage 2 asks how two objects lie to each other" in text
    notes = {figure.note for figure in FIGURES if figure.flat in ("left_right_acc", "above_below_acc")}
    assert notes == {"COCO-Spatial, asked directly; stage 2 has no such question"}


def test_text_from_models_and_data_is_escaped(report):
    html = render_page(report)
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "kite &amp; co" in html


def test_failures_of_every_kind_are_shown_and_counted(report):
    kinds = {kind.title: (kind.total, kind.asked) for kind in choose_failures(report)}
    assert kinds == {
        "A box in the wrong place": (1, 3),
        "There, but called absent": (1, 3),
        "Absent, but given a box": (1, 3),
        "Called something else": (1, 3),
        "Could not be read": (2, 9),
    }


def test_scenes_are_drawn_by_the_seed_and_not_by_the_result(report):
    assert sorted(choose_scenes(report)) == ["r0", "r1", "r2"]
    assert choose_scenes(report, 2) == choose_scenes(report, 2)
    draws = {tuple(choose_scenes(replace(report, seed=seed), 2)) for seed in range(20)}
    assert len(draws) > 1


def test_a_picture_that_is_gone_leaves_the_page_whole(report, val, read_page):
    (val.images / "1.png").unlink()
    read_page(render_page(report))


def test_a_report_without_curves_and_timings_is_whole(run, tasks, read_page):
    for path in (run / "seconds.json", run / "stage1/metrics.jsonl", run / "stage2/metrics.jsonl"):
        path.unlink()
    page = read_page(render_page(collect(run, list(tasks.values()))))
    assert "How it learned" not in page.text
    assert "How long it took" not in page.text


def test_points_and_other_codecs_are_reported_too(run, tasks, meta, val, read_page):
    contract = CoordinateContract(codec="diga", location="point", canvas=112, patch=14)
    text = contract.write(Box(20, 10, 60, 50), contract.frame_for((200, 100)))
    meta = replace(meta, contract=contract.to_dict(), image_root=str(val.images))
    write_answers(run / "eval/stage3", tasks, meta, {"locpred": [f"It is located at {text}"] * 3})
    report = collect(run, list(tasks.values()))
    assert flat_scores(report)["locpred_acc50"] == 1
    assert "diga" in read_page(render_page(report)).text


def test_a_run_without_predictions_is_an_error(tmp_path, tasks):
    with pytest.raises(ValueError, match=r"no predictions below .*run eval/run\.py"):
        collect(tmp_path, list(tasks.values()))


def test_seconds_must_be_numbers(run, tasks):
    (run / "seconds.json").write_text('{"stage1": "long"}')
    with pytest.raises(ValueError, match="must map phase names to seconds"):
        collect(run, list(tasks.values()))


def test_goals_are_floors_or_ceilings():
    by_name = {figure.flat: figure for figure in FIGURES}
    assert is_met(by_name["locpred_acc50"], 0.8)
    assert not is_met(by_name["locpred_acc50"], 0.79)
    assert is_met(by_name["parse_failures"], 0.01)
    assert not is_met(by_name["parse_failures"], 0.011)


def test_five_hundred_scenes_stay_a_small_page(report, tmp_path, tasks, meta, val):
    rng = random.Random(0)
    texts = [rng.choice((f"It is located at {BOX}", f"It is located at {FAR}")) for _ in range(500)]
    write_answers(tmp_path / "big/eval", tasks, replace(meta, image_root=str(val.images)), {"locpred": texts})
    page = render_page(collect(tmp_path / "big", list(tasks.values())))
    assert page.count('class="said-of"') == 24
    assert len(page) < 1_000_000


def test_scenes_are_counted_by_image_however_many_tasks_ask_about_them():
    def row(record_id: str, image: str) -> SimpleNamespace:
        return SimpleNamespace(prediction=SimpleNamespace(record_id=record_id, image=image))

    judged = {"locpred": [row("a", "1.jpg"), row("b", "2.jpg")], "coco_spatial": [row("a/left", "1.jpg")]}
    assert count_scenes(judged) == 2
