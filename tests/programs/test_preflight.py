import runpy
import shutil

import pytest

from locvlm.io import read_json, read_jsonl, write_jsonl


@pytest.fixture
def preflight(monkeypatch, repo_root):
    """preflight(arguments...): scripts/preflight.py in this process, from the checkout; its exit status."""

    def run(*arguments):
        monkeypatch.chdir(repo_root)
        monkeypatch.setattr("sys.argv", ["scripts/preflight.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path("scripts/preflight.py", run_name="__main__")
        return ended.value.code

    return run


@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_that_is_well_passes_and_leaves_nothing_behind(preflight, tiny_world, tmp_path, capsys, stage):
    out = tmp_path / "preflight.json"
    run = tmp_path / "deep" / "run"
    status = preflight(*tiny_world.stage(stage, run), "--steps", "4", "--json", out, "--local_rank=0")
    text, values = capsys.readouterr().out, read_json(out)
    assert status == 0, text
    assert values["trial"]["repeated_loss"] == values["trial"]["losses"][-1]  # to the last bit, on a CPU
    assert len(values["trial"]["losses"]) == 4
    assert values["trial"]["checkpoint_bytes"] > values["trial"]["weight_bytes"] > 0
    assert "<image> x 16" in text
    assert ">>>" in text  # what is supervised
    assert not list((tmp_path / "deep").iterdir())


def test_lora_is_tried_as_it_would_train(preflight, tiny_world, tmp_path):
    out = tmp_path / "preflight.json"
    lora = ("--lora.rank", "4", "--lora.dropout", "0.1")
    assert preflight(*tiny_world.stage(2, tmp_path / "run", *lora), "--steps", "3", "--json", out) == 0
    values = read_json(out)
    assert values["trial"]["repeated_loss"] == values["trial"]["losses"][-1]


@pytest.mark.parametrize("trains", ["adapter", "adapter_and_llm"])
def test_stage_3_is_tried_with_its_videos(preflight, stage3_of, tmp_path, capsys, trains):
    out = tmp_path / "preflight.json"
    arguments = stage3_of(tmp_path / "run", "--trains", trains)
    assert preflight(*arguments, "--steps", "3", "--json", out) == 0
    values = read_json(out)
    assert values["trial"]["repeated_loss"] == values["trial"]["losses"][-1]
    assert "<image> x 20" in capsys.readouterr().out  # four frames and 16 patches
    assert sum(facts["videos"] for facts in values["survey"]["steps"]) > 0


def test_what_would_stop_the_run_is_a_failure(preflight, tiny_world, tmp_path, capsys):
    rows = [row for _, row in read_jsonl(tiny_world.records)]
    rows[3]["image"] = "nowhere.png"
    write_jsonl(tmp_path / "broken.jsonl", rows)
    arguments = tiny_world.stage(2, tmp_path / "run", "--data.sources.0.path", tmp_path / "broken.jsonl")
    allowed = ("--data.max_dropped_fraction", "0.05")
    assert preflight(*arguments, *allowed, "--model.adapter", tmp_path / "none", "--steps", "3") == 1
    text = capsys.readouterr().out
    assert "failure  8.3% of the images that cannot be read" in text
    assert "failure  model.adapter is not there yet" in text


def test_a_folder_of_another_preflight_is_left_alone(tiny_world, tmp_path, monkeypatch, repo_root):
    folder = tmp_path / "run.preflight"
    folder.mkdir()
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr("sys.argv", ["scripts/preflight.py", *tiny_world.stage(2, tmp_path / "run")])
    with pytest.raises(ValueError, match="another preflight is running, or one was killed"):
        runpy.run_path("scripts/preflight.py", run_name="__main__")
    assert folder.is_dir()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "2"), "--steps must be at least 3"),
        (("--packing.max_row_tokens", "4096"), r"4096.*1024 positions"),
        (("--packing.max_row_tokens", "60"), r"no step of the run can be made: .*longer than a row"),
    ],
)
def test_what_the_run_would_refuse_is_refused(
    tiny_world, tmp_path, monkeypatch, repo_root, arguments, message
):
    monkeypatch.chdir(repo_root)
    command = ["scripts/preflight.py", *tiny_world.stage(2, tmp_path / "run"), *arguments]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(ValueError, match=message):
        runpy.run_path("scripts/preflight.py", run_name="__main__")
    assert not list(tmp_path.iterdir())
