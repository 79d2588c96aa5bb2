import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoProcessor

from locvlm.constants import PREEMPTED_EXIT_CODE
from locvlm.coords.contract import CoordinateContract
from locvlm.io import read_json, read_jsonl, write_json, write_jsonl
from locvlm.model.adapter import save_adapter
from locvlm.model.locvlm import LocVLM

STEPS = ("--training.max_steps", "20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stage2")


@pytest.fixture
def stage2(tiny_world, run_stage, folder):
    """The folder of one run of stage 2, made by the first test that asks."""
    if not (folder / "run").exists():
        run_stage(2, tiny_world.stage(2, folder / "run", *STEPS))
    return folder / "run"


def test_the_loss_falls_and_the_final_folder_loads_with_its_processor(stage2, rows_of, tiny_world):
    losses = [row["loss"] for row in rows_of(stage2)]
    assert sum(losses[-5:]) < sum(losses[:5]) - 1
    model = LocVLM.from_pretrained(stage2 / "final")
    start = LocVLM.from_pretrained(tiny_world.init)
    moved = {
        part
        for (name, after), before in zip(model.named_parameters(), start.parameters(), strict=True)
        for part in ("vision_tower", "multi_modal_projector", "language_model", "lm_head")
        if part in name and not torch.equal(after, before)
    }
    assert moved == {"multi_modal_projector", "language_model", "lm_head"}
    assert model.contract == start.contract
    assert AutoProcessor.from_pretrained(stage2 / "final").image_token == "<image>"


def signal_in_step_8(command: list[str], run: Path, number: signal.Signals, *, cwd: Path) -> int:
    """Start a run, signal it once it has logged step 7, and give back its exit status."""
    log = run.with_name("log")
    with open(log, "w") as out:
        process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=out)
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").is_file() or '"step": 7' not in (run / "metrics.jsonl").read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(number)
        return process.wait()


def test_a_killed_run_goes_on_to_the_same_weights(
    stage2, tiny_world, tmp_path, repo_root, rows_of, weights_of
):
    run = tmp_path / "run"
    command = [sys.executable, "train/stage2.py", *tiny_world.stage(2, run, *STEPS)]
    signal_in_step_8(command, run, signal.SIGKILL, cwd=repo_root)
    assert (run / "checkpoint-5").is_dir()
    assert not (run / "final").exists()

    subprocess.run(command, cwd=repo_root, check=True, capture_output=True)

    assert [row["loss"] for row in rows_of(run)] == [row["loss"] for row in rows_of(stage2)]
    whole, resumed = weights_of(stage2 / "final"), weights_of(run / "final")
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) == 0.0


def test_a_run_killed_while_it_saves_goes_on_to_the_same_weights(
    stage2, tiny_world, tmp_path, repo_root, rows_of, weights_of
):
    run = tmp_path / "run"
    arguments = tiny_world.stage(2, run, *STEPS, "--training.save_steps", "1")
    command = [sys.executable, "train/stage2.py", *arguments]
    for _ in range(5):  # a save may end between the look and the signal
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(command, cwd=repo_root, stdout=log, stderr=log)
            while not ((run / "incomplete").exists() and (run / "checkpoint-2").exists()):
                assert process.poll() is None, (tmp_path / "log").read_text()
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (run / "incomplete").exists():
            break
    assert (run / "incomplete").exists()

    done = subprocess.run(command, cwd=repo_root, check=True, capture_output=True, text=True)

    assert "was stopped before it was complete" in done.stderr
    assert not (run / "incomplete").exists()
    assert [row["loss"] for row in rows_of(run)] == [row["loss"] for row in rows_of(stage2)]
    whole, resumed = weights_of(stage2 / "final"), weights_of(run / "final")
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) == 0.0


def test_a_run_that_is_told_to_leave_saves_and_says_so_by_its_exit_status(
    stage2, tiny_world, tmp_path, repo_root, run_stage, rows_of, weights_of
):
    run = tmp_path / "run"
    arguments = tiny_world.stage(2, run, *STEPS)
    command = [sys.executable, "train/stage2.py", *arguments]
    assert signal_in_step_8(command, run, signal.SIGUSR1, cwd=repo_root) == PREEMPTED_EXIT_CODE
    step = read_json(run / "preempted.json")["step"]
    assert step >= 8
    assert (run / f"checkpoint-{step}" / "checkpoint.json").is_file()
    assert not (run / "final").exists()

    run_stage(2, arguments)

    assert not (run / "preempted.json").exists()
    assert [row["loss"] for row in rows_of(run)] == [row["loss"] for row in rows_of(stage2)]
    whole, resumed = weights_of(stage2 / "final"), weights_of(run / "final")
    assert max(float((whole[name] - resumed[name]).abs().max()) for name in whole) == 0.0


