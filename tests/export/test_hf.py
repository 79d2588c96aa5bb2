"""The export is the published llava-hf layout, and stock classes read from it what the checkpoint is."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, pipeline

from locvlm.coords.contract import CoordinateContract
from locvlm.data.tokenize import load_tokenizer
from locvlm.export.check import compare_with_export
from locvlm.export.hf import export_hf
from locvlm.model.adapter import save_adapter
from locvlm.model.locvlm import LocVLM

# what huggingface.co/llava-hf/llava-1.5-7b-hf holds, at our sizes
PUBLISHED_KEYS = {
    "language_model.lm_head.weight",
    "language_model.model.embed_tokens.weight",
    "language_model.model.layers.0.self_attn.q_proj.weight",
    "language_model.model.norm.weight",
    "multi_modal_projector.linear_1.bias",
    "multi_modal_projector.linear_2.weight",
    "vision_tower.vision_model.embeddings.class_embedding",
    "vision_tower.vision_model.embeddings.patch_embedding.weight",
    "vision_tower.vision_model.embeddings.position_embedding.weight",
    "vision_tower.vision_model.encoder.layers.2.mlp.fc1.weight",
    "vision_tower.vision_model.post_layernorm.weight",
    "vision_tower.vision_model.pre_layrnorm.weight",
}


@pytest.fixture(scope="module")
def exported(build_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "tiny-locvlm"
    export_hf(build_checkpoint(), out)
    return out


def test_the_weights_have_their_published_names_and_are_all_there(exported, build_checkpoint):
    with safe_open(exported / "model.safetensors", framework="pt") as file:
        keys = set(file.keys())
    assert keys >= PUBLISHED_KEYS
    assert {key.split(".")[0] for key in keys} == {"language_model", "vision_tower", "multi_modal_projector"}
    assert len(keys) == len(LocVLM.from_pretrained(build_checkpoint()).state_dict())


def test_the_folder_holds_what_published_folders_hold(exported):
    names = {path.name for path in exported.iterdir()}
    assert names >= {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["model_type"] == "llava"
    assert config["text_config"]["vocab_size"] % 64 == 0
    assert config["text_config"]["rope_theta"] == 50000.0
    assert "rope_parameters" not in config["text_config"]
    assert config["vision_config"]["hidden_act"] == "gelu"
    assert config["projector_hidden_act"] == "linear"
    tokenizer = load_tokenizer(exported)
    assert config["image_token_index"] == tokenizer.convert_tokens_to_ids("<image>")
    assert config["pad_token_id"] == tokenizer.convert_tokens_to_ids("<pad>") == tokenizer.pad_token_id
    generation = json.loads((exported / "generation_config.json").read_text())
    assert generation["eos_token_id"] == tokenizer.eos_token_id
    processor = json.loads((exported / "processor_config.json").read_text())
    assert processor["num_additional_image_tokens"] == 1
    assert "image_processor" not in processor  # transformers 4.x would stumble over it


def test_the_contract_travels_in_the_config_and_on_the_card(exported):
    config = LlavaForConditionalGeneration.from_pretrained(exported).config
    contract = CoordinateContract.from_dict(config.locvlm["contract"])
    assert contract == CoordinateContract(codec="ivb", frame="stretch", location="bbox", canvas=28, patch=14)
    assert config.locvlm["conversation"] == "vicuna_v1"
    card = (exported / "README.md").read_text()
    for fact in ("tiny-locvlm", "(x1,y1,x2,y2) bbox", "`ivb`", "`stretch`", "28 x 28", "`vicuna_v1`"):
        assert fact in card


def test_our_own_class_and_the_stock_one_read_it_back_without_a_missing_weight(exported, build_checkpoint):
    original = LocVLM.from_pretrained(build_checkpoint())
    for loader in (LocVLM, AutoModelForImageTextToText):
        model, info = loader.from_pretrained(exported, output_loading_info=True)
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        for name, weight in original.state_dict().items():
            assert torch.equal(model.state_dict()[name], weight), name


def test_the_pipeline_answers_as_the_checkpoint_does(exported, build_checkpoint):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    content = [{"type": "image", "image": image}, {"type": "text", "text": "Where is the dog?"}]
    ask = pipeline("image-text-to-text", model=str(exported), device="cpu")
    messages = [{"role": "user", "content": content}]
    got = ask(text=messages, max_new_tokens=8, do_sample=False, return_full_text=False)[0]["generated_text"]
    model, processor = LocVLM.from_pretrained(build_checkpoint()), AutoProcessor.from_pretrained(exported)
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert got == processor.decode(ids, skip_special_tokens=True)
    assert len(ids) == 8


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
@pytest.mark.parametrize("frame", ["stretch", "pad", "crop"])
def test_every_frame_and_adapter_exports_a_processor_that_makes_its_pixels(
    build_checkpoint, tmp_path, frame, adapter
):
    export_hf(build_checkpoint(frame=frame, adapter=adapter), tmp_path / "out")  # checks ids, pixels, logits
    saved = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    square = {"height": 28, "width": 28}
    assert saved["image_processor_type"] == (
        "LlavaImageProcessor" if frame == "pad" else "CLIPImageProcessor"
    )
    assert saved["size"] == ({"shortest_edge": 28} if frame == "crop" else square)
    assert saved["do_center_crop"] == (frame == "crop")
    assert saved.get("do_pad", False) == (frame == "pad")
    assert saved["crop_size"] == square


@pytest.mark.parametrize("conversation", ["llama2", "plain"])
def test_every_conversation_exports_its_own_chat_template(build_checkpoint, tmp_path, conversation):
    export_hf(build_checkpoint(conversation=conversation), tmp_path / "out")


def test_a_stage_1_adapter_and_another_precision_can_be_put_in(build_checkpoint, tmp_path):
    model = LocVLM.from_pretrained(build_checkpoint(adapter="mlp"))
    torch.nn.init.constant_(model.model.multi_modal_projector.linear_1.bias, 0.25)
    save_adapter(model, tmp_path / "adapter")
    export_hf(
        build_checkpoint(adapter="mlp"), tmp_path / "out", adapter=tmp_path / "adapter", dtype=torch.bfloat16
    )
    stock = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype="auto")
    assert {parameter.dtype for parameter in stock.parameters()} == {torch.bfloat16}
    assert (stock.model.multi_modal_projector.linear_1.bias == 0.25).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("weight", "logits differ"),
        ("frame", "levels off"),
        ("template", "token ids"),
        ("missing", "load whole"),
    ],
)
def test_the_check_finds_what_differs(exported, build_checkpoint, tmp_path, damage, message):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in exported.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    if damage == "weight":
        weights["vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias"] += torch.arange(32) / 32
    elif damage == "missing":
        del weights["vision_tower.vision_model.pre_layrnorm.weight"]
    elif damage == "frame":
        settings = json.loads((broken / "preprocessor_config.json").read_text())
        settings.update(size={"shortest_edge": 28}, do_center_crop=True)
        (broken / "preprocessor_config.json").write_text(json.dumps(settings))
    else:
        template = (broken / "chat_template.jinja").read_text()
        (broken / "chat_template.jinja").write_text(template.replace("USER: ", "USER:"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    checkpoint = build_checkpoint()
    model, tokenizer = LocVLM.from_pretrained(checkpoint).eval(), load_tokenizer(checkpoint)
    with pytest.raises(ValueError, match=message):
        compare_with_export(model, tokenizer, "vicuna_v1", broken)


def test_a_failed_export_leaves_nothing_behind(build_checkpoint, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("logits differ")

    monkeypatch.setattr("locvlm.export.hf.compare_with_export", fail)
    with pytest.raises(ValueError, match="logits differ"):
        export_hf(build_checkpoint(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_export_refuses_an_existing_folder_and_a_checkpoint_without_contract(
    build_checkpoint, exported, tmp_path
):
    with pytest.raises(ValueError, match="exists already"):
        export_hf(build_checkpoint(), exported)
    with pytest.raises(ValueError, match="no checkpoint"):
        export_hf(tmp_path, tmp_path / "out")
    model = LocVLM.from_pretrained(build_checkpoint())
    model.config.locvlm = {}
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"no locvlm\.contract"):
        export_hf(tmp_path / "bare", tmp_path / "out")
