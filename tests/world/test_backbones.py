import re

import pytest
import torch

from locvlm.constants import IMAGE_TOKEN, PAD_TOKEN
from locvlm.world import backbones, pretrain, views
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


def test_the_llm_reads_a_box_out_of_its_context(folders, tokenizer):
    """Of one thing; to tell several apart it has not learned."""
    from transformers import AutoModelForCausalLM

    from locvlm.data.prompt import FORMATS
    from locvlm.objectives import locpred

    llm = AutoModelForCausalLM.from_pretrained(folders / "llm")
    vicuna = FORMATS["vicuna_v1"]
    boxes = {"mug": "(4, 52, 13, 63)", "kite": "(30, 11, 62, 40)", "owl": "(20, 70, 41, 90)"}
    for name, box in boxes.items():
        question = locpred.PROMPTS[0].format(category=name, repr="(x1,y1,x2,y2) bbox")
        text = f"{vicuna.first}{name} is at {box}\n{question}{vicuna.ask}"
        ids = tokenizer(text, return_tensors="pt").input_ids
        out = llm.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
        )
        assert box in tokenizer.decode(out[0, ids.shape[1] :])


def test_the_clip_names_what_is_in_a_box_of_a_scene_it_has_not_seen():
    clip = backbones.build_clip().eval()
    clip.load_state_dict(backbones.load_weights(backbones.WEIGHTS / backbones.CLIP_FILE))
    clip.visual.output_tokens = True
    encode = backbones.load_pieces(backbones.WEIGHTS / backbones.TOKENIZER_FILE)
    scenes = [views._store(index, seed=123) for index in range(40)]
    boxes = torch.tensor([thing.box for scene in scenes for thing in scene.things])
    image_of = torch.tensor([k for k, scene in enumerate(scenes) for _ in scene.things])
    names = [thing.category for scene in scenes for thing in scene.things]
    with torch.no_grad():
        _, tokens = clip.visual(views.Views(scenes, encode, seed=0).whole_images(len(scenes)))
        regions = pretrain.pool_regions(tokens, image_of, boxes) @ clip.visual.proj
        phrases = pretrain.encode_captions(clip, views.caption_tokens([f"a {c}" for c in CLASSES], encode))
    said = [CLASSES[k] for k in (regions @ phrases.T).argmax(1).tolist()]
    right = [a == b for a, b in zip(said, names, strict=True)]
    assert sum(right) / len(right) > 0.7  # chance: 0.025


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
