"""Short answers compared without a judge."""

import pytest

from locvlm.evals.measures.short_answers import contains_answer, exact_match_verbatim
from locvlm.evals.measures.vqa import exact_match
from locvlm.evals.parse import Said, Unanswered, Unreadable


@pytest.mark.parametrize(
    ("answer", "gold", "verbatim", "lenient", "contained"),
    [
        ("red", "red", True, True, True),
        ("Red.", "red", False, True, True),
        ("The car is red.", "red", False, False, True),
        ("reddish", "red", False, False, False),
        ("a red-brown car", "brown car", False, False, True),
        ("car, brown", "brown car", False, False, False),
        ("It's 2.", "2", False, False, True),
        ("no", "yes", False, False, False),
    ],
)
def test_from_to_the_letter_to_generous(judged, answer, gold, verbatim, lenient, contained):
    rows = [judged(Said(answer), answer=gold)]
    assert (exact_match_verbatim(rows), exact_match(rows), contains_answer(rows)) == (
        verbatim,
        lenient,
        contained,
    )


def test_what_is_not_there_is_wrong(judged):
    rows = [
        judged(Said("red"), answer="red"),
        judged(Unreadable("an empty answer"), answer="red"),
        judged(Unanswered("unreadable image"), answer="red"),
        judged(Said("blue"), answer="red"),
    ]
    assert exact_match_verbatim(rows) == contains_answer(rows) == 1 / 4
