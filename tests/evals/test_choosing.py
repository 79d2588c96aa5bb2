"""Answers that are the likeliest of given options, and questions about images whose size no file tells."""

from dataclasses import replace

import pytest

from locvlm.answering.answerer import OptionScore
from locvlm.evals.asking.ask import AskOptions, ask
from locvlm.evals.asking.questions import read_questions
from locvlm.evals.task import Task, TaskData
from locvlm.io import write_records
from locvlm.records import Query, Record

OPTIONS = ["a dog", "a very small dog", "a cat"]


@pytest.fixture
def task():
    return Task(
        name="t",
        version=1,
        data=TaskData(file="val.jsonl", objective="vqa"),
        parse="choice",
        metrics=("accuracy",),
        prompt="{question} Now.",
        choose="likelihood",
    )


@pytest.fixture
def asked(val, task, scripted):
    """asked(per_token, **query fields): the predictions for two questions about each of the images."""

    def predict(per_token, task=task, images="real", **fields):
        query = Query(objective="vqa", question="What?", answer="a cat", **fields)
        records = [Record(id=f"r{i}", image=f"{i}.png", queries=(query, query)) for i in range(3)]
        write_records(val.path, records)
        answerer = scripted(lambda question, image: "never")

        def option_scores(asked, options):
            answerer.shown += [item.image.size for item in asked]
            assert all(question == "What? Now." for item in asked for question in item.questions)
            return [[[per_token(text) for text in texts] for texts in of_image] for of_image in options]

        answerer.option_scores = option_scores
        settings = AskOptions(image_root=val.images, images=images)
        questions = read_questions(val.path, task)
        return answerer, [p for window in ask(answerer, task, questions, settings) for p in window]

    return predict


def by_length(text):
    """One nat a token, but for the longest text, which is likelier per token and less likely as a whole."""
    num_tokens = len(text.split())
    return OptionScore(log_likelihood=-0.9 * num_tokens if num_tokens > 2 else -2.0, num_tokens=num_tokens)


def test_the_answer_is_the_option_that_is_likeliest_per_token(asked):
    _, predictions = asked(by_length, source={"options": OPTIONS})
    assert len(predictions) == 6
    assert {p.answer for p in predictions} == {"a very small dog"}
    assert predictions[0].option_nats == {"a dog": -1.0, "a very small dog": -0.9, "a cat": -1.0}
    assert predictions[0].gold["source"] == {"options": OPTIONS}


def test_a_task_can_name_the_options_of_all_its_questions(asked, task):
    _, predictions = asked(by_length, task=replace(task, options=("Yes", "No")))
    assert {p.answer for p in predictions} == {"Yes"}  # equally likely: the first
    with pytest.raises(ValueError, match=r"question 'r0/0' has no options .* names them under `options`"):
        asked(by_length)


def test_an_image_of_which_no_file_tells_the_size_is_shown_as_it_is(asked):
    source = {"options": OPTIONS}
    answerer, predictions = asked(by_length, source=source)
    assert answerer.shown == [(200, 100)] * 3
    assert not any(p.failed for p in predictions)
    assert (predictions[0].gold["width"], predictions[0].gold["height"]) == (0, 0)
    blank, _ = asked(by_length, images="blank", source=source)
    assert blank.shown == [(336, 336)] * 3
