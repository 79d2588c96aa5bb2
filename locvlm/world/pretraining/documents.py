"""The documents that the tiny language model is pretrained on, from easy to hard.

What "where is the mug?" takes is learned in this order, each step on top of the one before: to say a place in
digits (single things), to find the one that is asked for among several and to tell when it is not there (sets
of layout tokens, lists in text), and to do so where a thing is many patches of an image among others (grids).
A model that began with grids had, after 550 steps, learned neither to read places nor to tell what is absent.

Everything is made from random layouts, never from rendered scenes.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from locvlm.coords.codec import build_codec
from locvlm.world.backbones import BOS, EOS, UNK, VISION
from locvlm.world.captions import BACKDROPS, Thing, caption
from locvlm.world.pretraining.layout_tokens import LayoutToken, grid_tokens, thing_token
from locvlm.world.pretraining.text import (
    Dialogue,
    Write,
    document,
    listing,
    random_things,
    where_is,
    written_by,
)
from locvlm.world.scenes import overlap_share
from locvlm.world.shapes import CLASSES

Encode = Callable[[str], list[int]]
Exchange = tuple[str, list[tuple[str, float]]]  # a question, and its answer in parts with their weights
SLOT = UNK  # the id where a layout token stands
PROMPT, ANSWER, DECISION = (
    0.2,
    1.0,
    3.0,
)  # weights in the loss; a decision is the token that says "there is none"
OVERLAP = 0.25  # largest share of a thing in a grid that another may cover

# shares of the kinds of documents, at first and later
EARLY = {
    "singles": 25,
    "sets": 35,
    "set_dialogue": 8,
    "grids": 12,
    "grid_dialogue": 2,
    "grid_captions": 3,
    "recall": 10,
    "list_dialogue": 3,
    "text": 2,
}
LATER = {
    "singles": 3,
    "sets": 8,
    "set_dialogue": 6,
    "grids": 30,
    "grid_dialogue": 30,
    "grid_captions": 13,
    "recall": 3,
    "list_dialogue": 4,
    "text": 3,
}
TURN = (0.12, 0.37)  # shares of the training between which the first mixture becomes the second

# A document keeps to one notation. The text that people write holds numbers of every kind; a model that knew
# one notation alone would make the others look worse than they are.
NOTATIONS = {"ivb": 2, "nfp": 1, "diga": 1}

# Which side of one thing is another: an axis, or None for the one on which they lie further apart.
SIDES: dict[str, int | None] = {
    "On which side of the {reference} is the {asked}?": None,
    "Which side of the {reference} is the {asked} on?": None,
    "How does the {asked} lie to the {reference}?": None,
    "Is the {asked} to the left or to the right of the {reference}?": 0,
    "Is the {asked} above or below the {reference}?": 1,
}
SIDE_WORDS = (("to the left of", "to the right of"), ("above", "below"))  # by axis
CLEARLY = 0.1  # of the canvas: centres nearer than that are not asked about
ASKS_SIDES = 0.5  # share of dialogues about several things that ask it


def mixture(progress: float) -> dict[str, float]:
    """Shares of the kinds when `progress` of the training is done."""
    later = min(1.0, max(0.0, (progress - TURN[0]) / (TURN[1] - TURN[0])))
    return {kind: EARLY[kind] * (1 - later) + LATER[kind] * later for kind in EARLY}


def num_things(progress: float) -> tuple[int, ...]:
    """How many things a layout holds: more and more."""
    return (1, 2, 2, 3) if progress < 0.2 else (1, 2, 3, 4) if progress < 0.5 else (2, 3, 4)


@dataclass
class Document:
    """Ids with their weights in the loss; the layout tokens stand in the slots."""

    ids: list[int] = field(default_factory=lambda: [BOS])
    weights: list[float] = field(default_factory=lambda: [0.0])
    slots: list[tuple[int, LayoutToken]] = field(default_factory=list)  # index into ids

    def write(self, ids: Sequence[int], weight: float) -> None:
        """Add ids."""
        self.ids += ids
        self.weights += [weight] * len(ids)

    def show(self, tokens: Sequence[LayoutToken]) -> None:
        """Add layout tokens, which nobody is to predict."""
        self.slots += [(len(self.ids) + k, token) for k, token in enumerate(tokens)]
        self.write([SLOT] * len(tokens), 0.0)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a document is drawn from."""

    rng: random.Random
    counts: tuple[int, ...]  # how many things a layout may hold
    place: Write


