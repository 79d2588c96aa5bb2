"""A checkpoint answers the same whatever is asked beside, and scores options as training sees them."""

import math
from dataclasses import replace

import pytest

from locvlm.answering.answerer import Asked, Decoding, OptionScore
from locvlm.data.image import load_image
from locvlm.model.likelihood import likelihood_of_one

SHORT = Decoding(max_new_tokens=6)
OPTIONS = ["There is a red square.", "A", "(0, 17, 98, 224)"]


@pytest.fixture(scope="module")
def asked(tiny_world) -> list[Asked]:
    """Twelve images with one to five questions, and two without an image."""
    wordings = ["Where is the red square?", "What is at (0, 1, 2, 3)?", "Is there a green bar?", "Why?", "A"]
    items = [
        Asked(image=load_image(tiny_world.images / f"{i}.png"), questions=wordings[: 1 + i % 5])
        for i in range(12)
    ]
    blind = [Asked(image=None, questions=wordings[k:]) for k in (3, 1)]
    return [*items[:5], blind[0], *items[5:], blind[1], Asked(image=items[0].image, questions=[])]


@pytest.mark.parametrize("max_batch_tokens", [1, 300, 32768])
def test_answers_are_those_of_one_question_at_a_time_in_batches_of_any_size(
    answerer, asked, max_batch_tokens, one_by_one
):
    expected = one_by_one(answerer, asked, max_new_tokens=6)
    assert replace(answerer, max_batch_tokens=max_batch_tokens).answer(asked, SHORT) == expected
    assert len({answer for answers in expected for answer in answers}) > 20


def test_batches_stay_within_their_tokens(answerer, asked):
    sizes = []
    hook = answerer.model.model.language_model.register_forward_hook(
        lambda _, __, output: sizes.append(
            output.past_key_values.layers[0].keys.shape[0] * output.past_key_values.get_seq_length()
        )
    )
    replace(answerer, max_batch_tokens=400).answer(asked, SHORT)
    many = list(sizes)
    replace(answerer, max_batch_tokens=400).answer(asked, replace(SHORT, beams=2))
    hook.remove()
    assert max(many) <= 400
    assert max(sizes) <= 400
    assert sum(size > 200 for size in many) > 4  # and are not much smaller than they may be


@pytest.mark.parametrize(
    "decoding", [replace(SHORT, greedy=False, temperature=3.0, seed=5), replace(SHORT, beams=3)], ids=str
)
def test_draws_and_beams_do_not_depend_on_the_batch_either(answerer, asked, decoding):
    together = answerer.answer(asked, decoding)
    assert replace(answerer, max_batch_tokens=1).answer(asked, decoding) == together
    assert together != answerer.answer(asked, SHORT)


def test_an_options_score_is_its_likelihood_behind_the_question(answerer, asked, ids_of, pixels_of):
    options = [[OPTIONS[: 1 + k % 3] for k in range(len(item.questions))] for item in asked]
    scores = answerer.option_scores(asked, options)
    compared = 0
    for item, per_question, of_image in zip(asked, options, scores, strict=True):
        for question, texts, of_question in zip(item.questions, per_question, of_image, strict=True):
            prompt = ids_of(answerer, item, question)
            for text, score in zip(texts, of_question, strict=True):
                whole = ids_of(answerer, item, question, f" {text}</s>")
                assert whole[: len(prompt)] == prompt
                assert score.num_tokens == len(whole) - len(prompt)
                alone = likelihood_of_one(
                    answerer.model, whole, pixels_of(answerer, item), answer_start=len(prompt)
                )
                assert score.log_likelihood == pytest.approx(
                    alone, abs=2e-4
                )  # the library computes norms in fp32
                compared += 1
    assert compared > 60


def test_scores_do_not_depend_on_the_batch(answerer, asked):
    options = [[OPTIONS for _ in item.questions] for item in asked]
    many, few = (
        replace(answerer, max_batch_tokens=tokens).option_scores(asked, options) for tokens in (32768, 200)
    )
    for a, b in zip(flat(many), flat(few), strict=True):
        assert a.num_tokens == b.num_tokens
        assert a.log_likelihood == pytest.approx(b.log_likelihood, abs=2e-4)
    assert len({score.log_likelihood for score in flat(many)}) > 60


def flat(scores):
    return [score for of_image in scores for of_question in of_image for score in of_question]


def test_a_scores_mean_and_perplexity_are_per_token():
    score = OptionScore(log_likelihood=-6.0, num_tokens=4)
    assert score.mean == -1.5
    assert score.perplexity == math.exp(1.5)


def test_a_question_without_options_and_an_empty_option_are_refused(answerer, asked):
    with pytest.raises(ValueError, match="no options to choose from for 'Where is the red square"):
        answerer.option_scores(asked[:1], [[[]]])
    with pytest.raises(ValueError, match="a turn needs an answer"):
        answerer.option_scores(asked[:1], [[["A", ""]]])


def test_decodings_that_make_no_sense_are_refused_and_others_say_what_they_are():
    assert Decoding(beams=3).describe() == "3 beams"
    for wrong in ({"beams": 0}, {"max_new_tokens": 0}, {"greedy": False, "beams": 2}):
        with pytest.raises(ValueError, match="decode"):
            Decoding(**wrong)
