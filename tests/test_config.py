import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from locvlm.config import convert, load_config, save_config
from locvlm.config_text import to_dict


@dataclass(frozen=True, kw_only=True)
class Source:
    path: Path  # a JSON Lines file
    weight: float = 1.0  # share of the mixture
    kind: Literal["records", "llava"] = "records"


@dataclass(frozen=True, kw_only=True)
class Data:
    sources: tuple[Source, ...] = ()
    num_workers: int = 2  # processes per rank
    shuffle: bool = True
    limit: int | None = None
    mean: tuple[float, float] = (0.5, 0.5)
    train: tuple[str, ...] = ("adapter",)

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {self.num_workers}")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    every_steps: int = 100


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run for these tests."""

    name: str
    data: Data = field(default_factory=Data)
    evaluation: Evaluation | None = None
    training: dict[str, Any] = field(default_factory=dict)


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return load_config(Config, ["--config", str(path), *overrides])


FULL = """
name: first
data:
  sources:
    - {path: a.jsonl, weight: 2}
    - {path: b.jsonl, kind: llava}
  limit: 7
training: {learning_rate: 1e-5, bf16: true}
"""


def test_yaml_becomes_nested_frozen_dataclasses(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    assert config == Config(
        name="first",
        data=Data(
            sources=(Source(path=Path("a.jsonl"), weight=2.0), Source(path=Path("b.jsonl"), kind="llava")),
            limit=7,
        ),
        training={"learning_rate": "1e-5", "bf16": True},
    )
    assert isinstance(config.data.sources[0].weight, float)


def test_overrides_are_read_by_the_type_of_their_field(tmp_path: Path) -> None:
    config = load(
        tmp_path, FULL, "--name", "2024", "--data.sources.1.weight=1e-2", "--data.limit", "null",
        "--data.shuffle", "false", "--data.mean", "[0, 1]", "--data.num_workers=0", "--training.seed", "3",
        "--training.optim_args.beta", "0.9", "--evaluation.every_steps", "5",
        "--local_rank=1", "--local-rank", "0",
    )  # fmt: skip
    assert config.name == "2024"
    assert config.data.sources[1].weight == 0.01
    assert config.data.limit is None
    assert config.data.shuffle is False
    assert config.data.mean == (0.0, 1.0)
    assert config.data.num_workers == 0
    assert config.training == {"learning_rate": "1e-5", "bf16": True, "seed": 3, "optim_args": {"beta": 0.9}}
    assert type(config.training["learning_rate"]) is str
    assert config.evaluation == Evaluation(every_steps=5)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("name: a\nnmae: b", [], "unknown key 'nmae'; did you mean 'name'"),
        (
            "name: a\ndata: {num_worker: 2}",
            [],
            "unknown key 'data.num_worker'; did you mean 'data.num_workers'",
        ),
        ("name: a\nnum_workers: 2", [], "did you mean 'data.num_workers'"),
        ("name: a", ["--data.sufle", "true"], "did you mean 'data.shuffle'"),
        ("data: {}", [], "name is missing"),
        ("name: 3", [], 'name must be text, got 3 (int); put quotes around it: "3"'),
        ("name: on", [], "put quotes around the text"),
        (
            "name: a\ndata: {num_workers: 1e3}",
            [],
            "must be int, got '1e3' (text); write a whole number",
        ),
        ("name: a\ndata: {num_workers: true}", [], "data.num_workers must be int, got True (bool)"),
        ("name: a\ndata: {num_workers: 2.0}", [], "data.num_workers must be int, got 2.0 (float)"),
        ("name: a\ndata: {num_workers: -1}", [], "data: num_workers must be 0 or more, got -1"),
        ("name: a\ndata: {shuffle: 1}", [], "data.shuffle must be true or false, got 1 (int)"),
        (
            "name: a\ndata: {train: adapter}",
            [],
            "data.train must be list of text, got 'adapter' (text); write a list",
        ),
        ("name: a\ndata: {mean: [1]}", [], "data.mean must have 2 entries, got 1"),
        ("name: a\ndata: {limit: few}", [], "data.limit must be int"),
        ("name: a\ndata: {sources: [{path: a, kind: record}]}", [], "did you mean 'records'"),
        ("name: a\ndata: {sources: [{path: a, weight: heavy}]}", [], "data.sources.0.weight must be float"),
        ("name: a\nname: b", [], "the key 'name' is given twice"),
        ("- a\n- b", [], "expected 'key: value' lines"),
        ("name: [", [], "not valid YAML"),
        ("name: a", ["--data.num_workers"], "--data.num_workers needs a value"),
        ("name: a", ["--data.shuffle", "--name", "b"], "--data.shuffle needs a value"),
        ("name: a", ["stray"], "got 'stray'"),
        ("name: a", ["--name.first", "b"], "name is 'a' and has no keys"),
        (
            "name: a\ndata: {sources: [{path: a}]}",
            ["--data.sources.1.path", "b"],
            "expected an index from 0 to 0",
        ),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_do(
    tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path, text, *overrides)


def test_a_missing_config_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"no config file nowhere\.yaml"):
        load_config(Config, ["--config", "nowhere.yaml"])


def test_extends_merges_sections_and_replaces_lists(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(FULL)
    config = load(
        tmp_path,
        "extends: base.yaml\nname: second\ndata: {num_workers: 0, train: [llm]}\ntraining: {bf16: false}",
    )
    assert (config.name, config.data.num_workers, config.data.limit) == ("second", 0, 7)
    assert config.data.train == ("llm",)
    assert config.training == {"learning_rate": "1e-5", "bf16": False}


def test_a_file_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: run.yaml")
    with pytest.raises(ValueError, match="comes back to this file"):
        load(tmp_path, "extends: base.yaml")


def test_a_saved_config_loads_as_an_equal_one(tmp_path: Path) -> None:
    config = load(tmp_path, FULL, "--data.sources.0.weight", "1e-5")
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(Config, ["--config", str(tmp_path / "saved.yaml")]) == config
    assert to_dict(config)["data"]["sources"][0] == {"path": "a.jsonl", "weight": 1e-5, "kind": "records"}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (float, "1e-5", 1e-5), (float, 2, 2.0), (float | None, "3e-4", 3e-4), (int | float, 2, 2),
        (str | None, None, None), (float | str, "1e-5", "1e-5"), (dict | str | None, {"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_convert_serves_the_types_of_training_arguments(kind: Any, value: Any, expected: Any) -> None:
    result = convert(kind, value, "training.x")
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize("text", ["nan", "inf", "1e", "", "0x10", "five"])
def test_text_that_is_no_plain_number_is_no_float(text: str) -> None:
    with pytest.raises(ValueError, match="x must be float"):
        convert(float, text, "x")


def test_help_lists_every_key_with_type_default_and_comment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        load_config(Config, ["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert "A run for these tests." in text
    assert "--name text (required)" in text
    assert "--data.sources.N.weight float (default: 1.0)\n    share of the mixture" in text
    assert "--data.num_workers int (default: 2)\n    processes per rank" in text
    assert "--evaluation.every_steps int (default: 100)" in text


def test_reading_a_config_does_not_import_torch() -> None:
    code = "import sys, locvlm.config, locvlm.runs, locvlm.log; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
