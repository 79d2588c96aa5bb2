"""A stock LLaVA is asked as LLaVA-1.5 was taught, and answers as transformers' class does."""

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
    SiglipVisionConfig,
)

from locvlm.answering.answerer import Asked, Decoding
from locvlm.answering.llava import load_llava
from locvlm.data.image import load_image
from locvlm.geometry import Box
from locvlm.records import Query

QUESTIONS = ["Where is the red square?", "Is there a white cross?\nAnswer with yes or no.", "What?"]
SHORT = Decoding(max_new_tokens=8)


def load(folder, **settings):
    return load_llava(folder, **{"dtype": torch.float64, "max_batch_tokens": 4096, **settings})


def make_louder(model) -> None:
    """With weights so large that answers differ."""
    with torch.no_grad():
        for parameter in model.model.language_model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)


@pytest.fixture(scope="module")
def llava(foreign):
    loaded = load(foreign("llava"))
    make_louder(loaded.engine.model)
    return loaded


@pytest.fixture(scope="module")
def asked(tiny_world) -> list[Asked]:
    return [
        Asked(image=load_image(tiny_world.images / f"{i}.png"), questions=QUESTIONS[: 1 + i % 3])
        for i in range(6)
    ]


@pytest.fixture(scope="module")
def stock(foreign):
    """transformers' class and processor, with the same weights; the processor pads to a square."""
    model = LlavaForConditionalGeneration.from_pretrained(foreign("llava"), dtype=torch.float64).eval()
    make_louder(model)
    square = {"height": 56, "width": 56}
    images = LlavaImageProcessorPil(size=square, crop_size=square, do_center_crop=False, do_pad=True)
    processor = LlavaProcessor(
        images, AutoTokenizer.from_pretrained(foreign("llava")), patch_size=14,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip

    def read(item, question, answer=""):
        text = f"USER: <image>\n{question} ASSISTANT:{answer}"
        return processor(images=item.image, text=text, return_tensors="pt").to(torch.float64)

    return model, processor, read


def test_answers_are_those_of_transformers_one_at_a_time_on_padded_images(llava, stock, asked):
    model, processor, read = stock
    expected = []
    for item in asked:
        said = []
        for question in item.questions:
            inputs = read(item, question)
            ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)
            said.append(processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        expected.append([text.strip() for text in said])
    assert any(item.image.width != item.image.height for item in asked)
    assert llava.answer(asked, SHORT) == expected
    assert len({text for of_image in expected for text in of_image}) >= 6


def test_a_question_without_an_image_is_asked_as_text_alone(llava, stock, asked):
    model, processor, _ = stock
    expected = []
    for question in QUESTIONS:
        inputs = processor(text=f"USER: {question} ASSISTANT:", return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        said = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        expected.append(said.strip())
    blind = Asked(image=None, questions=QUESTIONS)
    alone, *_ = llava.answer([blind], SHORT)
    assert alone == expected
    mixed = llava.answer([asked[0], blind, asked[1]], SHORT)
    assert mixed == [llava.answer([asked[0]], SHORT)[0], expected, llava.answer([asked[1]], SHORT)[0]]


def test_options_are_scored_as_transformers_loss_has_them(llava, stock, asked):
    model, _, read = stock
    options = [[["Yes", "No", "A red cross."] for _ in item.questions] for item in asked]
    compared = 0
    for item, of_image in zip(asked, llava.option_scores(asked, options), strict=True):
        for question, scores in zip(item.questions, of_image, strict=True):
            start = read(item, question)["input_ids"].shape[1]
            for option, score in zip(options[0][0], scores, strict=True):
                inputs = read(item, question, f" {option}</s>")
                labels = inputs["input_ids"].clone()
                labels[:, :start] = -100
                with torch.no_grad():
                    loss = model(**inputs, labels=labels).loss
                assert score.num_tokens == labels.shape[1] - start
                # the library computes norms and losses in fp32
                assert score.log_likelihood == pytest.approx(-float(loss) * score.num_tokens, rel=1e-4)
                compared += 1
    assert compared == 36


def test_it_is_asked_about_locations_in_the_words_and_numbers_of_its_training(llava):
    where = Query(objective="locpred", phrase="the red cup", box_px=Box(0, 0, 40, 10))
    rng = random.Random(0)
    assert llava.question(where, location_text="-", rng=rng) == (
        "Please provide the bounding box coordinate of the region this sentence describes: the red cup."
    )
    frame = llava.contract.frame_for((80, 40))
    text = llava.contract.write(where.box_px, frame)
    assert text == "[0.00, 0.25, 0.50, 0.38]"  # of the padded square: 20 rows of padding above
    assert llava.question(replace(where, objective="revloc"), location_text=text, rng=rng) == (
        "Please provide a short description for this region: [0.00, 0.25, 0.50, 0.38]."
    )
    assert llava.contract.read("[0.0, 0.25, 0.5, 0.5]", frame) == Box(0, 0, 40, 20)
    assert llava.question(Query(objective="vqa", question="Why?"), location_text=None, rng=rng) == "Why?"


def test_another_convention_decides_words_numbers_and_what_is_shown(foreign, tiny_world):
    other = load(foreign("llava"), convention="thousand")
    assert (other.contract.codec, other.contract.frame, other.contract.canvas) == ("thousand", "stretch", 56)
    none = load(foreign("llava"), convention="none")
    assert none.contract is None
    image = load_image(tiny_world.images / "0.png")
    assert image.width != image.height
    pixels = [loaded.engine.pixels(image) for loaded in (other, none, load(foreign("llava")))]
    assert not (pixels[0] == pixels[2]).all()
    assert (pixels[1] == pixels[2]).all()
    ours = load(foreign("llava"), convention=str(tiny_world.init))
    assert ours.contract.codec == "ivb"


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_pixels_are_normalised_as_its_processor_says(foreign, tmp_path, name):
    folder = shutil.copytree(foreign("llava"), tmp_path / "model")
    values = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.1, 0.2, 0.3]}
    for old in ("preprocessor_config.json", "processor_config.json"):
        (folder / old).unlink(missing_ok=True)
    saved = values if name.startswith("pre") else {"image_processor": values}
    (folder / name).write_text(json.dumps(saved))
    spec = load(folder).engine.model.spec
    assert (spec.image_mean, spec.image_std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))


def test_what_is_no_llava_of_clip_and_llama_is_refused(foreign, tmp_path):
    tokens = AutoTokenizer.from_pretrained(foreign("llava"))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**sizes, image_size=28, patch_size=14).to_dict(),
        text_config={"model_type": "llama", **sizes, "vocab_size": len(tokens)},
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
    )
    LlavaForConditionalGeneration(config).save_pretrained(tmp_path / "siglip")
    with pytest.raises(ValueError, match=r"vision_config\.model_type 'siglip_vision_model'.*give its URL"):
        load(tmp_path / "siglip")
    mixed = shutil.copytree(foreign("llava"), tmp_path / "mixed")
    saved = json.loads((mixed / "config.json").read_text())
    for name in ("image_token_index", "image_token_id"):
        saved.pop(name, None)
    (mixed / "config.json").write_text(json.dumps({**saved, "image_token_index": 7}))
    with pytest.raises(ValueError, match="image_token_index 7, the tokenizer has"):
        load(mixed)
