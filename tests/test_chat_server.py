"""A real server on this host, which answers well, late, wrongly or not at all."""

import base64
import io
import itertools
import json
import threading
import time

import pytest
from PIL import Image

from locvlm.chat_server import (
    ChatServer,
    Decoding,
    Question,
    ServerError,
    ServerOptions,
    media_type,
)

SHORT = Decoding(max_tokens=16)


def text_of(question: dict) -> str:
    content = question["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def echo(question: dict, number: int) -> str:
    return f"you said {text_of(question)}"


def open_server(endpoint, **options) -> ChatServer:
    patience = {"timeout_s": 5.0, "num_retries": 2}
    return ChatServer(ServerOptions(url=endpoint.url, **{**patience, **options}))


def image_bytes(kind: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (9, 7), "teal").save(data, kind)
    return data.getvalue()


def test_a_question_goes_out_with_its_image_untouched_and_its_settings(serve):
    endpoint = serve(echo)
    photograph = image_bytes("JPEG")
    server = open_server(endpoint)
    reply = server.ask(
        Question(text="What is it?", images=(photograph,), system="Be brief."),
        Decoding(max_tokens=7, temperature=0.2, seed=3),
    )
    assert (reply.text, reply.model, reply.failure) == ("you said What is it?", "tiny-1.2", "")
    [asked] = endpoint.questions
    assert asked["model"] == "tiny"  # the only one there is
    assert (asked["max_tokens"], asked["temperature"], asked["seed"]) == (7, 0.2, 3)
    system, user = asked["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    image, text = user["content"]
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data) == photograph
    assert text == {"type": "text", "text": "What is it?"}


def test_text_alone_goes_out_as_a_string_and_without_a_seed(serve):
    endpoint = serve(echo)
    open_server(endpoint, model="other").ask(Question(text="Is it?"), SHORT)
    [asked] = endpoint.questions
    assert asked["messages"] == [{"role": "user", "content": "Is it?"}]
    assert asked["model"] == "other"
    assert "seed" not in asked


def test_two_errors_of_the_server_and_then_an_answer(serve):
    endpoint = serve(lambda question, number: 500 if number < 2 else "there")
    assert open_server(endpoint).ask(Question(text="?"), SHORT).text == "there"
    assert len(endpoint.questions) == 3


def test_each_wait_is_longer_than_the_one_before(serve):
    times = []

    def busy(question: dict, number: int) -> int | str:
        times.append(time.monotonic())
        return 503 if number < 3 else "there"

    assert open_server(serve(busy), num_retries=3).ask(Question(text="?"), SHORT).text == "there"
    first, second, third = (later - earlier for earlier, later in itertools.pairwise(times))
    assert 0.3 < first < second < third  # about 0.5, 1 and 2 s, up to a quarter less


@pytest.mark.parametrize(
    ("said", "expected", "num_asked"),
    [
        (503, "503", 3),
        (429, "429", 3),
        ("<hang>", "timed out", 3),
        ("<close>", "", 3),  # the package calls it a lost connection or a time-out
        (400, "400", 1),
        (b"{not json", "not JSON", 1),
        (b"<html>bad gateway</html>", "not JSON", 1),
        (b"[1, 2]", "no chat completion", 1),
        (b'{"choices": []}', "no chat completion", 1),
        (b'{"choices": [{"message": {"content": 5}}]}', "no chat completion", 1),
    ],
)
def test_what_stays_wrong_is_a_failure_that_says_why(serve, said, expected, num_asked):
    endpoint = serve(lambda question, number: said)
    reply = open_server(endpoint, timeout_s=0.3 if said == "<hang>" else 5.0).ask(Question(text="?"), SHORT)
    assert reply.text == ""
    assert reply.failure
    assert expected.lower() in reply.failure.lower()
    assert len(endpoint.questions) == num_asked


def test_an_answer_without_text_is_an_empty_one_and_a_long_one_says_it_was_cut(serve):
    body = b'{"model": "m", "choices": [{"finish_reason": "length", "message": {"content": null}}]}'
    endpoint = serve(lambda question, number: body)
    reply = open_server(endpoint).ask(Question(text="?"), SHORT)
    assert (reply.text, reply.is_cut_off, reply.failure) == ("", True, "")


def test_many_questions_are_answered_in_order_and_several_at_once(serve):
    lock, working, at_once = threading.Lock(), [0], []

    def slower_first(question: dict, number: int) -> str:
        with lock:
            working[0] += 1
            at_once.append(working[0])
        time.sleep(0.3 if text_of(question) == "0" else 0.05)
        with lock:
            working[0] -= 1
        return text_of(question)

    server = open_server(serve(slower_first), concurrency=4)
    replies = list(server.ask_all((Question(text=str(k)) for k in range(24)), SHORT))
    assert [reply.text for reply in replies] == [str(k) for k in range(24)]
    assert 2 <= max(at_once) <= 4


def test_questions_are_taken_only_a_little_ahead(serve):
    server = open_server(serve(echo), concurrency=2)
    taken = []

    def questions():
        for k in range(50):
            taken.append(k)
            yield Question(text=str(k))

    replies = server.ask_all(questions(), SHORT)
    assert next(replies).text == "you said 0"
    assert len(taken) == 4
    replies.close()


def test_one_failure_among_many_is_one_failed_reply(serve):
    endpoint = serve(lambda question, number: 400 if text_of(question) == "2" else "fine")
    server = open_server(endpoint, concurrency=1, max_failures_in_a_row=2)
    replies = list(server.ask_all([Question(text=str(k)) for k in range(5)], SHORT))
    assert [bool(reply.failure) for reply in replies] == [False, False, True, False, False]


def test_a_server_that_answers_nothing_for_long_stops_the_run(serve):
    endpoint = serve(lambda question, number: "fine" if number == 0 else 400)
    server = open_server(endpoint, concurrency=1, max_failures_in_a_row=3)
    got = []
    with pytest.raises(ServerError, match=r"3 questions in a row.*seems to be down.*goes on where it"):
        got.extend(server.ask_all((Question(text=str(k)) for k in range(1000)), SHORT))
    assert [bool(reply.failure) for reply in got] == [False, True, True]
    assert len(endpoint.questions) < 10


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_key_or_model_stops_at_once_and_shows_no_key(serve, monkeypatch, status):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    endpoint = serve(lambda question, number: status)  # it says the key back
    server = open_server(endpoint, key_variable="MY_KEY")
    with pytest.raises(ServerError, match=r"refuses the key in \$MY_KEY, or has no model 'tiny'") as caught:
        list(server.ask_all([Question(text="?")] * 5, SHORT))
    assert endpoint.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "very-secret" not in str(caught.value)
    assert "very-secret" not in repr(server.options)


def test_no_key_is_sent_unless_its_variable_is_named(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    endpoint = serve(echo)
    open_server(endpoint).ask(Question(text="?"), SHORT)
    assert "very-secret" not in json.dumps(endpoint.headers)


def test_a_named_variable_without_a_key_is_refused(serve, monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ValueError, match="NO_KEY is empty"):
        open_server(serve(echo), key_variable="NO_KEY")


def test_a_server_of_several_models_has_to_be_told_which(serve):
    endpoint = serve(echo)
    endpoint.models = ["one", "two"]
    with pytest.raises(ServerError, match=r"2 models \(one, two\)"):
        open_server(endpoint)
    assert open_server(endpoint, model="two").model == "two"


def test_no_server_at_the_url_is_said_at_once(serve):
    with pytest.raises(ServerError, match="does not say which models it has"):
        ChatServer(ServerOptions(url="http://127.0.0.1:9/v1", num_retries=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "node7:8000"}, "given by its URL"),
        ({"url": "file:///etc/passwd"}, "given by its URL"),
        ({"url": "http://me:secret@node7/v1"}, "a name, a password"),
        ({"url": "http://node7/v1?key=secret"}, "a name, a password"),
        ({"url": "http://node7/v1", "concurrency": 0}, "concurrency must be 1 or more"),
        ({"url": "http://node7/v1", "timeout_s": 0}, "timeout_s must be above 0"),
    ],
)
def test_options_that_cannot_work_are_refused_without_showing_secrets(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        ServerOptions(**options)
    assert "secret" not in str(caught.value)


def test_images_are_told_by_how_they_begin():
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        assert media_type(image_bytes(kind)) == f"image/{kind.lower()}"
    assert media_type(image_bytes("BMP")) is None
    with pytest.raises(ValueError, match="JPEG, PNG, GIF and WebP"):
        ChatServer(ServerOptions(url="http://127.0.0.1:9/v1", model="m")).ask(
            Question(text="?", images=(image_bytes("BMP"),)), SHORT
        )
