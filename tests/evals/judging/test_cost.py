"""The estimate, and who has to agree to it."""

import pytest

from locvlm.chat_server import Question
from locvlm.evals.judging.cost import Prices, estimate, require_consent

QUESTIONS = [Question(text="a" * 81, system="b" * 20), Question(text="c" * 40)]  # 26 and 10 tokens
PRICES = Prices(tokens_in=10.0, tokens_out=100.0)


def test_the_estimate_counts_four_characters_a_token_and_what_stands_around():
    ahead = estimate(QUESTIONS, PRICES)
    assert (ahead.calls, ahead.tokens_in, ahead.tokens_out) == (2, 26 + 10 + 2 * 10, 2 * 16)
    assert ahead.cost == pytest.approx((56 * 10 + 32 * 100) / 1e6)
    assert "2 calls, about 56 tokens in and 32 out" in str(ahead)


def test_without_prices_there_is_no_cost():
    ahead = estimate(QUESTIONS, Prices())
    assert ahead.cost is None
    assert "no prices given" in str(ahead)


@pytest.mark.parametrize("prices", [{"tokens_in": 1.0}, {"tokens_in": 1.0, "tokens_out": -1.0}])
def test_prices_that_say_nothing_are_refused(prices):
    with pytest.raises(ValueError, match="price"):
        Prices(**prices)


def test_a_limit_decides_without_asking_anybody():
    ahead = estimate(QUESTIONS, PRICES)
    require_consent(ahead, yes=False, max_cost=0.01, ask=None)
    with pytest.raises(ValueError, match=r"more than --max-cost 0.001; nothing was asked"):
        require_consent(ahead, yes=True, max_cost=0.001, ask=lambda _: "y")
    with pytest.raises(ValueError, match="--max-cost needs the prices"):
        require_consent(estimate(QUESTIONS, Prices()), yes=True, max_cost=1.0, ask=None)


def test_without_a_terminal_it_takes_a_yes():
    ahead = estimate(QUESTIONS, Prices())
    require_consent(ahead, yes=True, max_cost=None, ask=None)
    with pytest.raises(ValueError, match="Nobody is here to agree to that: give --yes"):
        require_consent(ahead, yes=False, max_cost=None, ask=None)


@pytest.mark.parametrize(("typed", "goes_on"), [("y", True), (" YES ", True), ("", False), ("n", False)])
def test_on_a_terminal_somebody_is_asked(typed, goes_on):
    shown = []

    def ask(question):
        shown.append(question)
        return typed

    ahead = estimate(QUESTIONS, PRICES)
    if goes_on:
        require_consent(ahead, yes=False, max_cost=None, ask=ask)
    else:
        with pytest.raises(ValueError, match="not agreed to; nothing was asked"):
            require_consent(ahead, yes=False, max_cost=None, ask=ask)
    assert "2 calls" in shown[0]
