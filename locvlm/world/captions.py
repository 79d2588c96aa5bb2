"""Five captions a scene, as people write them: what there is, in which colours, how big, and where."""

import random
from dataclasses import dataclass

from locvlm.world.scenes import Scene, SceneObject

CAPTIONS_PER_SCENE = 5

PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
ACROSS = ("at the far left", "on the left", "left of the center", "in the center", "right of the center",
          "on the right", "at the far right")  # fmt: skip
DOWN = ("at the very top", "near the top", "above the middle", "halfway down", "below the middle",
        "near the bottom", "at the very bottom")  # fmt: skip
EDGES_ACROSS = (
    "the left edge",
    "the far left",
    "the left",
    "the center",
    "the right",
    "the far right",
    "the right edge",
)
EDGES_DOWN = ("the very top", "the top", "the upper middle", "the middle", "the lower middle", "the bottom",
              "the very bottom")  # fmt: skip
BACKDROPS = {
    "wood": "on a wooden table",
    "grass": "on the grass",
    "fabric": "on a soft cloth",
    "sky": "in a blue sky",
    "sunset": "in an evening sky",
    "sand": "on the sand",
    "tiles": "on a tiled floor",
    "paper": "on a sheet of paper",
    "night": "in the night sky",
    "water": "on the water",
    "bricks": "on a brick wall",
    "hills": "over green hills",
    "wallpaper": "on dotted wallpaper",
    "stripes": "on striped wallpaper",
    "stone": "on a stone floor",
}
NUMBERS = ("no", "one", "two", "three", "four")
OPENINGS = ("", "", "a picture of ", "there is ", "we see ", "this shows ", "look: ")


@dataclass(frozen=True, slots=True)
class Thing:
    """One object as words need it: its box in fractions of the scene."""

    category: str
    color: str
    pattern: str
    box: tuple[float, float, float, float]

    @property
    def center(self) -> tuple[float, float]:
        """Centre of the box, in fractions of the scene."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def side(self) -> float:
        """Geometric mean of the sides, in fractions of the scene."""
        return ((self.box[2] - self.box[0]) * (self.box[3] - self.box[1])) ** 0.5


def things_of(scene: Scene) -> list[Thing]:
    """The objects of a scene with their boxes in fractions, back to front."""
    width, height = scene.image.size

    def thing(seen: SceneObject) -> Thing:
        x1, y1, x2, y2 = seen.box_px
        return Thing(
            seen.category, seen.color, seen.pattern, (x1 / width, y1 / height, x2 / width, y2 / height)
        )

    return [thing(seen) for seen in scene.objects]


def article(phrase: str) -> str:
    """ "apple" -> "an apple"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def place(thing: Thing) -> str:
    """Which of nine parts of the scene the centre is in, in words."""
    x, y = thing.center
    return PLACES[min(2, int(y * 3))][min(2, int(x * 3))]


def fine_place(thing: Thing, rng: random.Random) -> str:
    """The place in seven steps across, seven steps down, or both."""
    x, y = thing.center
    # centres keep a distance from the edges: 0.1 to 0.9 is spread over the seven steps
    across, down = (steps[min(6, max(0, int((v - 0.1) / 0.8 * 7)))] for v, steps in ((x, ACROSS), (y, DOWN)))
    return rng.choice((across, down, f"{across} and {down}", f"{down}, {across}"))


def reach(thing: Thing, rng: random.Random) -> str:
    """What the thing covers across and down, from edge to edge, in seven steps each."""
    x1, y1, x2, y2 = (min(6, int(v * 7)) for v in thing.box)
    across = f"from {EDGES_ACROSS[x1]} to {EDGES_ACROSS[x2]}"
    down = f"from {EDGES_DOWN[y1]} to {EDGES_DOWN[y2]}"
    return "reaching " + rng.choice((across, down, f"{across} and {down}", f"{down} and {across}"))


def size_word(thing: Thing) -> str:
    """tiny, small, "", big or huge, by the mean side."""
    for limit, word in ((0.18, "tiny"), (0.25, "small"), (0.33, ""), (0.4, "big")):
        if thing.side < limit:
            return word
    return "huge"


def shape_word(thing: Thing) -> str:
    """wide, tall or "", by the aspect in the scene's fractions."""
    aspect = (thing.box[2] - thing.box[0]) / (thing.box[3] - thing.box[1])
    return "wide" if aspect > 1.4 else "tall" if aspect < 0.71 else ""


