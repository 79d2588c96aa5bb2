import re

import pytest
import torch

from locvlm.constants import IMAGE_TOKEN, PAD_TOKEN
from locvlm.world import backbones
from locvlm.world.shapes import CLASSES


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    out = tmp_path_factory.mktemp("backbones")
    backbones.write_backbones(out)
    return out


@pytest.fixture(scope="module")
def tokenizer(folders):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folders / "tokenizer")


def test_together_they_weigh_less_than_twelve_megabytes():
    assert sum(path.stat().st_size for path in backbones.WEIGHTS.iterdir()) < 12e6


def test_digits_are_split_and_class_names_are_whole(tokenizer):
    assert re.findall(r"\d+", " ".join(tokenizer.tokenize("(10, 120, 345)"))) == list("10120345")
    for name in CLASSES:
        assert tokenizer.tokenize(name) == [f"▁{word}" for word in name.split()]


def test_the_vocabulary_has_its_marks_and_fits_the_model(tokenizer):
    assert tokenizer.pad_token == PAD_TOKEN
    assert tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) != tokenizer.unk_token_id
    assert len(tokenizer) <= backbones.VOCAB
    assert tokenizer("mug").input_ids[0] == tokenizer.bos_token_id == 1


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in ("Zürich, 3 µm: [0.0195, 0.2344]", "(0, -4, 3, 11)", "quartz\nvexed"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_the_llm_loads_and_predicts_its_text(folders, tokenizer):
    from transformers import AutoModelForCausalLM

    llm = AutoModelForCausalLM.from_pretrained(folders / "llm")
    assert llm.config.pad_token_id == tokenizer.pad_token_id
    ids = tokenizer(
        "A red mug on the left, a kite on the right and a star in the middle.", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        assert llm(input_ids=ids, labels=ids).loss < 3.5  # chance: ln 960 = 6.9


def test_the_tower_is_open_clip_s_own(folders):
    from locvlm.model.vision import load_tower, patch_features

    clip = backbones.build_clip().eval()
    clip.load_state_dict(backbones.load_weights(backbones.WEIGHTS / backbones.CLIP_FILE))
    tower, statistics = load_tower(str(folders / "clip"))
    spec = backbones.VISION.spec
    assert statistics["image_mean"] == pytest.approx(spec.image_mean)
    pixels = torch.randn(2, 3, spec.canvas, spec.canvas, generator=torch.Generator().manual_seed(0))
    seen = []
    handle = clip.visual.transformer.resblocks[-2].register_forward_hook(lambda *args: seen.append(args[-1]))
    with torch.no_grad():
        clip.encode_image(pixels)
        ours = patch_features(tower, pixels)
    handle.remove()
    assert torch.allclose(ours, seen[0][:, 1:], atol=1e-4)
    assert ours.shape == (2, spec.num_image_tokens, backbones.VISION.width)


def test_missing_weights_name_the_program_that_makes_them(tmp_path):
    with pytest.raises(ValueError, match="pretrain_world_backbones"):
        backbones.load_weights(tmp_path / "clip.safetensors")
    with pytest.raises(ValueError, match="--parts tokenizer"):
        backbones.load_pieces(tmp_path / "tokenizer.model")
