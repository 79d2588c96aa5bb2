"""Rows of a batch are answered and scored as each is alone, by every class that stands for others."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from locvlm.answering.answerer import Decoding
from locvlm.answering.huggingface import Row, load_image_text_model
from locvlm.data.image import load_image

KINDS = ("blip-2/opt", "blip-2/t5", "instructblip/llama", "instructblip/t5", "kosmos-2")
# of one word to many, so that rows of a batch are padded
PROMPTS = (
    "Where?",
    "Describe the red square in this image, a white cross.",
    "The blue disc, is it",
    "Question: What is a? Answer:",
)
OPTIONS = ("yes", "a white cross (0, 17)", "no")
SHORT = Decoding(max_new_tokens=8)


@pytest.fixture(scope="module", params=KINDS)
def model(request, foreign):
    # fp64 is exact: no ties by rounding; the library's Kosmos-2 cannot make its mask in it
    dtype = torch.float32 if request.param == "kosmos-2" else torch.float64
    return load_image_text_model(str(foreign(request.param)), dtype=dtype)


@pytest.fixture(scope="module")
def rows(tiny_world) -> list[Row]:
    images = [load_image(tiny_world.images / f"{k}.png") for k in range(4)]
    return [Row(image=image, prompt=prompt) for image in images for prompt in PROMPTS]


@pytest.mark.parametrize(
    "decoding",
    [SHORT, replace(SHORT, beams=3), replace(SHORT, greedy=False, temperature=1.5, seed=3)],
    ids=Decoding.describe,
)
def test_answers_of_a_batch_are_those_of_every_row_alone(model, rows, decoding):
    together = model.generate(rows, decoding)
    assert together == [answer for row in rows for answer in model.generate([row], decoding)]
    assert len({answer.text for answer in together}) >= 3  # not the same by chance
    assert model.generate([], decoding) == []


def test_draws_depend_on_the_seed(model, rows):
    drawn = replace(SHORT, greedy=False, temperature=1.5, seed=3)
    assert model.generate(rows, drawn) == model.generate(rows, drawn)
    assert model.generate(rows, drawn) != model.generate(rows, replace(drawn, seed=4))


def test_scores_of_a_batch_are_those_of_every_row_alone(model, rows):
    options = [OPTIONS[k % 3] for k in range(len(rows))]
    together = model.option_scores(rows, options)
    for row, option, score in zip(rows, options, together, strict=True):
        [alone] = model.option_scores([row], [option])
        assert score.num_tokens == alone.num_tokens
        # fp32 where it has to be: sums of products in another order
        assert score.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-5)
    of_images = {round(score.log_likelihood, 3) for score in model.option_scores(rows[::4], ["yes"] * 4)}
    assert len(of_images) == 4  # the image is seen


def test_a_score_is_what_the_librarys_own_loss_makes_of_the_answer(model, rows):
    tokenizer = model.processor.tokenizer
    for row, option in zip(rows[:6], OPTIONS * 2, strict=True):
        asked = model._encode([row.image], [row.prompt], side="right")
        if model._has_encoder:
            ids = tokenizer(option, add_special_tokens=False)["input_ids"]
            labels = torch.tensor([[*ids, tokenizer.eos_token_id]])
            inputs = asked
        else:
            whole = model._encode([row.image], [f"{row.prompt} {option}"], side="right")
            width = whole["input_ids"].shape
            longer = {
                name: torch.nn.functional.pad(value, (0, 1), value=int(name == "attention_mask"))
                for name, value in whole.items()
                if value.shape == width and not name.startswith("qformer")
            }
            inputs = {**whole, **longer, **{k: v for k, v in asked.items() if k.startswith("qformer")}}
            inputs["input_ids"][:, -1] = tokenizer.eos_token_id
            labels = inputs["input_ids"].clone()
            labels[:, : asked["input_ids"].shape[1]] = -100
        num_tokens = int((labels != -100).sum())
        with torch.no_grad():
            loss = model.model(**inputs, labels=labels).loss
        [score] = model.option_scores([row], [option])
        assert score.num_tokens == num_tokens
        assert score.log_likelihood == pytest.approx(-float(loss) * num_tokens, rel=1e-5)


def test_the_length_of_a_row_is_known_before_it_is_asked(model, rows):
    lengths = [model._encode([row.image], [row.prompt], side="left")["input_ids"].shape[1] for row in rows]
    assert model.count_tokens(rows) == lengths
    assert len(set(lengths)) >= 3
    assert model.count_tokens([]) == []


def test_options_that_have_no_likelihood_are_refused(foreign, rows):
    model = load_image_text_model(str(foreign("blip-2/opt")))
    with pytest.raises(ValueError, match="an option needs text"):
        model.option_scores(rows[:2], ["yes", ""])
    model.processor.tokenizer.add_tokens([": yes"])
    with pytest.raises(ValueError, match=r"joins the end of the prompt with the option in 'Answer: yes'"):
        model.option_scores([Row(image=rows[0].image, prompt="Answer:")], ["yes"])


def test_weights_that_are_missing_are_not_made_up(foreign, tmp_path):
    folder = shutil.copytree(foreign("blip-2/opt"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "q_proj" not in name}
    kept["query_tokens"] = torch.zeros(1, 5, 16)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"4 missing: .*q_proj.*1 of another shape: query_tokens"):
        load_image_text_model(str(folder))
