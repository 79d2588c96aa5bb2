"""Public LLaVA checkpoints, tiny and random but in their very layouts, become the model they came from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaForConditionalGeneration,
)

from locvlm.data.tokenize import load_tokenizer
from locvlm.model.adapter import load_adapter, reset_adapter
from locvlm.model.compose import CoordinateChoice, compose_parts, save_checkpoint
from locvlm.model.foreign import llava_parts, separate_parts
from locvlm.model.locvlm import LocVLM
from locvlm.model.variants import llava_config
from locvlm.world.pretraining.tokenizer import train_tokenizer

PIECES, PADDED = 320, 384  # sentencepiece pieces; with <image>, <pad> and room to a multiple of 64
IMAGE, PAD = 320, 321
SENTENCE = "A photo of two dogs by a red car. Where is the object located? USER: ASSISTANT: (0, 12, 34) 56789"

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "projection_dim": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([SENTENCE] * 20, folder / "tokenizer.model", num_pieces=PIECES)
    return folder


@pytest.fixture(scope="module")
def build_source() -> Callable[..., LlavaForConditionalGeneration]:
    """build_source(kind, vocabulary): a random stock LLaVA whose layers matter to its logits."""

    def build(kind: str = "mlp", vocabulary: int = PADDED, seed: int = 0) -> LlavaForConditionalGeneration:
        torch.manual_seed(seed)
        config = llava_config(
            CLIPVisionConfig(**VISION, hidden_act="quick_gelu"),
            LlamaConfig(**TEXT, vocab_size=vocabulary),
            kind,
            image_token_id=IMAGE,
            pad_token_id=PAD if vocabulary > PAD else 0,
        )
        model = LlavaForConditionalGeneration(config).eval()
        reset_adapter(model.model.multi_modal_projector, kind, seed=seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4.0)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            if kind == "linear":
                reset_second_layer(model)
        return model

    return build


def reset_second_layer(model: LlavaForConditionalGeneration) -> None:
    """A linear adapter ends in the identity."""
    last = model.model.multi_modal_projector.linear_2
    last.weight.copy_(torch.eye(24))
    last.bias.zero_()


def logits_of(model: Any) -> torch.Tensor:
    """(S, PIECES) for an image and some words, of the tokens that every layout has."""
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    ids = torch.tensor([[1, *[IMAGE] * 4, 17, 5, 9, 211, 44]])
    with torch.inference_mode():
        embeds = model.get_input_embeddings()(ids.clamp(max=PIECES - 1))
        features = torch.cat(list(model.get_image_features(pixels).pooler_output))
        embeds[0, 1:5] = features
        logits: torch.Tensor = model(inputs_embeds=embeds).logits
    return logits[0, :, :PIECES]


def require_equal(
    source: LlavaForConditionalGeneration, folder: Path, tokenizer: Path, **options: Any
) -> LocVLM:
    """Compose from the folder; the logits must be the source's, and those of what is saved and loaded."""
    parts = llava_parts(folder, **options)
    model = compose_parts(parts, tokenizer=load_tokenizer(tokenizer))
    expected = logits_of(source)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits_of(model), expected, rtol=1e-5, atol=1e-5)
    assert (model.config.image_token_id, model.text_spec.pad_token_id) == (IMAGE, PAD)
    assert model.config.text_config.vocab_size == PADDED
    save_checkpoint(model, load_tokenizer(tokenizer), folder.parent / "composed", chat_template=None)
    loaded = LocVLM.from_pretrained(folder.parent / "composed").eval()
    assert torch.equal(logits_of(loaded), logits_of(model))
    return model


# ---- llava-hf


def published_names(model: LlavaForConditionalGeneration) -> dict[str, torch.Tensor]:
    """As on huggingface.co/llava-hf/llava-1.5-7b-hf."""
    names = {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
    }
    weights = {}
    for name, weight in model.state_dict().items():
        ours = next(prefix for prefix in names if name.startswith(prefix))
        weights[names[ours] + name.removeprefix(ours)] = weight.clone()
    return weights


