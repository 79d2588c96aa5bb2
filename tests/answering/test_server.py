"""A model behind a real server on this host."""

import base64
import io
import random

import numpy as np
import pytest
from PIL import Image

from locvlm.answering.answerer import Asked, Decoding, NoAnswer
from locvlm.answering.conventions import find_convention
from locvlm.answering.server import ServerAnswerer
from locvlm.chat_server import ChatServer, ServerError, ServerOptions
from locvlm.records import Query


def open_answerer(endpoint, convention="thousand", **options) -> ServerAnswerer:
    patience = {"timeout_s": 5.0, "num_retries": 0, "concurrency": 4}
    server = ChatServer(ServerOptions(url=endpoint.url, **{**patience, **options}))
    contract, words = find_convention(convention)
    return ServerAnswerer(server=server, contract=contract, words=words)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def text_of(question) -> str:
    content = question["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def image_of(question) -> Image.Image | None:
    content = question["messages"][-1]["content"]
    if isinstance(content, str):
        return None
    return Image.open(io.BytesIO(base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])))


def test_answers_belong_to_their_images_which_arrive_pixel_for_pixel(serve):
    def reply(question, number):
        image = image_of(question)
        return f" {text_of(question)} {'' if image is None else image.tobytes()[:6].hex()} \n"

    answerer = open_answerer(serve(reply))
    asked = [Asked(image=picture(k), questions=[f"{k}?", f"{k}!"][: 1 + k % 2]) for k in range(20)]
    asked += [Asked(image=None, questions=["alone"]), Asked(image=picture(0), questions=[])]
    expected = [
        [f"{q} {item.image.tobytes()[:6].hex()}" if item.image else q for q in item.questions]
        for item in asked
    ]
    for _ in range(2):  # the connections stay open
        assert answerer.answer(asked, Decoding()) == expected
    assert answerer.answer([], Decoding()) == []


@pytest.mark.parametrize(
    ("decoding", "sent"),
    [
        (Decoding(max_new_tokens=7), {"max_tokens": 7, "temperature": 0.0, "seed": 0}),
        (
            Decoding(greedy=False, temperature=0.2, seed=5),
            {"max_tokens": 48, "temperature": 0.2, "seed": 5},
        ),
    ],
)
def test_the_server_is_told_how_to_decode(serve, decoding, sent):
    endpoint = serve(lambda question, number: "fine")
    open_answerer(endpoint).answer([Asked(image=None, questions=["?"])], decoding)
    assert {name: endpoint.questions[0][name] for name in sent} == sent


def test_what_the_server_refuses_has_no_answer_and_one_that_is_down_stops_the_run(serve):
    endpoint = serve(lambda question, number: 400 if text_of(question) == "b" else "fine")
    asked = [Asked(image=picture(0), questions=["a", "b", "c"])]
    [[first, second, third]] = open_answerer(endpoint).answer(asked, Decoding())
    assert (first, third) == ("fine", "fine")
    assert isinstance(second, NoAnswer)
    assert "400" in second.reason
    down = open_answerer(serve(lambda question, number: 500), max_failures_in_a_row=3)
    with pytest.raises(ServerError, match="seems to be down"):
        down.answer([Asked(image=None, questions=["a"] * 50)], Decoding())


def test_beams_and_likelihoods_are_refused_before_anything_is_asked(serve):
    endpoint = serve(lambda question, number: "fine")
    answerer = open_answerer(endpoint)
    with pytest.raises(ValueError, match=r"the task wants 3 beams; load the model here: --model FOLDER"):
        answerer.answer([], Decoding(beams=3))
    with pytest.raises(ValueError, match="does not say how likely given options are"):
        answerer.option_scores([], [])
    assert endpoint.questions == []


def test_it_is_asked_in_the_words_of_its_convention(serve, tiny_world):
    endpoint = serve(lambda question, number: "fine")
    where = Query(objective="locpred", phrase="the cup")
    rng = random.Random(0)
    asked = {
        name: open_answerer(endpoint, name).question(where, location_text="[1]", rng=rng)
        for name in ("thousand", "llava", str(tiny_world.init))
    }
    assert "whole numbers from 0 to 1000" in asked["thousand"]
    assert asked["llava"].endswith("the region this sentence describes: the cup.")
    assert "the cup" in asked[str(tiny_world.init)]
    assert "(x1,y1,x2,y2) bbox" in asked[str(tiny_world.init)]
