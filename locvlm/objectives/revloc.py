"""RevLoc: what is at the location? The paper's prompts and target to the letter (app. B)."""

import random

from locvlm.records import Turn

PROMPTS = (
    "Describe the object located at {loc}?",
    "Provide a caption for object at {loc}?",
    "What is at location {loc} in image?",
)
ANSWER = "There is a {category}."


def render_revloc(phrase: str, *, rng: random.Random, location_text: str) -> Turn:
    """One of the three prompts at random, answered with the class or description."""
    return Turn(question=rng.choice(PROMPTS).format(loc=location_text), answer=ANSWER.format(category=phrase))
