"""Tiny random models of transformers' own classes, saved and loaded as anyone's checkpoints are."""

import shutil

import pytest
from PIL import Image

from locvlm.building.captioning.captioner import Picture, Prompted
from locvlm.building.captioning.huggingface import load_huggingface_captioner

# of one word to many, so that rows of a batch are padded
PROMPTS = (
    "Where?",
    "Describe the red square in this image, a white cross.",
    "The blue disc, is it",
    "What is a?",
)
SETTINGS = {"max_new_tokens": 12, "prompts_per_batch": 8, "dtype": "float64"}  # exact: no ties by rounding


@pytest.fixture(scope="module")
def llava(foreign):
    return foreign("llava")


@pytest.fixture(scope="module", params=["opt", "t5"])
def blip2(request, foreign):
    """BLIP-2 with a decoder, and with an encoder-decoder, which does not repeat the prompt."""
    return foreign(f"blip-2/{request.param}")


def pictures(tiny_world) -> list[Prompted]:
    asked = []
    for k, prompts in enumerate((PROMPTS, PROMPTS[:1], PROMPTS[1:3])):
        path = tiny_world.images / f"{k}.png"
        asked.append(Prompted(picture=Picture(path=path, image=Image.open(path)), prompts=prompts))
    return asked


def require_batch_free(captioner, asked) -> list[list[str]]:
    """The answers of one batch, which have to be those of every prompt alone."""
    [together] = captioner.describe([asked])
    for item, answers in zip(asked, together, strict=True):
        for prompt, answer in zip(item.prompts, answers, strict=True):
            [[[alone]]] = captioner.describe([[Prompted(picture=item.picture, prompts=(prompt,))]])
            assert answer == alone, prompt
    texts = [[answer.text for answer in answers] for answers in together]
    assert len({text for of_picture in texts for text in of_picture}) >= 4  # not the same by chance
    return texts


def test_llava_by_its_chat_template_answers_in_a_batch_as_alone(llava, tiny_world):
    captioner = load_huggingface_captioner(str(llava), **SETTINGS)
    require_batch_free(captioner, pictures(tiny_world))


def test_a_prompt_format_takes_the_place_of_the_template(llava, tiny_world):
    asked = pictures(tiny_world)
    own = load_huggingface_captioner(str(llava), **SETTINGS)
    rendered = own.model.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "{prompt}"}]}],
        add_generation_prompt=True,
    )
    given = load_huggingface_captioner(str(llava), prompt_format=rendered, **SETTINGS)
    assert list(given.describe([asked])) == list(own.describe([asked]))
    (llava.parent / "bare").mkdir()
    for path in llava.iterdir():
        if path.name != "chat_template.jinja":
            shutil.copy(path, llava.parent / "bare")
    with pytest.raises(ValueError, match=r"no chat template.*--prompt-format"):
        load_huggingface_captioner(str(llava.parent / "bare"), **SETTINGS)
    bare = load_huggingface_captioner(str(llava.parent / "bare"), prompt_format=rendered, **SETTINGS)
    assert list(bare.describe([asked])) == list(own.describe([asked]))


def test_blip2_answers_in_a_batch_as_alone(blip2, tiny_world):
    captioner = load_huggingface_captioner(str(blip2), prompt_format="Question: {prompt} Answer:", **SETTINGS)
    for texts in require_batch_free(captioner, pictures(tiny_world)):
        assert not any("Question" in text for text in texts)


def test_an_answer_at_the_token_limit_is_cut_off_and_one_with_an_end_is_not(llava, tiny_world):
    captioner = load_huggingface_captioner(str(llava), **SETTINGS)
    [answers] = captioner.describe([pictures(tiny_world)[:1]])
    assert all(answer.is_cut_off for answer in answers[0])  # a random model does not end by itself
    captioner.model.model.generation_config.eos_token_id = list(range(3, 480, 2))  # soon one of them comes
    [[[ended, *_]]] = captioner.describe([pictures(tiny_world)[:1]])
    assert not ended.is_cut_off
    assert len(ended.text) < len(answers[0][0].text)


def test_what_cannot_be_loaded_is_said(tmp_path, llava):
    with pytest.raises(ValueError, match="cannot be loaded as an image-text model"):
        load_huggingface_captioner(str(tmp_path), **SETTINGS)
    with pytest.raises(ValueError, match=r"holds '\{prompt\}' where"):
        load_huggingface_captioner(str(llava), prompt_format="USER: <image>", **SETTINGS)


def test_a_name_stands_for_the_weights_that_were_loaded(llava):
    captioner = load_huggingface_captioner(str(llava), **SETTINGS)
    again = load_huggingface_captioner(str(llava), **SETTINGS)
    shorter = load_huggingface_captioner(str(llava), **{**SETTINGS, "max_new_tokens": 3})
    assert captioner.identity == again.identity
    assert captioner.identity != shorter.identity
