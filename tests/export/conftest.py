"""A tiny checkpoint of every frame, composed from random parts, with a sentencepiece tokenizer."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from locvlm.data.prompt import FORMATS, chat_template, render_question
from locvlm.data.tokenize import load_tokenizer
from locvlm.model.compose import CoordinateChoice, compose, save_checkpoint
from locvlm.model.locvlm import LocVLM
from locvlm.world.pretraining.tokenizer import train_tokenizer

VOCABULARY = 400


def save_language_model(folder, *, vocab_size):
    """One whose positions and attention matter to the logits."""
    config = LlamaConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocab_size,
        rope_parameters={"rope_type": "default", "rope_theta": 50000.0},
    )
    llm = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in llm.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10.0)
    llm.save_pretrained(folder)


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """llm/ with a rope base that is not the default, and clip/."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("parts")
    sentences = [render_question("Where is the dog? (0, 12, 345, 67) 89", name, False) for name in FORMATS]
    save_language_model(folder / "llm", vocab_size=VOCABULARY)
    train_tokenizer(sentences * 10, folder / "llm" / "tokenizer.model", num_pieces=VOCABULARY)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        hidden_act="gelu",
    )
    CLIPVisionModel(vision).save_pretrained(folder / "clip")
    return folder


@pytest.fixture(scope="session")
def build_checkpoint(parts, tmp_path_factory):
    """build_checkpoint(frame=, adapter=, conversation=, tokenizer=folder) -> folder, each made once."""
    made = {}

    def build(frame="stretch", adapter="linear", conversation="vicuna_v1", tokenizer=None):
        key = (frame, adapter, conversation, tokenizer)
        if key not in made:
            llm = parts / "llm"
            if tokenizer is not None:
                llm = tmp_path_factory.mktemp("llm")
                save_language_model(llm, vocab_size=len(load_tokenizer(tokenizer)))
            tokenizer = load_tokenizer(tokenizer or llm)
            model = compose(
                llm=llm,
                clip=str(parts / "clip"),
                tokenizer=tokenizer,
                adapter=adapter,
                coordinates=CoordinateChoice(frame=frame),
                conversation=conversation,
            )
            made[key] = tmp_path_factory.mktemp("checkpoint") / "init"
            save_checkpoint(model, tokenizer, made[key], chat_template=chat_template(conversation))
        return made[key]

    return build


NUM_FRAMES = 5


@pytest.fixture(scope="session")
def build_video_checkpoint(build_checkpoint, tmp_path_factory):
    """build_video_checkpoint(pad_frames=, frame=) -> folder of a model that sees videos by 5 frames."""
    made = {}

    def build(pad_frames=None, frame="stretch"):
        key = (pad_frames, frame)
        if key not in made:
            checkpoint = build_checkpoint(frame=frame, adapter="mlp")
            model, tokenizer = LocVLM.from_pretrained(checkpoint), load_tokenizer(checkpoint)
            video = {"num_frames": NUM_FRAMES, "order": "temporal_spatial", "pad_frames": pad_frames}
            model.config.locvlm = {**model.config.locvlm, "video": video}
            made[key] = tmp_path_factory.mktemp("video") / "stage3"
            save_checkpoint(model, tokenizer, made[key], chat_template=chat_template("vicuna_v1"))
        return made[key]

    return build
