"""NegPred: the same question about what is not there (paper section 3.3, app. B)."""

import random

from locvlm.objectives.locpred import ask_location
from locvlm.records import Turn

ABSENT_ANSWER = "There is no such object in the image"


def render_negpred(phrase: str, *, rng: random.Random, representation: str) -> Turn:
    """One of LocPred's prompts at random, answered by the absent sentence."""
    return Turn(question=ask_location(phrase, rng=rng, representation=representation), answer=ABSENT_ANSWER)
