"""scripts/init_checkpoint.py: parts in, one whole Hugging Face folder out."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from locvlm.data.prompt import chat_template
from locvlm.data.tokenize import load_tokenizer
from locvlm.model.compose import CoordinateChoice, compose, save_checkpoint
from locvlm.model.locvlm import LocVLM
from locvlm.model.vision import patch_features
from locvlm.world.pretraining.tokenizer import train_tokenizer

TEXT = "A photo of two dogs by a red car. Where is the object located? USER: ASSISTANT: (0, 12, 34, 56) 789\n"
OLD_VOCABULARY = 320


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """llm/ (sentencepiece tokenizer, tied embeddings) and clip/."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("parts")
    llm = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            vocab_size=OLD_VOCABULARY,
            tie_word_embeddings=True,
        )
    )
    llm.save_pretrained(folder / "llm")
    train_tokenizer([TEXT] * 20, folder / "llm" / "tokenizer.model", num_pieces=OLD_VOCABULARY)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    CLIPVisionModel(vision).save_pretrained(folder / "clip")
    return folder


def build(parts, **options):
    tokenizer = load_tokenizer(parts / "llm")
    return compose(llm=parts / "llm", clip=str(parts / "clip"), tokenizer=tokenizer, **options), tokenizer


def test_the_program_writes_a_folder_that_loads_as_it_is(parts, tmp_path, repo_root):
    out = tmp_path / "init"
    command = [sys.executable, "scripts/init_checkpoint.py", "--llm", parts / "llm", "--clip", parts / "clip"]
    command += ["--adapter", "mlp", "--codec", "nfp", "--frame", "pad", "--seed", "3", "--out", out]
    done = subprocess.run(
        [str(word) for word in command], cwd=repo_root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model, info = LocVLM.from_pretrained(out, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (model.contract.codec, model.contract.frame, model.contract.canvas) == ("nfp", "pad", 28)
    assert model.config.locvlm["conversation"] == "vicuna_v1"
    assert not [path for path in tmp_path.iterdir() if path != out]

    processor = AutoProcessor.from_pretrained(out)
    assert processor.chat_template == chat_template("vicuna_v1")
    inputs = processor(
        images=Image.new("RGB", (40, 20)), text="USER: <image>\nWhere? ASSISTANT:", return_tensors="pt"
    )
    assert inputs["pixel_values"].shape == (1, 3, 28, 28)
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == model.spec.num_image_tokens == 4
    assert torch.isfinite(model(**inputs).logits).all()

    again = subprocess.run(
        [str(word) for word in command], cwd=repo_root, capture_output=True, text=True, check=False
    )
    assert again.returncode != 0
    assert "exists already" in again.stderr


def run_program(repo_root, *words):
    command = [sys.executable, "scripts/init_checkpoint.py", *(str(word) for word in words)]
    return subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)


def test_the_program_starts_from_a_llava_folder_and_from_an_adapter_only_file(parts, tmp_path, repo_root):
    model, tokenizer = build(parts, adapter="mlp", seed=4)
    model.config.locvlm = None  # as a public checkpoint
    model.save_pretrained(tmp_path / "llava")
    tokenizer.save_pretrained(tmp_path / "llava")
    projector = model.model.multi_modal_projector.state_dict()
    names = {"linear_1.": "model.mm_projector.0.", "linear_2.": "model.mm_projector.2."}
    weights = {names[name[:9]] + name[9:]: weight for name, weight in projector.items()}
    torch.save(weights, tmp_path / "mm_projector.bin")

    adapter = ["--adapter-weights", tmp_path / "mm_projector.bin"]  # it says mlp itself
    starts = {
        "from_llava": ["--llava", tmp_path / "llava"],
        "from_parts": ["--llm", parts / "llm", "--clip", parts / "clip", *adapter],
    }
    for name, start in starts.items():
        done = run_program(repo_root, *start, "--codec", "diga", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        loaded = LocVLM.from_pretrained(tmp_path / name)
        assert loaded.contract.codec == "diga"
        for key, weight in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], weight), (name, key)


def test_the_program_says_what_a_start_lacks(parts, tmp_path, repo_root):
    for words, message in [
        (["--llm", parts / "llm"], "--llm needs --clip"),
        (["--llava", "a", "--match-embeddings"], "scales a fresh adapter"),
        (["--llava", "a", "--llm", "b"], "not allowed with"),
        (["--llava", "llava-hf/llava-1.5-7b-hf"], "hf download llava-hf/llava-1.5-7b-hf"),
    ]:
        done = run_program(repo_root, *words, "--out", tmp_path / "out")
        assert done.returncode != 0
        assert message in done.stderr
        assert not (tmp_path / "out").exists()


