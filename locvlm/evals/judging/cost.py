"""What judging will cost, before it begins, and whether that is agreed to."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from locvlm.chat_server import Question

# Rules of thumb, for English and the tokenizers of today; the bill may differ by a fifth.
CHARACTERS_PER_TOKEN = 4
TOKENS_AROUND_A_CALL = 10  # that mark the messages and their roles
TOKENS_PER_REPLY = 16  # {'pred': 'yes', 'score': 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Of a million tokens, in any currency; both or none.

    Raises:
        ValueError: for one price without the other, or one below 0.
    """

    tokens_in: float | None = None
    tokens_out: float | None = None

    def __post_init__(self) -> None:
        if (self.tokens_in is None) != (self.tokens_out is None):
            raise ValueError(
                f"give both prices or none, got {self.tokens_in} for what goes in and {self.tokens_out} for "
                f"what comes out"
            )
        if min(self.tokens_in or 0, self.tokens_out or 0) < 0:
            raise ValueError(f"a price is 0 or more, got {self.tokens_in} and {self.tokens_out}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What is ahead."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None  # None without prices

    def __str__(self) -> str:
        price = "no prices given" if self.cost is None else f"about {self.cost:,.2f} at the prices given"
        return (
            f"{self.calls:,} calls, about {self.tokens_in:,} tokens in and {self.tokens_out:,} out "
            f"({CHARACTERS_PER_TOKEN} characters a token, {TOKENS_PER_REPLY} tokens a reply): {price}"
        )


def estimate(questions: Iterable[Question], prices: Prices) -> Estimate:
    """What asking all of them will take, retries not counted."""
    sizes = [math.ceil(len(q.system + q.text) / CHARACTERS_PER_TOKEN) for q in questions]
    tokens_in = sum(sizes) + TOKENS_AROUND_A_CALL * len(sizes)
    tokens_out = TOKENS_PER_REPLY * len(sizes)
    cost = None
    if prices.tokens_in is not None and prices.tokens_out is not None:
        cost = (tokens_in * prices.tokens_in + tokens_out * prices.tokens_out) / 1e6
    return Estimate(calls=len(sizes), tokens_in=tokens_in, tokens_out=tokens_out, cost=cost)


def require_consent(
    ahead: Estimate, *, yes: bool, max_cost: float | None, ask: Callable[[str], str] | None
) -> None:
    """Nothing, if the cost is agreed to: by `yes`, by `max_cost`, or by who is asked.

    Args:
        ask: shows a question and returns what is typed; None where nobody can answer.

    Raises:
        ValueError: if it is not agreed to, or more than `max_cost`.
    """
    if max_cost is not None:
        if ahead.cost is None:
            raise ValueError("--max-cost needs the prices: give --price-in and --price-out")
        if ahead.cost > max_cost:
            raise ValueError(f"{ahead}: more than --max-cost {max_cost}; nothing was asked")
        return
    if yes:
        return
    if ask is None:
        raise ValueError(
            f"{ahead}. Nobody is here to agree to that: give --yes, or --max-cost with --price-in and "
            f"--price-out"
        )
    if ask(f"{ahead}. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError("not agreed to; nothing was asked")
