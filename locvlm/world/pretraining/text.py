"""What people of the embedded world write: captions, sums and sizes, and listings of layouts with questions.

It is to the tiny language model what the web is to LLaMA: where class names, digits, comparing, looking
things up in the context and the shape of a dialogue come from. It is made from random layouts, never from
rendered scenes.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from locvlm.coords.codec import Codec
from locvlm.coords.ivb import IVB
from locvlm.geometry import Box
from locvlm.world.captions import (
    BACKDROPS,
    NUMBERS,
    Thing,
    article,
    caption,
    describe,
    place,
    relation,
    rich_caption,
)
from locvlm.world.drawing import COLORS
from locvlm.world.shapes import CLASSES, SHAPES

Write = Callable[[Thing], str]  # where a thing is, as text


@dataclass(frozen=True, slots=True)
class Dialogue:
    """How a question and its answer are written: the prompts of the objectives and the conversation's frame.

    Prompts hold `{category}`, `{repr}` and `{loc}`. They are handed in, so that their wording has one home.
    """

    frame: str  # holds {question}: everything up to the first answer
    later: str  # holds {question}: everything from one answer to the next
    end: str  # after an answer
    where: Sequence[str]
    located: str
    absent: str
    what: Sequence[str]
    found: str
    representation: str


def random_things(rng: random.Random, counts: Sequence[int] = (1, 2, 3, 4)) -> list[Thing]:
    """A layout: distinct classes with boxes that keep to the world's sides and aspects, in fractions."""
    things = []
    for category in rng.sample(CLASSES, rng.choice(counts)):
        side = rng.uniform(0.13, 0.47)
        aspect = min(1.9, max(0.53, SHAPES[category].aspect * rng.lognormvariate(0, 0.25)))
        width, height = (min(0.5, max(0.12, v)) for v in (side * aspect**0.5, side / aspect**0.5))
        x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        color = rng.choice(SHAPES[category].usual_colors.split() if rng.random() < 0.7 else list(COLORS))
        pattern = rng.choice(("plain",) * 6 + ("striped", "dotted", "checked"))
        things.append(Thing(category, color, pattern, (x, y, x + width, y + height)))
    return things


def written_by(codec: Codec) -> Write:
    """Boxes as `codec` writes them."""
    return lambda thing: codec.encode(Box(*thing.box))


def _sums(rng: random.Random, size: int) -> str:
    numbers = [rng.randint(0, size) for _ in range(rng.randint(3, 7))]
    listed = ", ".join(map(str, numbers))
    start, step = rng.randint(0, size - 12), rng.choice((1, 1, 2, 3, 5))
    a, b = sorted(rng.sample(range(size + 1), 2))
    middle = (a + b) // 2
    return rng.choice(
        (
            f"The smallest of {listed} is {min(numbers)} and the largest is {max(numbers)}.",
            f"In order, {listed} are {', '.join(map(str, sorted(numbers)))}.",
            "Counting: " + ", ".join(str(start + step * k) for k in range(8)) + ".",
            f"{a} is less than {b}, and {b} is more than {a}.",
            f"Halfway between {middle - (b - middle)} and {b} is {middle}."
            if 2 * middle >= b
            else f"{a} comes before {b}.",
            f"From {a} to {b} it is {b - a}.",
        )
    )


def _measures(rng: random.Random, size: int) -> str:
    thing = random_things(rng, (1,))[0]
    x1, y1, x2, y2 = (round(v * size) for v in thing.box)
    return f"The {thing.category} is at {written_by(IVB(num_bins=size))(thing)}. " + rng.choice(
        (
            f"Its left edge is at {x1} and its right edge at {x2}.",
            f"Its top is at {y1} and its bottom at {y2}.",
            f"It is {x2 - x1} wide and {y2 - y1} tall.",
            f"Its center is ({(x1 + x2) // 2}, {(y1 + y2) // 2}).",
            f"It is {place(thing)}.",
            f"You see {describe(thing, rng, detail=0.3)} {place(thing)}.",
        )
    )