class Writer:
    """Writes documents.

    Args:
        encode: text -> ids of the tokenizer, as sentencepiece gives them.
        talk: wording of questions and answers.
        longest: a dialogue asks no further question beyond so many tokens.
    """

    def __init__(self, encode: Encode, talk: Dialogue, *, longest: int) -> None:
        self._encode, self._talk, self._longest = encode, talk, longest
        canvas, patch = VISION.canvas, VISION.spec.patch
        self._places = [written_by(build_codec(name, canvas=canvas, patch=patch)) for name in NOTATIONS]
        self._opening, rest = talk.frame.split("{question}")
        self._ask = rest.rstrip()  # between question and answer
        self._kinds: dict[str, Callable[[Draft], Document]] = {
            "singles": self._singles,
            "sets": self._sets,
            "set_dialogue": self._set_dialogue,
            "grids": self._grids,
            "grid_dialogue": self._grid_dialogue,
            "grid_captions": self._grid_captions,
            "recall": self._recall,
            "list_dialogue": self._list_dialogue,
            "text": self._text,
        }

    def write(self, rng: random.Random, progress: float) -> Document:
        """The next document when `progress` of the training is done."""
        shares = mixture(progress)
        (kind,) = rng.choices(list(shares), list(shares.values()))
        return self.write_kind(kind, rng, num_things(progress))

    def write_kind(self, kind: str, rng: random.Random, counts: tuple[int, ...]) -> Document:
        """A document of one of the kinds, about layouts of `counts` things."""
        (place,) = rng.choices(self._places, list(NOTATIONS.values()))
        return self._kinds[kind](Draft(rng, counts, place))

    def _continued(self, text: str) -> list[int]:
        """Ids of text that goes on after an image or a line's end.

        At the start of what it is given, sentencepiece puts a space; so the text follows a line's end, and
        both are cut off.
        """
        space_and_line_end = self._encode("\n")
        ids = self._encode("\n" + text)
        assert ids[: len(space_and_line_end)] == space_and_line_end
        return ids[len(space_and_line_end) :]

    def lookup(
        self, rng: random.Random, count: int, *, layout: Literal["list", "grid"]
    ) -> tuple[Document, Thing]:
        """A layout of `count` things, the question where one of them is, unanswered, and that one.

        In a list, places are written as IVB.
        """
        doc, place = Document(), self._places[list(NOTATIONS).index("ivb")]
        doc.write(self._encode(self._opening), PROMPT)
        if layout == "grid":
            things, _ = self._show_grid(doc, rng, (count,))
            said = "\n"
        else:
            things = random_things(rng, (count,))
            said = listing(rng, things, place) + "\n"
        thing = rng.choice(things)
        question, _ = where_is(rng, thing, place, self._talk)
        doc.write(self._continued(said + question + self._ask), PROMPT)
        return doc, thing

    # ---- layouts

    def _singles(self, draft: Draft) -> Document:
        doc, rng = Document(), draft.rng
        for _ in range(rng.choice((4, 8, 12))):
            (thing,) = random_things(rng, (1,))
            doc.show([thing_token(thing, rng, mistaken=0)])
            doc.write(self._encode(draft.place(thing) if rng.random() < 0.75 else thing.category), ANSWER)
        return doc

    def _show_set(self, doc: Document, rng: random.Random, counts: tuple[int, ...]) -> list[Thing]:
        """Each thing once or several times, in any order, and a line's end."""
        things = random_things(rng, counts)
        tokens = [thing_token(t, rng, mistaken=0.05) for t in things for _ in range(rng.choice((1, 1, 2, 4)))]
        rng.shuffle(tokens)
        doc.show(tokens)
        doc.write(self._continued("\n"), PROMPT)
        return things

    def _sets(self, draft: Draft) -> Document:
        doc = Document()
        self._tell(doc, self._show_set(doc, draft.rng, draft.counts), draft)
        return doc

    def _set_dialogue(self, draft: Draft) -> Document:
        doc = Document()
        doc.write(self._encode(self._opening), PROMPT)
        self._discuss(doc, self._show_set(doc, draft.rng, draft.counts), draft)
        return doc

    def _show_grid(
        self, doc: Document, rng: random.Random, counts: tuple[int, ...]
    ) -> tuple[list[Thing], str]:
        things, background = apart(rng, counts), rng.choice(list(BACKDROPS))
        doc.show(grid_tokens(things, background, rng))
        return things, background

    def _grids(self, draft: Draft) -> Document:
        doc = Document()
        if draft.rng.random() < 0.5:
            doc.write(self._encode(self._opening), PROMPT)
        things, _ = self._show_grid(doc, draft.rng, draft.counts)
        doc.write(self._continued("\n"), PROMPT)
        self._tell(doc, things, draft)
        return doc

    def _grid_dialogue(self, draft: Draft) -> Document:
        """What stage 2 asks about an image."""
        doc = Document()
        doc.write(self._encode(self._opening), PROMPT)
        things, _ = self._show_grid(doc, draft.rng, draft.counts)
        doc.write(self._continued("\n"), PROMPT)
        self._discuss(doc, things, draft)
        return doc

    def _grid_captions(self, draft: Draft) -> Document:
        doc, rng = Document(), draft.rng
        things, background = self._show_grid(doc, rng, draft.counts)
        while len(doc.ids) < 0.7 * self._longest:
            doc.write(self._continued(caption(things, background, rng) + "\n"), ANSWER)
        return doc

    # ---- text

    def _recall(self, draft: Draft) -> Document:
        """Short lists, each said again in another order."""
        doc, rng = Document(), draft.rng
        for _ in range(3):
            things = random_things(rng, draft.counts)
            form = rng.choice(("{name} {loc}", "{loc} {name}", "{name} at {loc}"))
            between = rng.choice((", ", "; ", "\n"))
            for order, weight in ((things, PROMPT), (rng.sample(things, len(things)), ANSWER)):
                said = [form.format(name=t.category, loc=draft.place(t)) for t in order]
                doc.write(self._encode(between.join(said) + "\n"), weight)
        return doc

    def _list_dialogue(self, draft: Draft) -> Document:
        doc, things = Document(), random_things(draft.rng, draft.counts)
        listed = listing(draft.rng, things, draft.place)
        doc.write(self._encode(f"{self._opening}{listed}\n"), PROMPT)
        self._discuss(doc, things, draft)
        return doc

    def _text(self, draft: Draft) -> Document:
        doc = Document()
        text = document(draft.rng, VISION.canvas, self._talk, write=draft.place, counts=draft.counts)
        parts = text.split(self._talk.end)
        for part in parts[:-1]:
            doc.write([*self._encode(part), EOS], PROMPT)
        doc.write(self._encode(parts[-1]), PROMPT)
        return doc

    # ---- what is said about a layout

    def _tell(self, doc: Document, things: Sequence[Thing], draft: Draft) -> None:
        """Places for names, names for places, and what is absent, each in a word or two."""
        rng = draft.rng
        items = [(t.category, t) for t in things] + [
            (name, None) for name in absent_classes(rng, things, rng.choice((0, 1, 1, 2)))
        ]
        rng.shuffle(items)
        between = self._continued(rng.choice((", ", "; ", "\n")))
        for name, thing in items:
            if thing is not None and rng.random() < 0.35:
                doc.write(self._encode(draft.place(thing)), PROMPT)
                doc.write(self._encode(name), ANSWER)
            else:
                doc.write(self._encode(name), PROMPT)
                doc.write(self._encode("at" if thing else "absent"), DECISION)
                doc.write(self._encode(draft.place(thing)) if thing else [], ANSWER)
            doc.write(between, PROMPT)

    def _discuss(self, doc: Document, things: Sequence[Thing], draft: Draft) -> None:
        """The objectives' questions, each thing in one of them, so that no answer gives another away; and
        which side of one thing another is.
        """
        asked = self._about_each(things, draft)
        if len(things) > 1 and draft.rng.random() < ASKS_SIDES:
            asked += which_side(draft.rng, things)
        draft.rng.shuffle(asked)
        for number, (question, answer) in enumerate(asked):
            if len(doc.ids) > self._longest:
                break
            if number == 0:
                prompt = self._continued(question + self._ask)
            else:
                prompt = self._encode(self._talk.later.split("{question}")[0] + question + self._ask)
            doc.write(prompt, PROMPT)
            for text, weight in answer:
                doc.write(self._encode(text), weight)
            doc.write([EOS], ANSWER)

    def _about_each(self, things: Sequence[Thing], draft: Draft) -> list[Exchange]:
        """Every thing in one question, and some that are absent."""
        rng, talk = draft.rng, self._talk
        asked: list[Exchange] = []
        for thing in things:
            if rng.random() < 0.67:
                question, answer = where_is(rng, thing, draft.place, talk)
                asked.append((question, self._decided(answer)))
            else:
                question = rng.choice(talk.what).format(loc=draft.place(thing))
                asked.append((question, [(talk.found.format(category=thing.category), ANSWER)]))
        for name in absent_classes(rng, things, rng.choice((1, 2, 2, 3))):
            question = rng.choice(talk.where).format(category=name, repr=talk.representation)
            asked.append((question, self._decided(talk.absent)))
        return asked

    @staticmethod
    def _decided(answer: str) -> list[tuple[str, float]]:
        """An answer of which the first word tells whether the thing is there."""
        first, _, rest = answer.partition(" ")
        return [(first, DECISION), (rest, ANSWER)]


