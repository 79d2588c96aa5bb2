"""What people say about clips, and what they ask: what moves and where to, what leaves, what appears."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from locvlm.records import Query
from locvlm.world.captions import BACKDROPS, Thing, describe
from locvlm.world.clips import Act, Actor, Clip

QuestionType = Literal["what moves", "what leaves", "what appears", "direction", "side", "yes/no"]

DESCRIBE = ("Describe the video.", "What happens in this video?", "Write a caption for the video.")
# Type -> its wordings, and the acts that it is about.
WHAT: dict[QuestionType, tuple[tuple[str, str], frozenset[Act]]] = {
    "what moves": (("What moves?", "Which object moves?"), frozenset({"moves", "leaves"})),
    "what leaves": (("What leaves?", "Which object leaves the video?"), frozenset({"leaves"})),
    "what appears": (("What appears?", "Which object appears in the video?"), frozenset({"appears"})),
}
DIRECTION = ("In which direction does the {} move?", "Where does the {} move?")
SIDE = ("To which side does the {} leave?", "At which side does the {} leave the video?")
MOVES = ("Does the {} move?", "Is the {} moving?")
SIDES = {"left": "left", "right": "right", "up": "top", "down": "bottom"}  # to which a direction leads
NOTHING = "nothing"
# Share of the clips without such an object in which "what leaves" and "what appears" are asked all the same:
# so "nothing" is right in about a quarter of their questions, as it is for "what moves".
ASK_OF_NOTHING = {"what moves": 1.0, "what leaves": 0.18, "what appears": 0.18}


@dataclass(frozen=True, slots=True)
class ShortQuestion:
    """A question about a clip with its answer."""

    type: QuestionType
    question: str
    answer: str

    def query(self) -> Query:
        """As a record asks it."""
        return Query(
            objective="vqa", question=self.question, answer=self.answer, source={"question_type": self.type}
        )


def describe_clip(clip: Clip, rng: random.Random) -> str:
    """One sentence: what each object looks like and does, and what is behind them."""
    said = [_clause(actor, clip.size, rng) for actor in rng.sample(clip.actors, len(clip.actors))]
    text = said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"
    return f"{text[0].upper()}{text[1:]}, {BACKDROPS[clip.background]}."


def _clause(actor: Actor, size: tuple[int, int], rng: random.Random) -> str:
    name = describe(_thing(actor, size), rng, detail=0.4)
    if actor.direction is None:
        return f"{name} {'appears' if actor.act == 'appears' else 'stays where it is'}"
    if actor.act == "leaves":
        side = SIDES[actor.direction]
        return f"{name} leaves {'to' if side == actor.direction else 'at'} the {side}"
    is_across = actor.direction in ("left", "right")
    return f"{name} moves {f'to the {actor.direction}' if is_across else actor.direction}"


def _thing(actor: Actor, size: tuple[int, int]) -> Thing:
    """As words need it: by the largest of its boxes, since it may leave or be partly hidden."""
    boxes = [box for box in actor.boxes_px if box is not None]
    x1, y1, x2, y2 = max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
    fractions = (x1 / size[0], y1 / size[1], x2 / size[0], y2 / size[1])
    return Thing(actor.category, actor.color, actor.pattern, fractions)


def ask_clip(clip: Clip, rng: random.Random) -> list[ShortQuestion]:
    """Two to six questions with answers of a word or two, in no order."""
    asked = []
    for kind, (wordings, acts) in WHAT.items():
        names = [actor.category for actor in clip.actors if actor.act in acts]
        if names or rng.random() < ASK_OF_NOTHING[kind]:
            asked.append(ShortQuestion(kind, rng.choice(wordings), names[0] if names else NOTHING))
    asked += [of_mover for actor in clip.actors for of_mover in _ask_where(actor, rng)]
    asked.append(_ask_whether(clip.actors, rng))
    rng.shuffle(asked)
    return asked


def _ask_where(actor: Actor, rng: random.Random) -> list[ShortQuestion]:
    if actor.direction is None:
        return []
    asked = [ShortQuestion("direction", rng.choice(DIRECTION).format(actor.category), actor.direction)]
    if actor.act == "leaves":
        asked.append(ShortQuestion("side", rng.choice(SIDE).format(actor.category), SIDES[actor.direction]))
    return asked


def _ask_whether(actors: Sequence[Actor], rng: random.Random) -> ShortQuestion:
    """About what moves in half of the clips: every fifth has nothing that does."""
    moving = [actor for actor in actors if actor.direction is not None]
    still = [actor for actor in actors if actor.direction is None]
    actor = rng.choice(moving if moving and rng.random() < 0.6 else still)
    answer = "no" if actor.direction is None else "yes"
    return ShortQuestion("yes/no", rng.choice(MOVES).format(actor.category), answer)


def ask_for_description(clip: Clip, rng: random.Random) -> Query:
    """The description as the answer to a question."""
    question = rng.choice(DESCRIBE)
    return Query(objective="vqa", question=question, answer=describe_clip(clip, rng))
