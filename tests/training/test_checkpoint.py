import pytest

from locvlm.io import read_json, write_json
from locvlm.training import checkpoint
from locvlm.training.checkpoint import Description


def write(run, step, *, complete=True, **changes):
    folder = run / checkpoint.STAGING / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"of step {step}")
    values = {"step": step, "stage": "stage1", "num_ranks": 1, "zero_stage": 0, "data": {}, **changes}
    checkpoint.write_description(folder, Description(**values))
    if complete:
        checkpoint.publish(run, folder.name)
    return run / folder.name


def test_the_last_checkpoint_is_the_one_with_the_highest_step(tmp_path):
    assert checkpoint.last_checkpoint(tmp_path / "nowhere") is None
    for step in (5, 10, 100, 20):
        write(tmp_path, step)
    assert checkpoint.last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_a_checkpoint_that_was_being_written_does_not_count_and_is_removed(tmp_path):
    whole = write(tmp_path, 5)
    write(tmp_path, 10, complete=False)
    (tmp_path / "checkpoint-15").mkdir()  # copied by hand, without its description
    assert checkpoint.last_checkpoint(tmp_path) == whole
    checkpoint.remove_incomplete(tmp_path)
    assert not (tmp_path / checkpoint.STAGING).exists()
    assert whole.is_dir()


def test_a_checkpoint_replaces_an_older_one_of_the_same_step(tmp_path):
    old = write(tmp_path, 5)
    (old / "weights").write_text("older")
    assert (write(tmp_path, 5) / "weights").read_text() == "of step 5"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "stage2"}, "cannot resume stage1.*of stage2"),
        ({"zero_stage": 2}, "DeepSpeed ZeRO-2.*no DeepSpeed"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, changes, message):
    folder = write(tmp_path, 5, **changes)
    with pytest.raises(ValueError, match=message):
        checkpoint.require_resumable(folder, stage="stage1", zero_stage=0)


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path):
    folder = write(tmp_path, 5)
    write_json(folder / "checkpoint.json", {**read_json(folder / "checkpoint.json"), "layout": 9, "new": 1})
    with pytest.raises(ValueError, match=r"it has layout 9, this version of LocVLM reads up to 1; use the"):
        checkpoint.describe(folder)


@pytest.mark.parametrize(
    ("gigabytes", "kept"), [(0, [1, 2, 3]), (1, [1, 2, 3]), (3e-7, [2, 3]), (1e-12, [3])]
)
def test_the_newest_checkpoints_that_fit_the_budget_are_kept(tmp_path, gigabytes, kept):
    for step in (1, 2, 3):
        write(tmp_path, step)
    checkpoint.keep_within(tmp_path, max_gb=gigabytes)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"checkpoint-{step}" for step in kept]


def test_what_a_run_goes_on_from_is_described(tmp_path):
    folder = write(tmp_path, 6, num_ranks=2, zero_stage=3)
    found = checkpoint.require_resumable(folder, stage="stage1", zero_stage=3)
    assert (found.step, found.num_ranks) == (6, 2)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint\.json.*model\.checkpoint"):
        checkpoint.require_resumable(tmp_path, stage="stage1", zero_stage=0)
