import pytest
import torch

from locvlm.io import read_json, read_jsonl, write_jsonl
from locvlm.model.freeze import freeze
from locvlm.model.locvlm import LocVLM
from locvlm.training.checkpoint import last_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stage1")


@pytest.fixture
def stage1(tiny_world, run_stage, folder):
    """The folder of one run of stage 1, made by the first test that asks."""
    if not (folder / "run").exists():
        run_stage(
            1,
            tiny_world.stage(
                1, folder / "run", "--training.max_steps", "20", "--training.learning_rate", "0.3"
            ),
        )
    return folder / "run"


def test_the_loss_falls_and_the_run_leaves_what_it_was(stage1, rows_of):
    losses = [row["loss"] for row in rows_of(stage1)]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.1  # a frozen random language model can do little more
    for name in ("config.yaml", "environment.json", "freeze_table.json", "first_batch.txt"):
        assert (stage1 / name).is_file(), name
    assert list((stage1 / "runs").rglob("events.out.tfevents*"))


def test_a_row_of_metrics_says_what_a_step_costs(stage1, rows_of):
    row = rows_of(stage1)[-1]
    expected = {"step", "epoch", "loss", "grad_norm", "lr", "tokens_per_s", "pairs_per_s", "data_wait_s"}
    assert expected | {"supervised_fraction", "tflops_per_s"} <= row.keys()
    assert row["epoch"] == 10  # 20 steps of 6 of the 12 records
    assert 0 < row["supervised_fraction"] < 1


def test_captions_alone_are_supervised_and_the_branches_of_an_image_share_it(stage1):
    lines = (stage1 / "first_batch.txt").read_text().splitlines()
    branches = [line for line in lines if line.startswith("    |")]
    assert sum("<image> x 16" in line for line in lines) * 2 == len(branches)
    assert all(line.startswith("    | >>>") and line.endswith("\\n<<<") for line in branches)


def test_checkpoints_hold_the_adapter_and_never_the_language_model(stage1, weights_of):
    for folder in (stage1 / "final", last_checkpoint(stage1)):
        assert set(weights_of(folder)) == {
            f"linear_{i}.{part}" for i in (1, 2) for part in ("weight", "bias")
        }
    assert not list(stage1.rglob("model*.safetensors"))
    optimizer = torch.load(last_checkpoint(stage1) / "optimizer.pt", weights_only=True)
    assert len(optimizer["state"]) == 2  # weight and bias of the linear adapter's first layer


def test_only_the_adapter_trains(stage1, tiny_world):
    rows = {row["part"]: row for row in read_json(stage1 / "freeze_table.json")}
    model = LocVLM.from_pretrained(tiny_world.init)
    assert [vars_of(row) for row in freeze(model, train=("adapter",))] == list(rows.values())
    assert rows["llm"]["num_trained"] == rows["vision_tower"]["num_trained"] == 0
    assert rows["adapter"]["num_trained"] == 32 * 32 + 32


def vars_of(row):
    return {"part": row.part, "num_trained": row.num_trained, "num_total": row.num_total}


def test_a_finished_run_is_not_run_again(stage1, tiny_world, run_stage):
    before = (stage1 / "metrics.jsonl").read_bytes()
    run_stage(1, tiny_world.stage(1, stage1, "--training.max_steps", "20", "--training.learning_rate", "0.3"))
    assert (stage1 / "metrics.jsonl").read_bytes() == before


def test_a_resumed_adapter_equals_an_uninterrupted_one(stage1, tiny_world, run_stage, tmp_path, weights_of):
    more = ("--training.max_steps", "20", "--training.learning_rate", "0.3")
    (tmp_path / "run").mkdir()
    checkpoint = stage1 / "checkpoint-10"
    arguments = tiny_world.stage(
        1, tmp_path / "run", *more, "--training.resume_from_checkpoint", str(checkpoint)
    )
    run_stage(1, arguments)
    whole, resumed = weights_of(stage1 / "final"), weights_of(tmp_path / "run" / "final")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [row["step"] for _, row in read_jsonl(tmp_path / "run" / "metrics.jsonl")] == list(range(11, 21))


def test_a_missing_image_is_counted_up_to_a_limit(tiny_world, run_stage, tmp_path):
    rows = [row for _, row in read_jsonl(tiny_world.captions)]
    write_jsonl(tmp_path / "captions.jsonl", [{**rows[0], "image": "nowhere.png"}, *rows[1:]])
    few_steps = ("--data.sources.0.path", str(tmp_path / "captions.jsonl"), "--training.max_steps", "2")
    allowed = tiny_world.stage(1, tmp_path / "allowed", *few_steps, "--data.max_dropped_fraction", "0.1")
    run_stage(1, allowed)
    dropped = read_json(tmp_path / "allowed" / "dropped.json")
    assert [ledger["dropped"] for ledger in dropped["by_rank"]] == [1]
    with pytest.raises(ValueError, match=r"nowhere\.png|unreadable image"):
        run_stage(1, tiny_world.stage(1, tmp_path / "refused", *few_steps))


def test_an_empty_data_set_is_refused(tiny_world, run_stage, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match=r"empty\.jsonl is empty"):
        run_stage(
            1, tiny_world.stage(1, tmp_path / "run", "--data.sources.0.path", str(tmp_path / "empty.jsonl"))
        )
