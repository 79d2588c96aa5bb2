import pytest
import yaml

from locvlm.evals.task import Decoding, Task, TaskData, load_task, load_tasks

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
        ({"parse": "yes_no"}, "unknown parse 'yes_no', expected one of location, description, side"),
        ({"breakdowns": ["colour"]}, "unknown breakdowns 'colour'"),
        ({"data": {"file": "val.jsonl", "objective": "locprd"}}, "did you mean 'locpred'"),
        ({"version": "one"}, "version must be int"),
        ({"prompt": "Where is it?"}, "must hold {question}"),
        ({"decode": {"greedy": False, "temperature": 0.0}}, "must be positive to sample"),
        ({"decode": {"max_new_tokens": 0}}, "at least 1"),
        ({"name": "other"}, "name the file other.yaml"),
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