def test_a_finished_run_is_prolonged_only_when_asked_to(stage2, tiny_world, run_stage, tmp_path, rows_of):
    run = shutil.copytree(stage2, tmp_path / "run")
    arguments = tiny_world.stage(2, run, "--training.max_steps", "22")
    with pytest.raises(ValueError, match=r"training\.max_steps: 20 there, 22 here.*checkpoint-20"):
        run_stage(2, arguments)
    run_stage(2, [*arguments, "--training.resume_from_checkpoint", str(run / "checkpoint-20")])
    assert [row["step"] for row in rows_of(run)] == list(range(1, 23))


def test_an_adapter_of_stage_1_is_taken_over(tiny_world, run_stage, tmp_path, weights_of):
    model = LocVLM.from_pretrained(tiny_world.init)
    torch.nn.init.normal_(model.model.multi_modal_projector.linear_1.weight)
    save_adapter(model, tmp_path / "adapter")
    no_learning = ("--training.max_steps", "1", "--training.learning_rate", "0")
    arguments = tiny_world.stage(
        2, tmp_path / "run", "--model.adapter", str(tmp_path / "adapter"), *no_learning
    )
    run_stage(2, arguments)
    final = LocVLM.from_pretrained(tmp_path / "run" / "final")
    expected = model.model.multi_modal_projector.state_dict()
    for name, weight in final.model.multi_modal_projector.state_dict().items():
        assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("change", [{"frame": "pad"}, {"canvas": 112}, {"llm_width": 64}, {"kind": "mlp"}])
