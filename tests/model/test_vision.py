"""The converted tower is open_clip's own, activation included, whatever way its weights came."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from locvlm.model.vision import convert_open_clip_tower, load_tower, patch_features, tower_identity

MODEL_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 28, "patch_size": 14, "width": 32, "layers": 4, "head_width": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1},
}


def small_open_clip(quick_gelu: bool = False) -> open_clip.CLIP:
    torch.manual_seed(0)
    model = open_clip.CLIP(**MODEL_CONFIG, quick_gelu=quick_gelu)
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # so that no bias or norm is at its default
    return model.eval()


def open_clip_folder(folder, quick_gelu: bool = False) -> open_clip.CLIP:
    model = small_open_clip(quick_gelu)
    folder.mkdir()
    config = {
        "model_cfg": {**MODEL_CONFIG, "quick_gelu": quick_gelu},
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return model


def own_features(model: open_clip.CLIP, images: torch.Tensor) -> torch.Tensor:
    """open_clip's patches after its last block but one."""
    last_but_one = len(model.visual.transformer.resblocks) - 2
    found = model.visual.forward_intermediates(
        images, indices=[last_but_one], intermediates_only=True, output_fmt="NLC", stop_early=True
    )
    return found["image_intermediates"][0]


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_converted_features_equal_open_clips_own(quick_gelu):
    model = small_open_clip(quick_gelu)
    tower = convert_open_clip_tower(model.visual)
    assert tower.config.hidden_act == ("quick_gelu" if quick_gelu else "gelu")
    images = torch.randn(3, 3, 28, 28)
    with torch.no_grad():
        difference = (patch_features(tower, images) - own_features(model, images)).abs().max()
        exact = patch_features(tower.double(), images.double()) - own_features(
            model.double(), images.double()
        )
    assert difference < 5e-6  # fp32: two orders of adding up
    assert exact.abs().max() < 1e-13
    assert tower_identity(tower.float()) == tower_identity(tower.to(torch.bfloat16))


def test_the_wrong_activation_would_be_seen():
    model = small_open_clip(quick_gelu=True)
    tower = convert_open_clip_tower(model.visual)
    tower.config.hidden_act = "gelu"
    wrong = CLIPVisionModel(tower.config)
    wrong.load_state_dict(tower.state_dict())
    images = torch.randn(1, 3, 28, 28)
    assert (patch_features(wrong, images) - own_features(model, images)).abs().max() > 1e-3


@pytest.mark.parametrize("prefix", ["", "open_clip:"])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_an_open_clip_folder_loads_with_its_pixel_statistics(tmp_path, prefix, quick_gelu):
    model = open_clip_folder(tmp_path / "clip", quick_gelu)
    tower, statistics = load_tower(f"{prefix}{tmp_path / 'clip'}")
    assert statistics == {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    images = torch.randn(2, 3, 28, 28)
    assert (patch_features(tower, images) - own_features(model, images)).abs().max() < 5e-6


def test_a_registered_name_loads_weights_from_a_safetensors_file(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(MODEL_CONFIG))
    open_clip.add_model_config(tmp_path / "small.json")
    model = small_open_clip()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    tower, _ = load_tower(f"open_clip:small:{tmp_path / 'w.safetensors'}")
    images = torch.randn(2, 3, 28, 28)
    assert (patch_features(tower, images) - own_features(model, images)).abs().max() < 5e-6


@pytest.mark.parametrize("whole", [False, True])
def test_a_hugging_face_folder_loads_whole_or_vision_only(tmp_path, whole):
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    text = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": 9,
    }
    if whole:
        clip = CLIPModel(CLIPConfig(vision_config=vision.to_dict(), text_config=text))
        expected = clip.vision_model
    else:
        clip = expected = CLIPVisionModel(vision)
    clip.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}'
    )
    tower, statistics = load_tower(str(tmp_path))
    assert statistics == {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}
    assert torch.equal(
        tower.state_dict()["pre_layrnorm.weight"], expected.state_dict()["pre_layrnorm.weight"]
    )
    images = torch.randn(2, 3, 8, 8)
    states = expected.eval()(images, output_hidden_states=True).hidden_states
    assert torch.equal(patch_features(tower, images), states[-2][:, 1:])
    assert torch.equal(patch_features(tower, images, layer=1), states[1][:, 1:])


def test_a_frozen_tower_keeps_no_graph_and_a_trained_one_does():
    tower = convert_open_clip_tower(small_open_clip().visual)
    images = torch.randn(1, 3, 28, 28)
    assert patch_features(tower, images).requires_grad
    tower.requires_grad_(False)
    assert not patch_features(tower, images.requires_grad_()).requires_grad


def test_what_is_no_plain_clip_vit_is_refused(tmp_path):
    pooled = {**MODEL_CONFIG, "vision_cfg": {**MODEL_CONFIG["vision_cfg"], "attentional_pool": True}}
    with pytest.raises(ValueError, match="not a plain CLIP ViT"):
        convert_open_clip_tower(open_clip.CLIP(**pooled).visual)
    resnet = {**MODEL_CONFIG["vision_cfg"], "layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
    with pytest.raises(ValueError, match="not a ViT"):
        convert_open_clip_tower(open_clip.CLIP(**{**MODEL_CONFIG, "vision_cfg": resnet}).visual)
    with pytest.raises(ValueError, match="layer"):
        patch_features(convert_open_clip_tower(small_open_clip().visual), torch.zeros(1, 3, 28, 28), layer=9)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{tmp}/nothing", "no CLIP at"),
        ("open_clip:no-such-model", "no model 'no-such-model'"),
        ("open_clip:ViT-B-32:no_such_tag", "openai"),
        ("open_clip:ViT-B-32:{tmp}/weights.pt", "safetensors"),
        ("open_clip:ViT-B-32:{tmp}/weights.safetensors", "no weights at"),
        ("{tmp}", "must be a CLIP"),
    ],
)
def test_a_source_that_holds_no_tower_is_named(tmp_path, source, message):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=message):
        load_tower(source.replace("{tmp}", str(tmp_path)))


def test_a_tower_with_a_missing_weight_is_not_filled_up(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "image_size": 8}
    CLIPVisionModel(CLIPVisionConfig(**sizes, num_hidden_layers=2, patch_size=4)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in weights if name.endswith("pre_layrnorm.weight"))
    save_file(
        {name: weight for name, weight in weights.items() if name != gone}, tmp_path / "model.safetensors"
    )
    with pytest.raises(ValueError, match=r"1 missing: .*pre_layrnorm\.weight"):
        load_tower(str(tmp_path))
