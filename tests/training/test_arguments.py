import pytest

from locvlm.config import load_config
from locvlm.training.arguments import Stage2Config, check_training, training_arguments


def config(tmp_path, text: str) -> Stage2Config:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return load_config(Stage2Config, ["--config", str(path)])


GOOD = """
model: {checkpoint: runs/init}
data: {conversations_per_step: 4, conversation: vicuna_v1, sources: [{name: a, path: a.jsonl}]}
training: {output_dir: runs/x}
"""


def test_a_learning_rate_that_yaml_reads_as_text_becomes_a_number():
    assert check_training({"output_dir": "x", "learning_rate": "1e-5"})["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", "fast"), ("bf16", 1), ("max_steps", "ten"), ("max_steps", 2.5)]
)
def test_a_training_argument_of_the_wrong_type_is_named_with_its_value(name, value):
    with pytest.raises(ValueError, match=rf"training\.{name}.*{value}"):
        check_training({"output_dir": "x", name: value})


def test_an_unknown_training_argument_names_the_nearest():
    with pytest.raises(ValueError, match=r"training\.learnin_rate .*'learning_rate'"):
        check_training({"output_dir": "x", "learnin_rate": 1.0})


def test_an_argument_that_the_loader_decides_points_to_its_place():
    with pytest.raises(ValueError, match=r"training\.dataloader_num_workers .*data\.num_workers"):
        check_training({"output_dir": "x", "dataloader_num_workers": 4})


def test_a_run_without_a_folder_is_refused():
    with pytest.raises(ValueError, match="output_dir is missing"):
        check_training({"learning_rate": 1.0})


def test_a_deepspeed_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"ds_configs/zero4\.json.*zero2\.json"):
        training_arguments({"output_dir": str(tmp_path), "deepspeed": "ds_configs/zero4.json"})


def test_ranks_that_would_train_alone_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match=r"2 ranks.*would train alone"):
        training_arguments({"output_dir": str(tmp_path), "use_cpu": False})


def test_the_cpu_is_chosen_where_there_is_nothing_else(tmp_path):
    import torch

    args = training_arguments({"output_dir": str(tmp_path)})
    assert args.use_cpu is not torch.cuda.is_available()
    assert args.lr_scheduler_type == "cosine"
    assert args.weight_decay == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("checkpoint:", "chekpoint:", r"model\.chekpoint.*checkpoint"),
        ("vicuna_v1", "vicuna", r"data\.conversation.*'vicuna'.*'vicuna_v1'"),
        ("sources: [{name: a, path: a.jsonl}]", "sources: []", r"data\.sources is empty"),
        (
            "conversations_per_step: 4",
            "conversations_per_step: four",
            r"data\.conversations_per_step.*'four'",
        ),
        ("training:", "coords: {codec: ibv}\ntraining:", r"coords\.codec.*'ibv'.*'ivb'"),
        ("training:", "evaluation: {keep_best_on: a}\ntraining:", r"every_steps"),
    ],
)
def test_a_wrong_entry_is_named_with_what_would_be_right(tmp_path, old, new, message):
    assert config(tmp_path, GOOD).data.conversations_per_step == 4
    with pytest.raises(ValueError, match=message):
        config(tmp_path, GOOD.replace(old, new, 1))