def test_the_parts_are_whole_and_the_new_vocabulary_rows_are_the_mean_of_the_old(parts, tmp_path):
    model, tokenizer = build(parts)
    save_checkpoint(model, tokenizer, tmp_path / "init", chat_template=None)
    loaded = LocVLM.from_pretrained(tmp_path / "init").eval()
    old = LlamaForCausalLM.from_pretrained(parts / "llm").eval()
    assert loaded.config.text_config.vocab_size == loaded.lm_head.weight.shape[0] == 384
    assert 384 % 64 == 0
    assert not loaded.config.text_config.tie_word_embeddings
    for new in (loaded.lm_head.weight, loaded.get_input_embeddings().weight):
        assert torch.equal(new[:OLD_VOCABULARY], old.lm_head.weight)
        mean = old.lm_head.weight.mean(dim=0).expand(384 - OLD_VOCABULARY, -1)
        assert torch.equal(new[OLD_VOCABULARY:], mean)
    assert loaded.lm_head.weight is not loaded.get_input_embeddings().weight
    text = torch.tensor([[1, 17, 5, 9]])
    assert torch.equal(loaded(input_ids=text).logits[..., :OLD_VOCABULARY], old(input_ids=text).logits)
    tower = CLIPVisionModel.from_pretrained(parts / "clip").eval()
    pixels = torch.randn(1, 3, 28, 28)
    assert torch.equal(patch_features(loaded.model.vision_tower, pixels), patch_features(tower, pixels))
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<image>", "<pad>")}
    assert (loaded.config.image_token_id, loaded.text_spec.pad_token_id) == (ids["<image>"], ids["<pad>"])
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_the_adapter_is_fresh_from_the_seed_and_a_linear_one_linear(parts, adapter):
    first, _ = build(parts, adapter=adapter, seed=1)
    torch.manual_seed(99)
    second, _ = build(parts, adapter=adapter, seed=1)
    other, _ = build(parts, adapter=adapter, seed=2)
    weights = [m.model.multi_modal_projector.linear_1.weight for m in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    second_layer = first.model.multi_modal_projector.linear_2.weight
    assert torch.equal(second_layer, torch.eye(24)) == (adapter == "linear")


def test_everything_has_the_language_models_precision(parts, tmp_path):
    half = LlamaForCausalLM.from_pretrained(parts / "llm").to(torch.bfloat16)
    half.save_pretrained(tmp_path / "llm")
    tokenizer = load_tokenizer(parts / "llm")
    model = compose(llm=tmp_path / "llm", clip=str(parts / "clip"), tokenizer=tokenizer)
    save_checkpoint(model, tokenizer, tmp_path / "init", chat_template=None)
    assert json.loads((tmp_path / "init" / "config.json").read_text())["dtype"] == "bfloat16"
    loaded = LocVLM.from_pretrained(tmp_path / "init", dtype="auto")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}


def test_wrong_parts_are_refused_with_what_to_do(parts, tmp_path):
    for options, message in [
        ({"adapter": "resampler"}, "linear, mlp"),
        ({"coordinates": CoordinateChoice(codec="morse")}, "ivb"),
        ({"coordinates": CoordinateChoice(frame="warp")}, "stretch"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(parts, **options)
    tokenizer = load_tokenizer(parts / "llm")
    with pytest.raises(ValueError, match="no language model"):
        compose(llm=tmp_path, clip=str(parts / "clip"), tokenizer=tokenizer)
    with pytest.raises(ValueError, match="no CLIP at"):
        compose(llm=parts / "llm", clip=str(tmp_path), tokenizer=tokenizer)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    model, tokenizer = build(parts)
    with pytest.raises(ValueError, match="exists already"):
        save_checkpoint(model, tokenizer, tmp_path / "full", chat_template=None)


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_an_adapter_can_start_at_the_language_model_s_scale(parts, adapter):
    model, _ = build(parts, adapter=adapter, match_embeddings=True)
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    images = torch.stack(model.get_image_features(pixels).pooler_output).square().mean().sqrt().item()
    words = model.get_input_embeddings().weight.square().mean().sqrt().item()
    assert images == pytest.approx(words, rel=0.2)  # noise of another seed than the one it was matched with


def test_a_language_model_in_pickles_is_read_and_a_hole_in_it_is_listed(parts, tmp_path):
    shutil.copytree(parts / "llm", tmp_path / "llm")
    (tmp_path / "llm" / "model.safetensors").unlink()
    weights = LlamaForCausalLM.from_pretrained(parts / "llm").state_dict()
    torch.save(weights, tmp_path / "llm" / "pytorch_model.bin")  # as Vicuna is published
    tokenizer = load_tokenizer(tmp_path / "llm")
    model = compose(llm=tmp_path / "llm", clip=str(parts / "clip"), tokenizer=tokenizer)
    expected, _ = build(parts)
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    del weights["model.norm.weight"]
    torch.save(weights, tmp_path / "llm" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"llm do not fit this model\. 1 missing: model\.norm\.weight"):
        compose(llm=tmp_path / "llm", clip=str(parts / "clip"), tokenizer=tokenizer)
