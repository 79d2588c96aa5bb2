"""scripts/merge_lora.py, as a user runs it after a run with LoRA."""

import subprocess
import sys

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from locvlm.data.prompt import chat_template
from locvlm.data.tokenize import load_tokenizer
from locvlm.model.compose import compose, save_checkpoint
from locvlm.model.locvlm import LocVLM
from locvlm.model.lora import LoraSettings, apply_lora, save_lora
from locvlm.world.pretraining.tokenizer import train_tokenizer

TEXT = "A photo of two dogs by a red car. Where is the object located? USER: ASSISTANT: (0, 12, 34, 56) 789\n"
SMALL = LoraSettings(rank=2, alpha=4.0)


def write_base(folder) -> None:
    """A tiny starting checkpoint."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=320)).save_pretrained(folder / "llm")
    train_tokenizer([TEXT] * 20, folder / "llm" / "tokenizer.model", num_pieces=320)
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=28, patch_size=14)).save_pretrained(folder / "clip")
    tokenizer = load_tokenizer(folder / "llm")
    model = compose(llm=folder / "llm", clip=str(folder / "clip"), tokenizer=tokenizer)
    save_checkpoint(model, tokenizer, folder / "init", chat_template=chat_template("vicuna_v1"))


def run(repo_root, *words) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/merge_lora.py", *(str(word) for word in words)]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)


def test_the_lora_of_a_run_is_merged_into_the_base_that_it_names(tmp_path, repo_root):
    write_base(tmp_path)
    model = LocVLM.from_pretrained(tmp_path / "init")
    apply_lora(model, SMALL)
    name = "model.language_model.layers.1.mlp.up_proj"
    torch.nn.init.constant_(model.get_parameter(f"{name}.lora_B.default.weight"), 0.5)
    save_lora(model, tmp_path / "lora", SMALL, base=str(tmp_path / "init"))

    done = run(repo_root, "--lora", tmp_path / "lora", "--out", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"merged to {tmp_path / 'merged'}"
    merged, before = (LocVLM.from_pretrained(tmp_path / folder) for folder in ("merged", "init"))
    first = model.get_parameter(f"{name}.lora_A.default.weight").detach()
    product = 2.0 * torch.full((48, 2), 0.5) @ first  # alpha / rank = 2
    torch.testing.assert_close(
        merged.get_parameter(f"{name}.weight"), before.get_parameter(f"{name}.weight") + product
    )
    assert load_tokenizer(tmp_path / "merged").get_vocab() == load_tokenizer(tmp_path / "init").get_vocab()

    again = run(repo_root, "--lora", tmp_path / "lora", "--out", tmp_path / "merged")
    assert again.returncode != 0
    assert "exists already" in again.stderr
    wrong = run(repo_root, "--lora", tmp_path / "init", "--out", tmp_path / "other")
    assert wrong.returncode != 0
    assert "no LoRA folder" in wrong.stderr
