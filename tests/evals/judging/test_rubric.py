"""What a judge is told, and what can be read in its reply."""

import pytest

from locvlm.evals.judging.rubric import Grade, Pair, Rubric, load_rubric, read_reply

USER = "Q: {question} A: {answer} P: {prediction}"


@pytest.fixture
def published(repo_root):
    return load_rubric(repo_root / "eval" / "rubrics" / "video_qa.yaml")


def test_the_question_goes_out_with_what_is_judged(published):
    asked = published.ask(Pair("what color is it", "red", "It is dark red."))
    for line in ("Question: what color is it", "Correct Answer: red", "Predicted Answer: It is dark red."):
        assert line in asked.text.splitlines()
    assert "{" not in asked.text.replace("{'pred': 'yes', 'score': 4}", "")
    assert "synonyms" in asked.system


def test_braces_in_what_is_judged_are_left_alone():
    rubric = Rubric(name="r", version=1, system="", user=USER)
    asked = rubric.ask(Pair("is {answer} it?", "{prediction}", "{question} {0} \\1"))
    assert asked.text == "Q: is {answer} it? A: {prediction} P: {question} {0} \\1"


def test_the_reply_that_the_rubric_shows_can_be_read(published):
    assert read_reply(published.user.split("For example: ")[1]) == Grade(True, 4)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("{'pred': 'yes', 'score': 5}", Grade(True, 5)),
        ('{"pred": "no", "score": 0}', Grade(False, 0)),
        ("{'pred': 'yes', 'score': 4.8}", Grade(True, 4)),  # their example of an integer
        ("{'pred': 'Yes.', 'score': '3'}", Grade(True, 3)),
        ("Sure!\n```python\n{'pred': 'no',\n 'score': 2}\n```\nThe colors differ.", Grade(False, 2)),
        ("{'pred': 'no', 'score': 1} {'pred': 'yes', 'score': 5}", Grade(False, 1)),
        ("{'score': 3, 'pred': 'NO', 'why': 'red'}", Grade(False, 3)),
    ],
)
def test_replies_that_can_be_read(reply, expected):
    assert read_reply(reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "yes, 4",
        "{pred: yes, score: 4}",
        "{'pred': 'yes'}",
        "{'score': 4}",
        "{'pred': 'maybe', 'score': 4}",
        "{'pred': 'yes', 'score': 6}",
        "{'pred': 'yes', 'score': -1}",
        "{'pred': 'yes', 'score': 1e999}",
        "{'pred': 'yes', 'score': True}",
        "{'pred': 'yes', 'score': None}",
        "{'pred': ['yes'], 'score': 4}",
        "{'yes', 4}",
        "{'pred': 'yes', 'score': 4",
        "{'pred': __import__('os').getcwd(), 'score': 4}",
        "{'pred': 'yes', 'score': 2 ** 9}",
        "{['pred']: 'yes', 'score': 4}",  # a list is no key
        "{'pred': " + "[" * 400 + "'yes'" + "]" * 400 + ", 'score': 4}",
        "{'pred': 'yes', 'score': 4, 'why': '" + "a" * 1000 + "'}",
    ],
)
def test_what_cannot_be_read_is_not_guessed(reply):
    assert read_reply(reply) is None


def test_other_words_are_another_rubric_though_the_version_is_the_same():
    one, other = (Rubric(name="r", version=1, system=text, user=USER) for text in ("Be fair.", "Be mild."))
    assert one.label.startswith("r 1 (")
    assert one.label != other.label


def test_a_rubric_without_a_place_for_the_prediction_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text('{name: mine, version: 1, system: "", user: "Q: {question} A: {answer}"}')
    with pytest.raises(ValueError, match=r"mine.yaml: rubric mine: user must hold \{prediction\}"):
        load_rubric(path)
    path.write_text('{name: mine, version: 1, system: "", usr: ""}')
    with pytest.raises(ValueError, match=r"mine.yaml: .*usr"):
        load_rubric(path)