def describe(thing: Thing, rng: random.Random, *, detail: float = 0.5) -> str:
    """ "a big red striped mug": each property is named with the chance `detail`."""
    words = [
        size_word(thing),
        shape_word(thing),
        thing.color,
        thing.pattern if thing.pattern != "plain" else "",
    ]
    return article(" ".join([word for word in words if word and rng.random() < detail] + [thing.category]))


def relation(first: Thing, second: Thing) -> str:
    """How the first lies towards the second, by the axis on which their centres differ most."""
    dx, dy = first.center[0] - second.center[0], first.center[1] - second.center[1]
    if abs(dx) >= abs(dy):
        return "to the left of" if dx < 0 else "to the right of"
    return "above" if dy < 0 else "below"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _listing(things: list[Thing], backdrop: str, rng: random.Random) -> str:
    detail = rng.choice((0.0, 0.4, 0.8))
    return rng.choice(OPENINGS) + _join([describe(t, rng, detail=detail) for t in things]) + " " + backdrop


def _placed(things: list[Thing], backdrop: str, rng: random.Random) -> str:
    del backdrop
    detail = rng.choice((0.0, 0.3, 0.7))
    where = place if rng.random() < 0.5 else (lambda t: fine_place(t, rng))
    return rng.choice(OPENINGS) + _join([f"{describe(t, rng, detail=detail)} {where(t)}" for t in things])


def _related(things: list[Thing], backdrop: str, rng: random.Random) -> str:
    if len(things) < 2:
        return _placed(things, backdrop, rng)
    first, second = rng.sample(things, 2)
    return f"{describe(first, rng)} {relation(first, second)} {describe(second, rng)}, {backdrop}"


def _counted(things: list[Thing], backdrop: str, rng: random.Random) -> str:
    names = _join([article(t.category) for t in things])
    noun = "thing" if len(things) == 1 else "things"
    return f"{NUMBERS[len(things)]} {noun} {backdrop}: {names}"


def _one(things: list[Thing], backdrop: str, rng: random.Random) -> str:
    thing = max(things, key=lambda t: t.side) if rng.random() < 0.4 else rng.choice(things)
    return f"{describe(thing, rng, detail=0.8)} {fine_place(thing, rng)}, {backdrop}"


def _reaching(things: list[Thing], backdrop: str, rng: random.Random) -> str:
    thing = rng.choice(things)
    return f"{describe(thing, rng, detail=0.6)} {reach(thing, rng)}, {backdrop}"


def phrase(thing: Thing, rng: random.Random, *, placed: bool) -> str:
    """What a region of a scene is called: "a big mug", or with its place "a mug on the left"."""
    said = describe(thing, rng, detail=0.4)
    if not placed:
        return said
    return f"{said} {fine_place(thing, rng) if rng.random() < 0.4 else reach(thing, rng)}"


def rich_caption(things: list[Thing], background: str, rng: random.Random) -> str:
    """Every thing with its looks, its place and what it covers; the contrastive encoder's food."""
    parts = [phrase(thing, rng, placed=True) for thing in rng.sample(things, len(things))]
    text = _join(parts) + (" " + BACKDROPS[background] if rng.random() < 0.4 else "")
    return text[0].upper() + text[1:] + "."


KINDS = (_listing, _placed, _placed, _related, _counted, _one, _reaching)


def plain_caption(things: list[Thing], rng: random.Random) -> str:
    """Everything by name, with or without looks, and no word of the background: where the encoder starts."""
    text = _listing(rng.sample(things, len(things)), "", rng).strip()
    return text[0].upper() + text[1:] + "."


def caption(things: list[Thing], background: str, rng: random.Random) -> str:
    """One caption, a sentence with capital and full stop."""
    shuffled = rng.sample(things, len(things))
    text = rng.choice(KINDS)(shuffled, BACKDROPS[background], rng)
    return text[0].upper() + text[1:] + "."


def scene_captions(scene: Scene, seed: int, index: int) -> list[str]:
    """The captions of scene `index` of the world `seed`."""
    rng = random.Random(f"captions/{seed}/{index}")
    things = things_of(scene)
    return [caption(things, scene.background, rng) for _ in range(CAPTIONS_PER_SCENE)]