def test_an_adapter_that_does_not_fit_is_refused(tiny_world, run_stage, tmp_path, change):
    save_adapter(LocVLM.from_pretrained(tiny_world.init), tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    write_json(config, {**read_json(config), **change})
    arguments = tiny_world.stage(2, tmp_path / "run", "--model.adapter", str(tmp_path / "adapter"))
    (name,) = change
    with pytest.raises(ValueError, match=rf"does not fit this model: {name} "):
        run_stage(2, arguments)


@pytest.mark.parametrize("choice", [("codec", "nfp"), ("frame", "pad"), ("location", "point")])
def test_a_trained_checkpoint_keeps_its_coordinates(stage2, tiny_world, run_stage, tmp_path, choice):
    name, value = choice
    on_top = ("--model.checkpoint", str(stage2 / "final"), f"--coords.{name}", value)
    with pytest.raises(ValueError, match=rf"trained with other coordinates.*{name}: got '{value}'"):
        run_stage(2, tiny_world.stage(2, tmp_path / "run", *on_top))


def test_before_training_the_coordinates_are_chosen_and_then_stored(tiny_world, run_stage, tmp_path):
    choice = ("--coords.codec", "nfp", "--coords.frame", "pad", "--training.max_steps", "1")
    run_stage(2, tiny_world.stage(2, tmp_path / "run", *choice))
    model = LocVLM.from_pretrained(tmp_path / "run" / "final")
    assert model.contract == CoordinateContract(
        codec="nfp", frame="pad", location="bbox", canvas=56, patch=14
    )
    assert AutoProcessor.from_pretrained(tmp_path / "run" / "final").image_processor.do_pad
    assert ">>>It is located at (0." in (tmp_path / "run" / "first_batch.txt").read_text().replace(
        ">>> ", ">>>"
    )


def test_a_checkpoint_without_coordinates_asks_for_them(tiny_world, run_stage, tmp_path):
    model = LocVLM.from_pretrained(tiny_world.init)
    model.config.locvlm = None
    model.save_pretrained(tmp_path / "public")
    for path in tiny_world.init.glob("*token*"):
        (tmp_path / "public" / path.name).write_bytes(path.read_bytes())
    arguments = tiny_world.stage(2, tmp_path / "run", "--model.checkpoint", str(tmp_path / "public"))
    with pytest.raises(ValueError, match=r"set coords\.codec, coords\.frame, coords\.location"):
        run_stage(2, arguments)


def test_llava_conversations_are_mixed_in_text_only_ones_included(tiny_world, run_stage, tmp_path):
    turns = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi."}]
    (tmp_path / "chat.json").write_text(
        json.dumps([{"id": f"t{i}", "conversations": turns} for i in range(12)])
    )
    source = {"name": "chat", "path": str(tmp_path / "chat.json"), "kind": "llava"}
    config = {
        "extends": "CONFIG",
        "data": {"sources": [{"name": "tiny", "path": str(tiny_world.records)}, source]},
    }
    config["data"]["sources"][0]["image_root"] = str(tiny_world.images)
    config["extends"] = os.path.relpath("train/configs/tiny.yaml", tmp_path)
    (tmp_path / "mixed.yaml").write_text(json.dumps(config))
    arguments = ["--config", str(tmp_path / "mixed.yaml"), "--training.max_steps", "2"]
    arguments += [
        "--training.per_device_train_batch_size",
        "4",
        "--training.gradient_accumulation_steps",
        "1",
    ]
    arguments += ["--model.checkpoint", str(tiny_world.init), "--training.output_dir", str(tmp_path / "run")]
    run_stage(2, arguments)
    text = (tmp_path / "run" / "first_batch.txt").read_text()
    assert "<image> x 16" in text
    assert "Hello ASSISTANT:" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--training.learning_rte", "1"), r"training\.learning_rte.*'learning_rate'"),
        (("--packing.max_row_token", "1"), r"packing\.max_row_token\b.*max_row_tokens"),
        (("--coords.codec", "base64"), r"coords\.codec.*'ivb'"),
        (("--training.learning_rate", "high"), r"training\.learning_rate.*'high'"),
        (
            ("--model.checkpoint", "runs/nowhere"),
            r"model\.checkpoint.*runs/nowhere|no tokenizer.*|runs/nowhere",
        ),
        (("--packing.max_row_tokens", "4096"), r"4096.*1024 positions"),
    ],
)
def test_a_wrong_argument_is_an_error_that_says_so(tiny_world, run_stage, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run_stage(2, tiny_world.stage(2, tmp_path / "run", *arguments))


def test_a_malformed_record_is_named_by_file_and_line(tiny_world, run_stage, tmp_path):
    rows = [row for _, row in read_jsonl(tiny_world.records)]
    rows[7]["queries"][0]["objective"] = "locperd"
    write_jsonl(tmp_path / "broken.jsonl", rows)
    arguments = tiny_world.stage(2, tmp_path / "run", "--data.sources.0.path", str(tmp_path / "broken.jsonl"))
    with pytest.raises(ValueError, match=r"broken\.jsonl:8.*locperd.*locpred"):
        run_stage(2, arguments)


def test_weights_of_another_shape_are_refused(tiny_world, run_stage, tmp_path):
    save_adapter(LocVLM.from_pretrained(tiny_world.init), tmp_path / "adapter")
    save_file({"linear_1.weight": torch.zeros(2, 2)}, tmp_path / "adapter" / "adapter.safetensors")
    with pytest.raises(ValueError, match=r"3 missing: linear_1\.bias.*linear_1\.weight has shape \(2, 2\)"):
        run_stage(2, tiny_world.stage(2, tmp_path / "run", "--model.adapter", str(tmp_path / "adapter")))


def test_an_evaluation_during_training_is_logged_and_keeps_the_best(tiny_world, run_stage, tmp_path):
    asked = {
        "tasks": "[locpred, revloc]",
        "every_steps": 1,
        "num_questions": 4,
        "keep_best_on": "locpred_miou",
    }
    (tmp_path / "localize_val.jsonl").write_bytes(tiny_world.records.read_bytes())
    roots = {"data_root": tmp_path, "image_root": tiny_world.images}
    options = [
        text for name, value in {**asked, **roots}.items() for text in (f"--evaluation.{name}", str(value))
    ]
    run_stage(2, tiny_world.stage(2, tmp_path / "run", "--training.max_steps", "2", *options))
    rows = [row for _, row in read_jsonl(tmp_path / "run" / "metrics.jsonl") if "eval/locpred_miou" in row]
    assert [row["step"] for row in rows] == [1, 2]
    best = read_json(tmp_path / "run" / "best" / "best.json")
    assert best["value"] == max(row["eval/locpred_miou"] for row in rows)
    assert LocVLM.from_pretrained(tmp_path / "run" / "best").contract.codec == "ivb"
