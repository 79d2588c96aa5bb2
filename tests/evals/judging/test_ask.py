"""A real server on this host that judges well, badly, under another version, or not at all."""

import json
import re

import pytest

from locvlm.chat_server import ChatServer, ServerError, ServerOptions
from locvlm.evals.judging.ask import JudgeChanged, ask_judge, find_judging
from locvlm.evals.judging.rubric import Pair, Rubric
from locvlm.evals.judging.verdicts import read_verdicts, verdicts_folder

RUBRIC = Rubric(name="r", version=1, system="Be fair.", user="Q {question}\nA {answer}\nP {prediction}")
PAIRS = [Pair("how many?", str(n), f"there are {n}") for n in range(6)]


def number_of(question):
    return int(re.search(r"^A (\d+)$", question["messages"][-1]["content"], re.MULTILINE)[1])


def well(question, number):
    return f"{{'pred': 'yes', 'score': {number_of(question) % 6}}}"


def under(version, text="{'pred': 'no', 'score': 0}"):
    """The body of a reply from a model of this version."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    about = {"id": "1", "object": "chat.completion", "created": 0, "model": version}
    return json.dumps({**about, "choices": [choice]}).encode()


def connect(endpoint, **options):
    return ChatServer(ServerOptions(url=endpoint.url, **{"timeout_s": 5.0, "num_retries": 2, **options}))


def judge_all(folder, endpoint, pairs=PAIRS, *, again=False, find=None, **options):
    """Ask about what is missing, as eval/judge.py does; how many were asked."""
    server = connect(endpoint, **options)
    judging = find_judging(folder, RUBRIC, server.model, **(find or {}))
    missing = judging.missing(pairs, ask_again=again)
    judging.take_over(pairs)
    if missing:
        ask_judge(judging, server, missing)
    return len(missing)


def the_only(folder):
    """(judge, replies) of the one that judged."""
    ((judge, replies),) = read_verdicts(folder).items()
    return judge, replies


def test_each_pair_is_asked_once_with_the_rubric_and_kept_under_the_version_that_replied(serve, tmp_path):
    endpoint = serve(well)
    assert judge_all(tmp_path, endpoint) == 6
    judge, replies = the_only(tmp_path)
    assert (judge.model, judge.version) == ("tiny", "tiny-1.2")
    assert judge.rubric == RUBRIC.label
    assert judge.decoding == "temperature 0, at most 64 tokens"
    assert replies == {pair: f"{{'pred': 'yes', 'score': {n}}}" for n, pair in enumerate(PAIRS)}
    asked = min(endpoint.questions, key=number_of)
    assert (asked["temperature"], asked["max_tokens"]) == (0.0, 64)
    assert asked["messages"] == [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": "Q how many?\nA 0\nP there are 0"},
    ]


def test_a_second_start_asks_nothing_and_more_answers_cost_only_themselves(serve, tmp_path):
    endpoint = serve(well)
    judge_all(tmp_path, endpoint, PAIRS[:4])
    assert judge_all(tmp_path, endpoint, PAIRS[:4]) == 0
    assert judge_all(tmp_path, endpoint, PAIRS) == 2
    assert sorted(map(number_of, endpoint.questions)) == [0, 1, 2, 3, 4, 5]


def test_a_server_that_stumbles_is_asked_until_it_answers(serve, tmp_path):
    endpoint = serve(lambda question, number: 500 if number < 2 else well(question, number))
    judge_all(tmp_path, endpoint, PAIRS[:3], concurrency=1)
    assert len(the_only(tmp_path)[1]) == 3
    assert len(endpoint.questions) == 5


def test_what_got_no_reply_is_told_and_asked_again_alone(serve, tmp_path):
    is_broken = True

    def answer(question, number):
        return 400 if is_broken and number_of(question) in (1, 4) else well(question, number)

    endpoint = serve(answer)
    with pytest.raises(ValueError, match=r"2 of 6 answers got no verdict, .*400.*only these are asked"):
        judge_all(tmp_path, endpoint)
    assert len(the_only(tmp_path)[1]) == 4
    is_broken = False
    assert judge_all(tmp_path, endpoint) == 2
    assert len(the_only(tmp_path)[1]) == 6


def test_replies_before_a_server_breaks_down_are_kept(serve, tmp_path):
    endpoint = serve(lambda question, number: well(question, number) if number < 2 else 503)
    with pytest.raises(ServerError, match="It seems to be down"):
        judge_all(tmp_path, endpoint, concurrency=1, num_retries=0, max_failures_in_a_row=2)
    assert len(the_only(tmp_path)[1]) == 2


def test_garbage_is_kept_as_it_came_and_asked_about_again_only_on_demand(serve, tmp_path):
    is_vague = True

    def answer(question, number):
        return "I think so." if is_vague and number_of(question) == 3 else well(question, number)

    endpoint = serve(answer)
    judge_all(tmp_path, endpoint)
    assert the_only(tmp_path)[1][PAIRS[3]] == "I think so."
    is_vague = False
    assert judge_all(tmp_path, endpoint) == 0
    assert judge_all(tmp_path, endpoint, again=True) == 1
    assert the_only(tmp_path)[1][PAIRS[3]] == "{'pred': 'yes', 'score': 3}"


def test_a_server_that_changed_its_version_is_not_mixed_in(serve, tmp_path):
    version = "gpt-0125"
    endpoint = serve(lambda question, number: under(version))
    judge_all(tmp_path, endpoint, PAIRS[:2])
    version = "gpt-0613"
    with pytest.raises(JudgeChanged, match=r"'gpt-0125'.*'gpt-0613'.*--judge-version gpt-0613"):
        judge_all(tmp_path, endpoint, concurrency=1)
    assert len(the_only(tmp_path)[1]) == 2
    assert judge_all(tmp_path, endpoint, find={"version": "gpt-0613"}) == 6
    assert {judge.version: len(replies) for judge, replies in read_verdicts(tmp_path).items()} == {
        "gpt-0125": 2,
        "gpt-0613": 6,
    }
    with pytest.raises(ValueError, match=r"several versions of tiny \(gpt-0125, gpt-0613\)"):
        judge_all(tmp_path, endpoint)


def test_a_version_that_changes_in_the_middle_stops_it(serve, tmp_path):
    endpoint = serve(lambda question, number: under("a" if number < 3 else "b"))
    with pytest.raises(JudgeChanged):
        judge_all(tmp_path, endpoint, concurrency=1)
    judge, replies = the_only(tmp_path)
    assert (judge.version, len(replies)) == ("a", 3)


def test_another_rubric_starts_anew(serve, tmp_path):
    endpoint = serve(well)
    judge_all(tmp_path, endpoint)
    server = connect(endpoint)
    milder = Rubric(name="r", version=1, system="Be mild.", user=RUBRIC.user)
    judging = find_judging(tmp_path, milder, server.model)
    assert judging.judge is None
    assert judging.missing(PAIRS) == PAIRS


def test_verdicts_of_another_evaluation_are_taken_over(serve, tmp_path):
    endpoint = serve(well)
    before, after = tmp_path / "before", tmp_path / "after"
    judge_all(before, endpoint, PAIRS[:4])
    pairs = PAIRS[2:]
    assert judge_all(after, endpoint, pairs, find={"reuse": [before]}) == 2
    assert set(the_only(after)[1]) == set(pairs)
    assert judge_all(after, endpoint, pairs) == 0
    assert len(endpoint.questions) == 6


def test_nothing_is_written_for_a_judge_that_never_replied(serve, tmp_path):
    with pytest.raises(ValueError, match="6 of 6 answers got no verdict"):
        judge_all(tmp_path, serve(lambda question, number: 400))
    assert not verdicts_folder(tmp_path).exists()
