"""Each baseline is asked in its own words, and answers as its class does with its own processor."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from locvlm.answering.answerer import Asked, Decoding, NoAnswer
from locvlm.answering.baselines import KINDS, NO_IMAGE, clean_kosmos2, load_baseline
from locvlm.answering.huggingface import Row
from locvlm.data.image import load_image
from locvlm.geometry import Box
from locvlm.records import Query

QUESTIONS = ["Where is the red square?", "Is there a white cross?", "What is it? Answer in one word."]
SHORT = Decoding(max_new_tokens=6)
WHERE = Query(objective="locpred", phrase="the red cup", box_px=Box(1, 2, 3, 4))
WHAT = replace(WHERE, objective="revloc")
ASKED = Query(objective="vqa", question="Is it red?")


def load(foreign, kind, **settings):
    dtype = torch.float32 if kind == "kosmos-2" else torch.float64
    return load_baseline(
        str(foreign(kind)),
        kind.split("/")[0],
        **{"dtype": dtype, "device": None, "max_batch_tokens": 4096, **settings},
    )


@pytest.fixture(scope="module", params=["blip-2/opt", "instructblip/llama", "kosmos-2"])
def baseline(request, foreign):
    return load(foreign, request.param)


@pytest.fixture(scope="module")
def asked(tiny_world) -> list[Asked]:
    """Six images with up to three questions, and one question without an image."""
    items = [
        Asked(image=load_image(tiny_world.images / f"{i}.png"), questions=QUESTIONS[: i % 4])
        for i in range(6)
    ]
    return [*items[:3], Asked(image=None, questions=["Why?"]), *items[3:]]


@pytest.mark.parametrize("max_batch_tokens", [1, 300, 4096])
def test_answers_are_those_of_its_prompt_alone_in_batches_of_any_size(baseline, asked, max_batch_tokens):
    model_type = baseline.model.model.config.model_type
    prompt = "{question}" if model_type == "instructblip" else "Question: {question} Answer:"
    expected = [
        [
            NoAnswer(NO_IMAGE)
            if item.image is None
            else baseline.kind.clean(
                question,
                baseline.model.generate(
                    [Row(image=baseline._framed(item.image), prompt=prompt.replace("{question}", question))],
                    SHORT,
                )[0].text,
            )
            for question in item.questions
        ]
        for item in asked
    ]
    assert replace(baseline, max_batch_tokens=max_batch_tokens).answer(asked, SHORT) == expected


def test_batches_stay_within_their_tokens(foreign, asked):
    baseline = load(foreign, "blip-2/opt", max_batch_tokens=150)
    shapes = []
    baseline.model.model.language_model.register_forward_hook(
        lambda _, __, output: shapes.append((len(output.logits), output.past_key_values.get_seq_length()))
    )
    for beams in (1, 2):
        baseline.answer(asked, replace(SHORT, beams=beams))
    assert max(rows * length for rows, length in shapes) <= 150
    assert max(rows for rows, _ in shapes) > 1


def test_options_are_scored_in_order_whatever_the_batch(baseline, asked):
    seen = [item for item in asked if item.image is not None]
    options = [[["yes", "no", "a red cross"][: 1 + k] for k in range(len(item.questions))] for item in seen]
    scores = baseline.option_scores(seen, options)
    few = replace(baseline, max_batch_tokens=1).option_scores(seen, options)
    assert [[len(texts) for texts in of_image] for of_image in options] == [
        [len(of_question) for of_question in of_image] for of_image in scores
    ]
    flat, flat_few = ([s for i in found for q in i for s in q] for found in (scores, few))
    assert [s.num_tokens for s in flat] == [s.num_tokens for s in flat_few]
    assert [s.log_likelihood for s in flat] == pytest.approx([s.log_likelihood for s in flat_few], rel=1e-5)
    assert len({round(s.log_likelihood, 4) for s in flat}) == len(flat) > 10


def test_options_without_text_or_image_are_refused(baseline, asked):
    with pytest.raises(ValueError, match=r"no options to choose from for '.*Where is the red square"):
        baseline.option_scores(asked[1:2], [[[]]])
    with pytest.raises(ValueError, match="takes no question without an image"):
        baseline.option_scores(asked[3:4], [[["yes"]]])
    assert baseline.option_scores([], []) == []
    assert baseline.answer([], SHORT) == []


def test_only_kosmos_2_is_asked_about_locations_in_its_grounding_tags(baseline):
    rng = random.Random(0)
    assert baseline.question(ASKED, location_text=None, rng=rng) == "Is it red?"
    if baseline.contract is None:
        with pytest.raises(ValueError, match="no way of writing locations"):
            baseline.question(WHERE, location_text=None, rng=rng)
        return
    assert baseline.question(WHERE, location_text="-", rng=rng) == "<grounding><phrase> the red cup</phrase>"
    frame = baseline.contract.frame_for((64, 32))
    text = baseline.contract.write(Box(0, 0, 64, 16), frame)
    question = baseline.question(WHAT, location_text=text, rng=rng)
    assert question == (
        "<grounding><phrase> It</phrase><object><patch_index_0000><patch_index_0511></object> is"
    )
    assert baseline.kind.prompt_for(question) == question
    assert baseline.kind.prompt_for("Is it red?") == "Question: Is it red? Answer:"


def test_locations_go_through_kosmos_2_and_come_back(foreign, tiny_world):
    """The model is random; what it is given and what is read is not."""
    baseline = load(foreign, "kosmos-2")
    question = baseline.question(WHERE, location_text="-", rng=random.Random(0))
    tokenizer = baseline.model.processor.tokenizer
    said = "<object><patch_index_0033><patch_index_0990></object>"
    ids = tokenizer(said, add_special_tokens=False)["input_ids"]
    text = baseline.model._read([*ids, tokenizer.eos_token_id], 48).text
    contract = baseline.contract
    box = contract.read(baseline.kind.clean(question, text), contract.frame_for((64, 96)))
    assert box == pytest.approx(Box(3, 4.5, 61, 91.5))  # patch centres of 2 x 3 pixels
    assert contract.frame_for((64, 96)).canvas_size == (28, 28)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("<grounding><phrase> a cup</phrase>", "<object><patch_index_0033><patch_index_0990></object>"),
        ("Is it red?", "Yes it is"),
        ("<grounding><phrase> It</phrase><object>...</object> is", "a cup on a table"),
    ],
)
def test_tags_are_taken_out_of_what_is_no_location(question, answer):
    tagged = {"Yes it is": "Yes<phrase> it</phrase><object><patch_index_0001><patch_index_0002></object> is"}
    tagged["a cup on a table"] = "<phrase> a cup</phrase></delimiter_of_multi_objects/> on<grounding> a table"
    assert clean_kosmos2(question, tagged.get(answer, answer)) == answer


def test_the_image_is_shown_in_the_frame_that_boxes_are_read_in_whatever_the_processor_does(
    foreign, tmp_path
):
    """A processor that cuts out the centre, as CLIP's own does, may not do so behind the contract's back."""
    cropping = shutil.copytree(foreign("kosmos-2"), tmp_path / "cropping")
    config = json.loads((cropping / "processor_config.json").read_text())
    config["image_processor"] |= {"size": {"shortest_edge": 28}, "do_center_crop": True}
    (cropping / "processor_config.json").write_text(json.dumps(config))
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8))
    seen = []
    for folder in (foreign("kosmos-2"), cropping):
        baseline = load_baseline(
            str(folder), "kosmos-2", dtype=torch.float32, device=None, max_batch_tokens=999
        )
        [row] = baseline._rows([Asked(image=picture, questions=["Why?"])])
        seen.append(baseline.model._encode([row.image], [row.prompt], side="left")["pixel_values"])
    assert torch.equal(*seen)
    alone = baseline.model._encode([picture], ["Why?"], side="left")["pixel_values"]
    assert not torch.equal(alone, seen[0])  # this one cuts, when it is left alone


def test_kinds_are_what_transformers_calls_them(foreign):
    for kind in ("blip-2/opt", "instructblip/llama", "kosmos-2"):
        config = json.loads((foreign(kind) / "config.json").read_text())
        assert config["model_type"] == kind.split("/")[0]
        assert config["model_type"] in KINDS
