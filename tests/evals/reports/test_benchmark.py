"""A run in the paper's tables: its figures beside the printed ones, what was not run, what was trained on."""

import json
from dataclasses import replace

import pytest

from locvlm.evals.judging.verdicts import Unjudged
from locvlm.evals.parse import Said, Sides, YesNo
from locvlm.evals.reports.benchmark import build_benchmark, to_json
from locvlm.evals.reports.grid import model_name, printed_score
from locvlm.evals.reports.leakage import TrainedOn
from locvlm.evals.reports.markdown import escape, to_markdown
from locvlm.evals.reports.results import Score, measure_run
from locvlm.evals.reports.statistics import Interval
from locvlm.evals.reports.tables import Measure, load_tables


@pytest.fixture
def tables(repo_root):
    return load_tables(repo_root / "eval" / "tables")


@pytest.fixture
def build(tables, tasks):
    """build(run, ...): the paper's tables with the runs' figures."""
    return lambda *runs, **options: build_benchmark(runs, tables, list(tasks.values()), **options)


@pytest.fixture
def said(judged):
    """said("yyn"): answers to questions about COCO's images 0, 1, 2 ...: truly yes, no, yes, no ..."""

    def make(words):
        return [
            judged(
                YesNo(word == "y"),
                record=f"r{n}",
                image=f"COCO_val2014_{n:012}.jpg",
                answer="no" if n % 2 else "yes",
                said=word,
            )
            for n, word in enumerate(words)
        ]

    return make


def grid_of(benchmark, name):
    return next(grid for grid in benchmark.grids if grid.table.name == name)


def test_models_below_each_other_end_with_our_run_and_those_beside_it(build, answered, said):
    benchmark = build(answered("mine", hal_coco=said("yyyn")), answered("LLaVA here", hal_ade=said("yy")))
    [block] = grid_of(benchmark, "table_08").blocks
    ours, other = block.lines[-2:]
    assert [line.head.title for line in block.lines[:3]] == ["Shikra", "LLaVA", "LocVLM-B"]
    assert [cell.text for cell in block.lines[2].cells] == ["88.3", "75.2", "-"]
    assert (ours.head.title, ours.head.kind) == ("mine", "ours")
    assert [cell.text for cell in ours.cells] == ["75.0", "not run", "not run"]
    assert [cell.text for cell in other.cells] == ["not run", "50.0", "not run"]
    assert ours.head.detail == "x, greedy, 4 questions each"
    low, high = ours.cells[0].interval
    assert 0 < low < 75 < high <= 100


def test_models_side_by_side_have_our_run_as_the_last_column(build, answered, said):
    grid = grid_of(build(answered("mine", pope_popular=said("yyyn"))), "table_09")
    assert [head.title for head in grid.heads] == ["BLIP-2", "Shikra", "LLaVA", "LocVLM-B", "mine"]
    rows = {block.title: [line.cells[-1].text for line in block.lines] for block in grid.blocks}
    assert rows["Popular"] == ["75.0", "66.7", "100.0", "80.0", "75.0"]
    assert set(rows["Random"]) == {"not run"}
    assert [cell.text for cell in grid.blocks[1].lines[0].cells[:4]] == ["82.8", "84.0", "49.9", "86.0"]


def test_columns_of_one_task_can_be_groups_of_it(build, answered, judged):
    sides = [("left", "left"), ("left", "right"), ("right", "right")]  # (true, said)
    rows = [judged(Sides((s,)), record=f"r{n}", image=f"{n}", answer=t) for n, (t, s) in enumerate(sides)]
    direct, icl = grid_of(build(answered("mine", coco_spatial_direct_horizontal=rows)), "table_04").blocks
    assert [cell.text for cell in direct.lines[-1].cells] == ["66.7", "50.0", "100.0"] + ["not run"] * 3
    assert {cell.text for cell in icl.lines[-1].cells} == {"not run"}


def test_sections_that_measure_the_same_share_our_row(build, answered, judged):
    rows = [judged(Said("red"), answer="red")]
    objectives, rest = grid_of(build(answered("mine", gqa=rows)), "table_11").blocks
    assert [line.head.kind for line in (*objectives.lines, *rest.lines)].count("ours") == 1
    assert rest.lines[-1].cells[0].text == "100.0"


def test_footnotes_are_numbered_where_they_belong(build, answered, said):
    grid = grid_of(build(answered("mine", pope_random=said("y"))), "table_09")
    marks = {head.title: head.marks for head in grid.heads}
    assert marks == {"BLIP-2": (), "Shikra": (2,), "LLaVA": (), "LocVLM-B": (1,), "mine": ()}
    assert grid.footnotes[0].startswith("Recall and the share of yes")
    table_5 = grid_of(build(answered("mine", pope_random=said("y"))), "table_05")
    assert table_5.heads[-1].marks == (1,)
    assert table_5.footnotes == ("VQA-T: its answers are not public; the data set's server scores it.",)
    assert table_5.remarks == ("Zero-shot: no question of these data sets was trained on.",)


def test_scores_on_images_that_were_trained_on_are_told_apart(build, answered, said):
    trained_on = TrainedOn(files=(), keys=frozenset({"coco 0", "coco 1"}))
    run = answered("mine", hal_coco=said("yyyn"), hal_ade=said("yy"))
    benchmark = build(run, trained_on=trained_on)
    clean, seen = grid_of(benchmark, "table_08").blocks[0].lines[-2:]
    assert [cell.text for cell in clean.cells] == ["100.0", "none asked", "not run"]
    assert [cell.text for cell in seen.cells] == ["50.0", "50.0", "not run"]
    assert clean.head.detail.endswith("images not in the training set")
    accuracy = Measure(task="hal_coco", metric="accuracy")
    assert benchmark.main.score(accuracy).questions == 4
    assert benchmark.main.num_seen == {"hal_coco": 2, "hal_ade": 2}


