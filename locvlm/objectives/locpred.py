"""LocPred: where is the object? The paper's prompts and target to the letter, mistakes included (app. B)."""

import random

from locvlm.records import Turn

PROMPTS = (
    "Where is the object described {category} located in image in terms of {repr}?",
    "What is the location of object described {category} in terms of {repr}?",
    "Localize the object described {category} in terms of {repr}?",
    "Provide a {repr} for the the object described {category}?",
    "Generate a {repr} for the the object described {category}?",
)
ANSWER = "It is located at {loc}"


def render_locpred(phrase: str, *, rng: random.Random, location_text: str, representation: str) -> Turn:
    """One of the five prompts at random, answered with the location."""
    return Turn(
        question=ask_location(phrase, rng=rng, representation=representation),
        answer=ANSWER.format(loc=location_text),
    )


def ask_location(phrase: str, *, rng: random.Random, representation: str) -> str:
    """The question that LocPred and NegPred share, so that it does not tell which one it is."""
    return rng.choice(PROMPTS).format(category=phrase, repr=representation)
