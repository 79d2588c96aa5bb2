from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from locvlm.answering.answerer import Decoding
from locvlm.evals.task import Task, TaskData, load_task, load_tasks
from locvlm.geometry import Box
from locvlm.objectives.locpred import PROMPTS as LOCPRED
from locvlm.objectives.render import render_query
from locvlm.objectives.revloc import PROMPTS as REVLOC
from locvlm.records import Query

VALID = {
    "name": "mine",
    "version": 1,
    "data": {"file": "val.jsonl", "objective": "locpred"},
    "parse": "location",
    "metrics": ["acc50"],
}


@pytest.fixture
def declare(tmp_path):
    """declare(key=value, ...): the path of a task file with these changes to a valid one."""

    def write(**changes):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**VALID, **changes}))
        return path

    return write


def test_every_declared_task_loads_and_says_where_the_paper_has_it(tasks):
    assert {"locpred", "absent", "present", "revloc", "coco_spatial_icl_vertical"} <= set(tasks)
    assert all(task.paper and task.version >= 1 for task in tasks.values())


def test_present_scores_the_answers_of_locpred(tasks):
    assert tasks["present"].predictions_name == "locpred"
    assert tasks["locpred"].predictions_name == "locpred"


def test_a_valid_declaration_loads_with_defaults(declare):
    task = load_task(declare())
    assert task.decode == Decoding(greedy=True)
    assert task.prompt_for("Where {is} it?") == "Where {is} it?"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrix": ["acc50"]}, "did you mean 'metrics'"),
        ({"metrics": ["miuo"]}, "did you mean 'miou'"),
        ({"metrics": []}, "at least one metric"),
        ({"parse": "yesno"}, "unknown parse 'yesno', expected one of location, description, side"),
        ({"breakdowns": ["colour"]}, "unknown breakdowns 'colour'"),
        ({"data": {"file": "val.jsonl", "objective": "locprd"}}, "did you mean 'locpred'"),
        ({"version": "one"}, "version must be int"),
        ({"prompt": "Where is it?"}, "must hold {question}"),
        ({"decode": {"greedy": False, "temperature": 0.0}}, "must be positive to sample"),
        ({"decode": {"max_new_tokens": 0}}, "at least 1"),
        ({"name": "other"}, "name the file other.yaml"),
        ({"data": {**VALID["data"], "reader": "popes"}}, "did you mean 'pope'"),
        (
            {"data": {**VALID["data"], "options": {"split": "val"}}},
            "the reader records has no option 'split'",
        ),
        ({"wording": -1}, "a number from 1, or 0"),
        ({"choose": "likelihod"}, "did you mean 'likelihood'"),
        ({"options": ["Yes", "No"]}, "options are for `choose: likelihood`"),
    ],
)
def test_a_wrong_declaration_names_the_file_and_what_is_wrong(declare, changes, message):
    with pytest.raises(ValueError, match=r"mine\.yaml") as caught:
        load_task(declare(**changes))
    assert message in str(caught.value)


def test_tasks_are_found_by_name_and_by_pattern(repo_root):
    folder = repo_root / "eval" / "tasks"
    names = [task.name for task in load_tasks(folder, ("revloc", "coco_spatial_direct_*"))]
    assert names == ["revloc", "coco_spatial_direct_horizontal", "coco_spatial_direct_vertical"]
    with pytest.raises(ValueError, match="did you mean 'locpred'"):
        load_tasks(folder, ("locpredd",))


def test_tasks_that_share_answers_must_ask_the_same(declare, tmp_path):
    other = {**VALID, "name": "same", "predictions": "mine", "decode": {"max_new_tokens": 5}}
    declare()
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(ValueError, match="its `decode` must be the same"):
        load_tasks(tmp_path, ("same",))


def test_decoding_describes_itself():
    assert Decoding().describe() == "greedy"
    assert Decoding(greedy=False).describe() == "sampled at temperature 0.2, seed 0"


def test_a_prompt_wraps_the_question():
    task = Task(
        name="t",
        version=1,
        data=TaskData(file="f", objective="vqa"),
        parse="side",
        metrics=("side_accuracy",),
        prompt="{question}\nAnswer in one word.",
    )
    assert task.prompt_for("Which {side}?") == "Which {side}?\nAnswer in one word."


def test_a_fixed_wording_is_one_of_the_objectives_prompts(tasks, contract):
    query = Query(objective="revloc", phrase="mug", box_px=Box(0, 0, 10, 10))
    for name, prompts in (("rd_refcocog_test", REVLOC), ("rec_refcocog_test", LOCPRED)):
        asked = replace(query, objective=tasks[name].data.objective)
        representation = contract.representation
        turn = render_query(
            asked, rng=tasks[name].draws("any"), location_text="(1, 2)", representation=representation
        )
        assert turn.question == prompts[0].format(loc="(1, 2)", category="mug", repr=representation)
    with pytest.raises(ValueError, match="wording 4 was asked for, there are 3"):
        replace(tasks["rd_refcocog_test"], wording=4).draws("any").choice(REVLOC)


def test_a_drawn_wording_depends_on_the_question_alone(tasks):
    draws = tasks["revloc"].draws
    assert len({draws(str(i)).choice(REVLOC) for i in range(50)}) == 3
    assert draws("a").choice(REVLOC) == draws("a").choice(REVLOC)


def test_a_task_is_located_below_the_data_root(declare, tmp_path):
    data = {"reader": "vsr", "file": "vsr.jsonl", "objective": "vqa", "image_root": "coco"}
    task = load_task(declare(data=data, parse="choice", metrics=["accuracy"]))
    located = task.located(Path("/data"))
    assert (located.data.file, located.data.image_root) == ("/data/vsr.jsonl", "/data/coco")
    assert task.located(Path("/data"), image_root=Path("pictures")).data.image_root == "pictures"
    other = task.located(Path("/data"), records=Path("mine.jsonl")).data
    assert (other.file, other.reader, other.objective) == ("mine.jsonl", "records", "vqa")
    with pytest.raises(ValueError, match="does not say where its images are; give --image-root"):
        load_task(declare()).located(Path("/data"))


def test_every_task_with_published_data_says_where_to_get_it(tasks):
    published = [task for task in tasks.values() if task.data.reader != "records"]
    assert len(published) > 20
    assert all(task.data.source and task.data.image_root for task in published)


def test_the_tasks_of_the_papers_tables_are_declared(tasks):
    rd = {"rd_refcoco_testb", "rd_refcoco_plus_testb", "rd_refcocog_val", "rd_refcocog_test"}
    rec = {f"rec_refcoco{kind}_{split}" for kind in ("", "_plus") for split in ("val", "testa", "testb")}
    others = {"gqa", "vqav2_val", "hal_coco", "hal_ade", "hal_act", "vsr_random", "vsr_zeroshot", "rcm"}
    pope = {f"pope_{setting}" for setting in ("random", "popular", "adversarial")}
    whatsup = {f"whatsup_{name}" for name in ("a", "b", "coco_one", "coco_two", "gqa_one", "gqa_two")}
    assert rd | rec | others | pope | whatsup | {"rec_refcocog_val", "rec_refcocog_test"} <= set(tasks)


def test_the_answer_of_a_choice_by_likelihood_is_described_so(tasks):
    assert tasks["vsr_random_likelihood"].describe_answers() == "the likeliest option, per token"
    assert tasks["vsr_random"].describe_answers() == "greedy"
