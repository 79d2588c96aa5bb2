"""A model of videos is exported for the package's own class, which AutoModel finds, or for stock LLaVA."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, LlavaForConditionalGeneration

from locvlm.answering.answerer import Asked, Decoding
from locvlm.answering.locvlm import answerer_of, load_answerer
from locvlm.data.tokenize import load_tokenizer
from locvlm.export.check import compare_videos
from locvlm.export.hf import export_hf
from locvlm.model.locvlm import LocVLM
from locvlm.model.registered import LocVLMVideo, LocVLMVideoConfig

NUM_FRAMES = 5
LONG = Decoding(max_new_tokens=12)


@pytest.fixture(scope="module")
def exported(build_video_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "tiny-locvlm-vid"
    assert export_hf(build_video_checkpoint(), out) == "video"
    return out


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def asked() -> list[Asked]:
    """Questions about two videos, an image and nothing."""
    clips = [tuple(picture(10 * k + n) for n in range(NUM_FRAMES)) for k in range(2)]
    questions = ["Where is the dog?", "What is at (1, 2, 3, 4)?"]
    return [
        Asked(image=None, frames=clips[0], questions=questions),
        Asked(image=picture(99), questions=questions),
        Asked(image=None, questions=questions[:1]),
        Asked(image=None, frames=clips[1], questions=questions),
    ]


@pytest.mark.parametrize("pad_frames", [None, 9])
@pytest.mark.parametrize("frame", ["stretch", "crop"])
def test_auto_model_gives_the_checkpoints_answers_and_scores(
    build_video_checkpoint, tmp_path, pad_frames, frame
):
    checkpoint, out = build_video_checkpoint(pad_frames, frame), tmp_path / "out"
    export_hf(checkpoint, out)  # checks logits, of an image and of a video
    loaded, info = AutoModelForImageTextToText.from_pretrained(out, output_loading_info=True)
    assert type(loaded) is LocVLMVideo
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    original = LocVLM.from_pretrained(checkpoint)
    assert all(torch.equal(loaded.state_dict()[n], w) for n, w in original.state_dict().items())
    assert loaded.spec == original.spec
    assert loaded.video == original.video
    tokenizer = load_tokenizer(out)
    ours, theirs, by_folder = (
        answerer_of(original.eval(), load_tokenizer(checkpoint)),
        answerer_of(loaded.eval(), tokenizer),
        load_answerer(out),
    )
    answers = ours.answer(asked(), LONG)
    assert theirs.answer(asked(), LONG) == by_folder.answer(asked(), LONG) == answers
    assert len({text for of_item in answers for text in of_item}) > 3
    options = [[["left", "right"] for _ in item.questions] for item in asked()]
    assert theirs.option_scores(asked(), options) == ours.option_scores(asked(), options)


def test_the_config_names_the_packages_class_and_no_remote_code(exported):
    config = json.loads((exported / "config.json").read_text())
    assert config["architectures"] == ["LocVLMVideo"]
    assert config["model_type"] == "locvlm_video"
    assert "auto_map" not in config
    assert config["locvlm"]["video"]["num_frames"] == NUM_FRAMES
    assert not list(exported.glob("*.py"))
    assert type(AutoConfig.from_pretrained(exported)) is LocVLMVideoConfig


def test_the_weights_have_the_published_names_and_are_those_of_the_stock_export(
    exported, build_video_checkpoint, tmp_path
):
    assert export_hf(build_video_checkpoint(), tmp_path / "stock", export_class="stock") == "stock"
    ours, stock = (load_file(folder / "model.safetensors") for folder in (exported, tmp_path / "stock"))
    assert ours.keys() == stock.keys()
    assert {key.split(".")[0] for key in ours} == {"language_model", "vision_tower", "multi_modal_projector"}
    assert all(torch.equal(ours[key], stock[key]) for key in ours)
    assert (
        type(AutoModelForImageTextToText.from_pretrained(tmp_path / "stock")) is LlavaForConditionalGeneration
    )


def test_the_cards_say_which_export_it_is(exported, build_video_checkpoint, build_checkpoint, tmp_path):
    export_hf(build_video_checkpoint(), tmp_path / "stock", export_class="stock")
    export_hf(build_checkpoint(adapter="mlp"), tmp_path / "images")
    card = (exported / "README.md").read_text()
    for fact in (
        "`LocVLMVideo`",
        "pipeline_tag: video-text-to-text",
        "import locvlm.model.registered",
        "| 5, from",
    ):
        assert fact in card
    assert "{" not in card
    stock = (tmp_path / "stock" / "README.md").read_text()
    assert "it sees images alone" in stock
    assert "pipeline_tag: image-text-to-text" in stock
    assert "video" not in (tmp_path / "images" / "README.md").read_text()


def test_without_the_import_transformers_says_that_it_does_not_know_the_class(exported, repo_root):
    for module, is_known in (("locvlm", False), ("locvlm.model.registered", True)):
        load = f"AutoConfig.from_pretrained({str(exported)!r})"
        code = f"import {module}; from transformers import AutoConfig; {load}"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) is is_known, done.stderr
        assert is_known or "locvlm_video" in done.stderr


def test_the_check_finds_another_pooling(exported, build_video_checkpoint, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in exported.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    config["locvlm"]["video"]["order"] = "spatial_temporal"
    (broken / "config.json").write_text(json.dumps(config))
    checkpoint = build_video_checkpoint()
    model, tokenizer = LocVLM.from_pretrained(checkpoint).eval(), load_tokenizer(checkpoint)
    compare_videos(model, tokenizer, "vicuna_v1", exported)
    with pytest.raises(ValueError, match="logits differ"):
        compare_videos(model, tokenizer, "vicuna_v1", broken)
    weights = load_file(exported / "model.safetensors")
    del weights["multi_modal_projector.linear_1.bias"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="load whole"):
        compare_videos(model, tokenizer, "vicuna_v1", broken)


def test_a_model_of_images_has_no_export_for_videos(build_checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"no videos to export for.*images alone"):
        export_hf(build_checkpoint(adapter="mlp"), tmp_path / "out", export_class="video")
    assert not list(tmp_path.iterdir())