def apart(rng: random.Random, counts: tuple[int, ...]) -> list[Thing]:
    """A random layout in which no thing hides another."""
    for _ in range(20):
        things = random_things(rng, counts)
        pairs = [(a, b) for k, a in enumerate(things) for b in things[k + 1 :]]
        if all(overlap_share(a.box, b.box) <= OVERLAP for a, b in pairs):
            return things
    return things[:1]


def which_side(rng: random.Random, things: Sequence[Thing]) -> list[Exchange]:
    """A question which side of one thing another is, with its answer; none if that is not clear."""
    asked, reference = rng.sample(list(things), 2)
    question, axis = rng.choice(list(SIDES.items()))
    distance = [a - b for a, b in zip(asked.center, reference.center, strict=True)]
    if axis is None:
        axis = int(abs(distance[1]) > abs(distance[0]))
    if abs(distance[axis]) < CLEARLY:
        return []
    names = {"asked": asked.category, "reference": reference.category}
    answer = [
        (f"The {asked.category} is", ANSWER),
        (SIDE_WORDS[axis][int(distance[axis] > 0)], DECISION),
        (f"the {reference.category}.", ANSWER),
    ]
    return [(question.format(**names), answer)]


def absent_classes(rng: random.Random, things: Sequence[Thing], count: int) -> list[str]:
    """Classes of which there is none."""
    there = {thing.category for thing in things}
    return rng.sample([name for name in CLASSES if name not in there], count)
