"""scripts/init_checkpoint.py, then scripts/export_hf.py, as a user runs them."""

import json
import runpy
import shutil
import subprocess
import sys

import pytest
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)


def run(repo_root, *words) -> subprocess.CompletedProcess:
    command = [sys.executable, *(str(word) for word in words)]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)


@pytest.fixture
def checkpoint(tmp_path, repo_root, shared_data):
    """A tiny model with LLaMA's own tokenizer."""
    text = LlamaConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=32000
    )
    LlamaForCausalLM(text).save_pretrained(tmp_path / "llm")
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    CLIPVisionModel(vision).save_pretrained(tmp_path / "clip")
    parts = ["--llm", tmp_path / "llm", "--clip", tmp_path / "clip", "--tokenizer", shared_data / "tokenizer"]
    done = run(repo_root, "scripts/init_checkpoint.py", *parts, "--out", tmp_path / "init")
    assert done.returncode == 0, done.stderr
    return tmp_path / "init"


def test_a_checkpoint_is_exported_and_the_ids_are_those_of_llava_1_5(checkpoint, repo_root, tmp_path):
    out = tmp_path / "tiny-locvlm"
    done = run(
        repo_root, "scripts/export_hf.py", "--checkpoint", checkpoint, "--out", out, "--dtype", "bfloat16"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"exported to {out}"
    config = AutoModelForImageTextToText.from_pretrained(out).config
    # as in huggingface.co/llava-hf/llava-1.5-7b-hf
    assert (config.image_token_id, config.pad_token_id, config.text_config.vocab_size) == (
        32000,
        32001,
        32064,
    )

    again = run(repo_root, "scripts/export_hf.py", "--checkpoint", checkpoint, "--out", out)
    assert again.returncode != 0
    assert "exists already" in again.stderr
    assert not again.stdout


@pytest.mark.parametrize(
    ("words", "ends", "architecture"),
    [
        ((), ", for videos and images", "LocVLMVideo"),
        (("--class", "stock"), "", "LlavaForConditionalGeneration"),
    ],
)
def test_a_checkpoint_of_stage_3_is_exported_for_videos_or_as_stock_llava(
    tiny_world, repo_root, tmp_path, monkeypatch, capsys, words, ends, architecture
):
    folder = shutil.copytree(tiny_world.init, tmp_path / "stage3")
    config = json.loads((folder / "config.json").read_text())
    config["locvlm"]["video"] = {"num_frames": 4, "order": "temporal_spatial", "pad_frames": None}
    (folder / "config.json").write_text(json.dumps(config))
    out = tmp_path / "tiny-vid"
    command = ["export_hf.py", "--checkpoint", str(folder), "--out", str(out), *words]
    monkeypatch.setattr("sys.argv", command)
    runpy.run_path(str(repo_root / "scripts" / "export_hf.py"), run_name="__main__")
    assert capsys.readouterr().out.strip() == f"exported to {out}{ends}"
    assert json.loads((out / "config.json").read_text())["architectures"] == [architecture]