def listing(rng: random.Random, things: list[Thing], write: Write) -> str:
    """A layout in one of several plain forms, each thing with its box."""
    form = rng.randrange(5)
    rows = []
    for thing in rng.sample(things, len(things)):
        box = write(thing)
        said = thing.category if rng.random() < 0.5 else describe(thing, rng, detail=0.4)[2:].strip()
        rows.append(
            (
                f"{said} {box}",
                f"{box} {said}",
                f"{article(said)} at {box}",
                f"{box}: {said}",
                f"{said} is at {box}",
            )[form]
        )
    return rng.choice((", ", "; ", "\n", ". ")).join(rows)


def where_is(rng: random.Random, thing: Thing, write: Write, talk: Dialogue) -> tuple[str, str]:
    """Where the thing is, as a question and its answer."""
    question = rng.choice(talk.where).format(category=thing.category, repr=talk.representation)
    return question, talk.located.format(loc=write(thing))


def _question(rng: random.Random, things: list[Thing], write: Write, talk: Dialogue) -> tuple[str, str]:
    """A question about a layout and its answer."""
    kind = rng.random()
    thing = rng.choice(things)
    if kind < 0.4:
        return where_is(rng, thing, write, talk)
    if kind < 0.6:
        other = rng.choice([c for c in CLASSES if c not in {t.category for t in things}])
        return rng.choice(talk.where).format(category=other, repr=talk.representation), talk.absent
    if kind < 0.85:
        return rng.choice(talk.what).format(loc=write(thing)), talk.found.format(category=thing.category)
    if kind < 0.93 and len(things) > 1:
        first, second = rng.sample(things, 2)
        return (
            f"How does the {first.category} lie to the {second.category}?",
            f"The {first.category} is {relation(first, second)} the {second.category}.",
        )
    return (
        "How many things are there?",
        f"There {'is' if len(things) == 1 else 'are'} {NUMBERS[len(things)]}.",
    )


def document(
    rng: random.Random,
    size: int,
    talk: Dialogue,
    *,
    write: Write | None = None,
    counts: Sequence[int] = (1, 2, 3, 4),
) -> str:
    """One document of the world's text.

    Args:
        size: sums and measures count in steps of 1 / `size`.
        write: how the places of a dialogue are written; as IVB, if not given.
        counts: how many things a layout may hold.
    """
    write = write or written_by(IVB(num_bins=size))
    kind = rng.random()
    things = random_things(rng, counts)
    background = rng.choice(list(BACKDROPS))
    if kind < 0.15:
        return " ".join(caption(things, background, rng) for _ in range(rng.randint(1, 4)))
    if kind < 0.25:
        return " ".join(_sums(rng, size) for _ in range(rng.randint(2, 5)))
    if kind < 0.35:
        return " ".join(_measures(rng, size) for _ in range(rng.randint(1, 4)))
    listed = listing(rng, things, write)
    if kind < 0.45:
        return (
            talk.frame.format(question=f"{listed}\nDescribe it.")
            + caption(things, background, rng)
            + talk.end
        )
    text = ""
    for k in range(rng.randint(3, 8)):
        question, answer = _question(rng, things, write, talk)
        frame, asked = (talk.frame, f"{listed}\n{question}") if k == 0 else (talk.later, question)
        text += frame.format(question=asked) + answer + talk.end
    return text


def tokenizer_lines(rng: random.Random, count: int, size: int, talk: Dialogue) -> Iterator[str]:
    """Lines from which the tokenizer learns: documents, rich captions, prompts in all notations."""
    locations = ("(4, 52, 13, 63)", "[0.0195, 0.2344, 0.0586, 0.2832]", "(0, -4, 3, 11)")
    for k in range(count):
        yield from document(rng, size, talk).replace(talk.end, " ").split("\n")
        if k % 3 == 0:
            yield rich_caption(random_things(rng), rng.choice(list(BACKDROPS)), rng)
        if k % 12 == 0:
            said = rng.choice((talk.representation, "(cx,cy) point"))
            prompt = rng.choice((*talk.where, *talk.what))
            yield prompt.format(category=rng.choice(CLASSES), repr=said, loc=rng.choice(locations))