def published_config(**changes: Any) -> dict[str, Any]:
    """config.json of the same repository, at our sizes."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": IMAGE,
        "model_type": "llava",
        "pad_token_id": PAD,
        "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5",
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float32",
            "vocab_size": PADDED,
            **TEXT,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "transformers_version": "4.36.0.dev0",
        "vision_config": {"model_type": "clip_vision_model", **VISION},
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        **changes,
    }


@pytest.fixture
def write_hf4(tmp_path) -> Callable[..., Path]:
    """write_hf4(weights, config): a folder as transformers 4.x wrote it."""

    def write(weights: dict[str, torch.Tensor], config: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / "llava-hf"
        folder.mkdir()
        save_torch_state_dict(weights, folder, max_shard_size="20KB")
        (folder / "config.json").write_text(json.dumps(config or published_config()))
        statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}
        (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
        return folder

    return write


@pytest.mark.parametrize("has_old_buffers", [False, True])
def test_a_llava_hf_folder_of_transformers_4_is_what_it_was(
    build_source, write_hf4, tokenizer_folder, has_old_buffers
):
    source = build_source()
    weights = published_names(source)
    if has_old_buffers:  # the first published conversions had them
        weights["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
        weights["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    folder = write_hf4(weights)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    model = require_equal(source, folder, tokenizer_folder)
    assert model.config.locvlm["image_mean"] == [0.5, 0.4, 0.3]
    assert model.config.locvlm["adapter"] == "mlp"


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_a_llava_hf_folder_of_transformers_5_is_what_it_was(build_source, tokenizer_folder, tmp_path, kind):
    source = build_source(kind)
    source.save_pretrained(tmp_path / "llava-hf")
    model = require_equal(source, tmp_path / "llava-hf", tokenizer_folder)
    assert model.config.locvlm["adapter"] == kind


def test_a_llava_hf_folder_of_pickles_is_what_it_was(build_source, tokenizer_folder, tmp_path):
    source = build_source()
    (tmp_path / "llava-hf").mkdir()
    torch.save(published_names(source), tmp_path / "llava-hf" / "pytorch_model.bin")
    (tmp_path / "llava-hf" / "config.json").write_text(json.dumps(published_config()))
    require_equal(source, tmp_path / "llava-hf", tokenizer_folder)


def test_the_contract_is_chosen_and_the_precision_kept(build_source, tokenizer_folder, tmp_path):
    build_source().to(torch.bfloat16).save_pretrained(tmp_path / "llava-hf")
    model = compose_parts(
        llava_parts(tmp_path / "llava-hf"),
        tokenizer=load_tokenizer(tokenizer_folder),
        coordinates=CoordinateChoice(codec="nfp", frame="pad"),
    )
    assert (model.contract.codec, model.contract.frame, model.contract.canvas) == ("nfp", "pad", 28)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_all_that_does_not_fit_a_llava_hf_folder_is_listed(build_source, write_hf4):
    weights = published_names(build_source())
    for name in [name for name in weights if "language_model.model.layers.1." in name]:
        del weights[name]
    weights["language_model.model.layers.7.mlp.up_proj.weight"] = torch.ones(2, 2)
    weights["multi_modal_projector.linear_1.bias"] = torch.ones(7)
    with pytest.raises(ValueError, match="do not fit") as caught:
        llava_parts(write_hf4(weights))
    message = str(caught.value)
    assert "9 missing: model.language_model.layers.1.input_layernorm.weight" in message
    assert "... and 1 more" in message
    assert "1 unknown: " in message
    assert "layers.7.mlp.up_proj.weight" in message
    assert "linear_1.bias has shape (7,), expected (24,)" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_select_strategy": "full"}, "'full', and LocVLM can only start from 'default'"),
        ({"projector_hidden_act": "relu"}, "projector_hidden_act 'relu'"),
        ({"locvlm": {"contract": {"codec": "ivb"}}}, r"is a LocVLM checkpoint"),
    ],
)
def test_a_llava_hf_folder_that_locvlm_cannot_be_is_refused(build_source, write_hf4, changes, message):
    folder = write_hf4(published_names(build_source()), published_config(**changes))
    with pytest.raises(ValueError, match=message):
        llava_parts(folder)


# ---- original


def original_names(model: LlavaForConditionalGeneration, kind: str, *, has_tower: bool) -> dict[str, Any]:
    """As in liuhaotian/llava-v1.5-7b (mlp2x_gelu), or a LLaVA with a linear projector."""
    layers = {"linear_1": "0.", "linear_2": "2."} if kind == "mlp" else {"linear_1": ""}
    weights = {}
    for name, weight in model.state_dict().items():
        if name.startswith("model.multi_modal_projector."):
            _, _, layer, last = name.split(".")
            if layer in layers:
                weights[f"model.mm_projector.{layers[layer]}{last}"] = weight.clone()
        elif name.startswith("model.vision_tower."):
            inner = name.removeprefix("model.vision_tower.")
            if has_tower:
                weights[f"model.vision_tower.vision_tower.vision_model.{inner}"] = weight.clone()
        else:
            weights[name.replace("model.language_model.", "model.")] = weight.clone()
    return weights


def original_config(**changes: Any) -> dict[str, Any]:
    """config.json of liuhaotian/llava-v1.5-7b, at our sizes."""
    return {
        "_name_or_path": "llava-v1.5-7b",
        "architectures": ["LlavaLlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "freeze_mm_mlp_adapter": False,
        "freeze_mm_vision_resampler": False,
        "hidden_act": "silu",
        "image_aspect_ratio": "pad",
        "initializer_range": 0.02,
        "max_length": 4096,
        "mm_hidden_size": 16,
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "model_type": "llava",
        "pad_token_id": 0,
        "pretraining_tp": 1,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.31.0",
        "tune_mm_mlp_adapter": False,
        "tune_mm_vision_resampler": False,
        "unfreeze_mm_vision_tower": False,
        "use_cache": True,
        "use_mm_proj": True,
        "vocab_size": PIECES,
        **TEXT,
        **changes,
    }


@pytest.fixture
def write_original(tmp_path) -> Callable[..., Path]:
    """write_original(weights, **config): pickles in two shards, with the buffers that they had then."""

    def write(weights: dict[str, torch.Tensor], **config: Any) -> Path:
        folder = tmp_path / "llava-v1.5"
        folder.mkdir()
        weights = {**weights, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}
        names = sorted(weights)
        shards = {"1": names[::2], "2": names[1::2]}
        weight_map = {}
        for number, members in shards.items():
            file = f"pytorch_model-0000{number}-of-00002.bin"
            torch.save({name: weights[name] for name in members}, folder / file)
            weight_map.update(dict.fromkeys(members, file))
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        (folder / "config.json").write_text(json.dumps(original_config(**config)))
        return folder

    return write


@pytest.fixture
def clip(build_source, tmp_path) -> str:
    """The tower of the source models, as a folder of its own."""
    build_source().model.vision_tower.save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")


def source_at(build_source, kind: str = "mlp") -> LlavaForConditionalGeneration:
    """With the vocabulary of its language model, which nobody has padded."""
    return build_source(kind, vocabulary=PIECES)


@pytest.mark.parametrize(("kind", "name"), [("mlp", "mlp2x_gelu"), ("linear", "linear")])
def test_an_original_llava_with_its_tower_by_name_is_what_it_was(
    build_source, write_original, tokenizer_folder, tmp_path, kind, name
):
    source = source_at(build_source, kind)
    source.model.vision_tower.save_pretrained(tmp_path / "clip")
    folder = write_original(original_names(source, kind, has_tower=False), mm_projector_type=name)
    model = require_equal(source, folder, tokenizer_folder, clip=str(tmp_path / "clip"))
    assert model.config.locvlm["adapter"] == kind


def test_an_original_llava_that_holds_its_tower_keeps_it(
    build_source, write_original, tokenizer_folder, tmp_path
):
    source = source_at(build_source)
    CLIPVisionModel(source.config.vision_config).save_pretrained(tmp_path / "clip")  # another's weights
    folder = write_original(original_names(source, "mlp", has_tower=True))
    require_equal(source, folder, tokenizer_folder, clip=str(tmp_path / "clip"))


def test_an_original_llava_in_one_safetensors_file_is_what_it_was(build_source, tokenizer_folder, tmp_path):
    source = source_at(build_source)
    source.model.vision_tower.save_pretrained(tmp_path / "clip")
    folder = tmp_path / "llava-v1.5"
    folder.mkdir()
    save_file(original_names(source, "mlp", has_tower=False), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(original_config(rope_theta=10000.0)))
    require_equal(source, folder, tokenizer_folder, clip=str(tmp_path / "clip"))


def test_another_feature_layer_and_rope_base_are_kept(
    build_source, write_original, tokenizer_folder, tmp_path
):
    source = source_at(build_source)
    source.model.vision_tower.save_pretrained(tmp_path / "clip")
    weights = original_names(source, "mlp", has_tower=False)
    folder = write_original(weights, mm_vision_select_layer=-1, rope_theta=50000.0)
    parts = llava_parts(folder, clip=str(tmp_path / "clip"))
    model = compose_parts(parts, tokenizer=load_tokenizer(tokenizer_folder))
    assert model.config.vision_feature_layer == -1
    assert model.config.text_config.rope_parameters["rope_theta"] == 50000.0
    assert not torch.allclose(logits_of(model), logits_of(source), atol=1e-3)


def test_all_that_does_not_fit_an_original_llava_is_listed_by_its_own_names(
    build_source, write_original, clip
):
    weights = original_names(source_at(build_source), "mlp", has_tower=False)
    del weights["model.mm_projector.2.weight"], weights["lm_head.weight"]
    weights["model.image_newline"] = torch.ones(24)
    weights["model.mm_projector.0.weight"] = torch.ones(24, 1024)
    with pytest.raises(ValueError, match="do not fit") as caught:
        llava_parts(write_original(weights), clip=clip)
    message = str(caught.value)
    assert "2 missing: lm_head.weight, model.mm_projector.2.weight" in message
    assert "1 unknown: model.image_newline" in message
    assert "model.mm_projector.0.weight has shape (24, 1024), expected (24, 16)" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mm_use_im_start_end": True}, "mm_use_im_start_end True"),
        ({"mm_vision_select_feature": "cls_patch"}, "'cls_patch'"),
        ({"mm_projector_type": "mlp3x_gelu"}, "those of linear, mlp2x_gelu"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "'spatial_unpad'"),
    ],
)
def test_an_original_llava_that_locvlm_cannot_be_is_refused(
    build_source, write_original, clip, changes, message
):
    folder = write_original(original_names(source_at(build_source), "mlp", has_tower=False), **changes)
    with pytest.raises(ValueError, match=message):
        llava_parts(folder, clip=clip)


def test_a_tower_has_to_be_given_where_it_is_missing_and_only_there(
    build_source, write_original, write_hf4, clip
):
    original = write_original(original_names(source_at(build_source), "mlp", has_tower=False))
    with pytest.raises(ValueError, match=r"'openai/clip-vit-large-patch14-336'\).*give its folder as --clip"):
        llava_parts(original)
    with pytest.raises(ValueError, match="leave out --clip"):
        llava_parts(write_hf4(published_names(build_source())), clip=clip)


# ---- what they have in common


def test_a_name_on_the_hub_is_not_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"no LLaVA checkpoint in llava-hf/x: .*hf download llava-hf/x"):
        llava_parts("llava-hf/x")
    with pytest.raises(ValueError, match=r"no CLIP at 'openai/clip': .*hf download openai/clip"):
        separate_parts("lmsys/vicuna", "openai/clip")
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"no language model in lmsys/vicuna: .*hf download lmsys/vicuna"):
        separate_parts("lmsys/vicuna", str(tmp_path / "clip"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match="neither vision_config and text_config"):
        llava_parts(tmp_path)


@pytest.mark.parametrize("vocabulary", [PIECES - 1, 4096])
def test_a_tokenizer_of_another_language_model_is_refused(
    build_source, tokenizer_folder, tmp_path, vocabulary
):
    build_source(vocabulary=vocabulary).save_pretrained(tmp_path / "llava-hf")
    with pytest.raises(ValueError, match=rf"322 tokens, and .*{vocabulary} rows"):
        compose_parts(llava_parts(tmp_path / "llava-hf"), tokenizer=load_tokenizer(tokenizer_folder))


def test_another_kind_of_adapter_than_the_checkpoints_is_refused(build_source, tokenizer_folder, tmp_path):
    build_source().save_pretrained(tmp_path / "llava-hf")
    parts = llava_parts(tmp_path / "llava-hf")
    with pytest.raises(ValueError, match="holds a mlp adapter, asked for is a linear one"):
        compose_parts(parts, tokenizer=load_tokenizer(tokenizer_folder), adapter="linear")


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_an_mm_projector_file_makes_the_adapter_what_it_was(
    build_source, write_original, tokenizer_folder, tmp_path, kind
):
    source, other = source_at(build_source, kind), build_source(kind, seed=5)
    names = original_names(source, kind, has_tower=False)
    torch.save({k: v for k, v in names.items() if "mm_projector" in k}, tmp_path / "mm_projector.bin")
    other.save_pretrained(tmp_path / "llava-hf")
    model = compose_parts(llava_parts(tmp_path / "llava-hf"), tokenizer=load_tokenizer(tokenizer_folder))
    load_adapter(model, tmp_path)  # the folder that LLaVA's stage 1 leaves
    ours, theirs = model.model.multi_modal_projector, source.model.multi_modal_projector
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight), name
