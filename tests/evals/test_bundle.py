"""Bundles: what of them can be asked here, and what is said of the rest."""

import pytest

from locvlm.evals.bundle import load_bundle, select_tasks
from locvlm.evals.reports.tables import load_tables


@pytest.fixture
def eval_folder(repo_root):
    return repo_root / "eval"


@pytest.fixture
def paper(eval_folder):
    return load_bundle(eval_folder / "bundles" / "paper.yaml")


@pytest.fixture
def select(eval_folder, tmp_path):
    """select("paper", ...): with the data below `tmp_path`."""

    def select_below(*names, **options):
        return select_tasks(names, eval_folder / "tasks", tmp_path, **options)

    return select_below


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_the_papers_bundle_asks_what_its_tables_show(paper, eval_folder):
    shown = {task for table in load_tables(eval_folder / "tables") for task in table.tasks()}
    assert set(paper.tasks) == shown


def test_without_any_data_it_says_of_each_task_where_to_get_it(select, paper, tmp_path):
    with pytest.raises(ValueError, match="nothing to ask") as caught:
        select("paper")
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == len(paper.tasks) > 20
    (pope,) = (line for line in lines if "pope_random" in line)
    assert pope.startswith(f"left out: pope_random: there is no {tmp_path}/pope/coco_pope_random.json, no ")
    assert "coco/val2014 (images); get it: https://github.com/RUCAIBox/POPE" in pope
    (video,) = (line for line in lines if ": msvd_qa:" in line)
    assert "(images); get it: " in video


def test_what_is_here_is_asked_and_the_rest_is_told(select, paper, tmp_path):
    touch(tmp_path, "pope/coco_pope_random.json", "pope/coco_pope_popular.json", "coco/val2014.zip")
    (tmp_path / "coco" / "val2014").mkdir()
    selection = select("paper")
    assert [task.name for task in selection.tasks] == ["pope_random", "pope_popular"]
    assert selection.tasks[0].data.file == str(tmp_path / "pope" / "coco_pope_random.json")
    assert len(selection.left_out) == len(paper.tasks) - 2
    assert selection.describe_left_out().count("\nleft out: ") == len(paper.tasks) - 2


def test_frames_of_videos_need_both_files_and_the_videos(select, tmp_path):
    touch(tmp_path, "activitynet_qa/test_q.json")
    with pytest.raises(
        ValueError, match=r"activitynet_qa_frame: there is no \S+/test_a.json, no \S+/videos "
    ):
        select("paper")
    touch(tmp_path, "activitynet_qa/test_a.json", "activitynet/videos/v_a.mp4")
    selection = select("paper")
    assert {task.name for task in selection.tasks} == {"activitynet_qa_frame", "activitynet_qa"}


def test_a_zip_holds_images_too(select, tmp_path):
    touch(tmp_path, "pope/coco_pope_random.json", "val2014.zip")
    selection = select("paper", image_root=tmp_path / "val2014.zip" / "val2014")
    assert [task.name for task in selection.tasks] == ["pope_random"]


def test_a_task_that_is_named_itself_is_taken_whether_its_data_is_here_or_not(select, tmp_path):
    selection = select("paper", "gqa", "pope_random")
    assert [task.name for task in selection.tasks] == ["gqa", "pope_random"]
    assert "gqa" not in selection.left_out
    assert select("tgif_qa").of_bundles == frozenset()
    with pytest.raises(ValueError, match="no task 'papers'"):
        select("papers")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{name: mine, parts: []}", "bundle mine names no task"),
        ("{name: mine, parts: [{of: a, tasks: [x, y]}, {of: b, tasks: [x]}]}", "bundle mine names x twice"),
        ("{name: mine, parts: [{of: a, task: [x]}]}", r"parts\.0\.task"),
        ("{name: other, parts: [{of: a, tasks: [x]}]}", "name the file other.yaml"),
    ],
)
def test_a_bundle_that_makes_no_sense_is_refused_with_its_file(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_bundle(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(caught.value)


def test_a_bundle_that_names_a_task_which_is_not_there_is_refused(tmp_path):
    (tmp_path / "bundles").mkdir()
    (tmp_path / "tasks").mkdir()
    (tmp_path / "bundles" / "mine.yaml").write_text("{name: mine, parts: [{of: a, tasks: [x]}]}")
    with pytest.raises(ValueError, match="no task 'x'"):
        select_tasks(["mine"], tmp_path / "tasks", tmp_path)