def test_so_are_those_of_tasks_that_no_table_reports(build, answered, said):
    trained_on = TrainedOn(files=(), keys=frozenset({"coco 0"}))
    text = to_markdown(build(answered("mine", vsr_random=said("yn")), trained_on=trained_on))
    head, _, first, *_ = text.split("## Other tasks")[1].strip().splitlines()
    assert head.split("|")[3].endswith("images not in the training set) ")
    assert head.split("|")[4].endswith("images in the training set) ")
    assert first.split("|")[1:3] == [" vsr\\_random ", " accuracy "]


def test_without_such_images_there_is_one_row(build, answered, said):
    trained_on = TrainedOn(files=(), keys=frozenset({"coco 99"}))
    benchmark = build(answered("mine", hal_coco=said("yy")), trained_on=trained_on)
    assert [line.head.title for line in grid_of(benchmark, "table_08").blocks[0].lines].count("mine") == 1
    assert benchmark.main.num_seen == {"hal_coco": 0}


def test_what_cannot_be_computed_is_not_run_and_the_table_says_why(build, answered, judged):
    rows = [replace(judged(Said("yes"), answer="yes"), verdict=Unjudged("not judged; run eval/judge.py"))]
    benchmark = build(answered("mine", activitynet_qa=rows))
    grid = grid_of(benchmark, "table_12")
    assert grid.blocks[0].lines[-1].cells[0].text == "not run"
    assert "judge_accuracy of activitynet_qa, mine: not judged; run eval/judge.py." in grid.remarks
    assert benchmark.main.score(Measure(task="activitynet_qa", metric="exact_match")).value == 1.0
    assert to_json(benchmark)["runs"][0]["unavailable"]["activitynet_qa judge_accuracy"].startswith(
        "not judged"
    )


def test_what_no_table_reports_and_what_was_not_run_are_listed(build, answered, said, tasks):
    benchmark = build(answered("mine", vsr_random=said("y"), hal_coco=said("y")))
    assert {measure.task for measure in benchmark.other_measures()} == {"vsr_random"}
    assert "gqa" in benchmark.not_run()
    assert "hal_coco" not in benchmark.not_run()
    assert benchmark.sources["gqa"] == tasks["gqa"].data.source


def test_runs_of_one_name_are_refused(build, answered, said):
    with pytest.raises(ValueError, match="different names, got mine, mine; give them as NAME=FOLDER"):
        build(answered("mine", hal_coco=said("y")), answered("mine", hal_coco=said("n")))


def test_json_holds_every_figure_and_with_what_it_was_made(build, answered, said):
    trained_on = TrainedOn(files=(), keys=frozenset({"coco 0"}))
    values = json.loads(
        json.dumps(to_json(build(answered("mine", hal_coco=said("yyyn")), trained_on=trained_on)))
    )
    task = values["runs"][0]["tasks"]["hal_coco"]
    assert (task["asked"], task["answered"], task["failed"], task["unreadable"]) == (4, 4, 0, 0)
    assert task["decoding"] == "greedy"
    assert "version" in task["task"]
    assert task["scores"]["all"]["accuracy"]["value"] == 0.75
    assert task["scores"]["seen"]["accuracy"] == {"value": 1.0, "interval": None, "questions": 1, "images": 1}
    [section] = next(t for t in values["tables"] if t["name"] == "table_08")["sections"]
    assert section["paper"][2] == {"model": "LocVLM-B", "facts": [], "figures": [88.3, 75.2, None]}
    assert section["measured"]["mine"]["clean"][0]["value"] == pytest.approx(2 / 3)
    assert section["measured"]["mine"]["all"][1] is None
    assert values["diagnoses"]["hal_coco"]["said"]["no"] == {"no": 1, "yes": 1}
    assert values["not_run"]["gqa"]


def test_markdown_has_the_same_figures_and_counts(build, answered, said):
    text = to_markdown(build(answered("my|run", hal_coco=said("yyyn"), vsr_random=said("y"))))
    assert "## Table 8: Object hallucination" in text
    assert "| LocVLM-B | 88.3 | 75.2 | - |" in text
    assert "| **my\\|run** (x, greedy, 4 questions each) | **75.0** (" in text
    assert "| hal\\_coco, version 1 | 4 | 4 | 0 | 0 | val.jsonl | runs/x | greedy |" in text
    assert "vsr\\_random" in text.split("## Other tasks")[1]
    assert "- gqa: https" in text.split("## Not run")[1]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 80
    assert all(line.endswith(" |") for line in rows)


def test_text_does_not_become_markdown():
    assert escape("a|b *c* <d>\n_e_ [f](g)") == r"a\|b \*c\* \<d\> \_e\_ \[f\](g)"


def test_figures_are_percent_or_have_their_own_scale():
    score = Score(value=0.4567, interval=Interval(0.4, 0.5), questions=9, images=3)
    assert printed_score(score).text == "45.7"
    assert tuple(printed_score(score).interval) == (40.0, 50.0)
    assert printed_score(replace(score, value=3.456), 1.0).text == "3.46"
    assert printed_score(None).text == "not run"


def test_a_checkpoint_is_named_by_what_tells_it_from_others():
    assert model_name("runs/a/stage2/final") == "stage2/final"
    assert model_name("llava-hf/llava-1.5-7b-hf") == "llava-1.5-7b-hf"
    assert model_name("final") == "final"


def test_every_metric_of_a_task_is_measured_beside_what_tables_ask(answered, said, tasks):
    results = measure_run(answered("mine", hal_coco=said("yn")), [])
    assert {measure.metric for _, measure in results.scores} == set(tasks["hal_coco"].metrics)
