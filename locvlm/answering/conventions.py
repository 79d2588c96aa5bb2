"""How models of others write locations, and in which words they are asked about them.

What a checkpoint of ours stores has to be declared for theirs: codec, frame and wording together, because a
model that was taught one of them was taught all three.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from locvlm.coords.contract import CoordinateContract
from locvlm.geometry import FrameMode
from locvlm.io import read_json
from locvlm.objectives.render import render_query
from locvlm.records import Query

NO_CONVENTION = "none"
_PHRASE, _LOCATION = "{phrase}", "{location}"
# Of a model that sees its own canvas elsewhere. None of these codecs counts in pixels of the canvas.
_CANVAS = _PATCH = 336


class Words(Protocol):
    """What a model is asked about a query; the arguments are those of `Answerer.question`."""

    def __call__(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """The question."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Convention:
    """Codec, frame and words of one family of models."""

    codec: str
    frame: FrameMode
    where: str  # asks where a phrase is
    what: str  # asks what is at a location

    def contract(self, *, canvas: int = _CANVAS, patch: int = _PATCH) -> CoordinateContract:
        """For a model with a canvas and patches of this many pixels."""
        return CoordinateContract(codec=self.codec, frame=self.frame, canvas=canvas, patch=patch)

    def __call__(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """What the model is asked about a query; nothing is drawn.

        Raises:
            ValueError: for a query about a location that comes without it.
        """
        if query.objective in ("locpred", "negpred"):
            return self.where.replace(_PHRASE, query.phrase)
        if query.objective == "revloc":
            if location_text is None:
                raise ValueError(f"a revloc query needs its location as text, got none for {query}")
            return self.what.replace(_LOCATION, location_text)
        return query.question


CONVENTIONS = {
    # the words of LLaVA-1.5's training data
    "llava": Convention(
        codec="llava",
        frame="pad",
        where="Please provide the bounding box coordinate of the region this sentence describes: {phrase}.",
        what="Please provide a short description for this region: {location}.",
    ),
    "kosmos2": Convention(
        codec="kosmos2",
        frame="stretch",
        where="<grounding><phrase> {phrase}</phrase>",
        what="<grounding><phrase> It</phrase>{location} is",
    ),
    # for servers, whose models are told the form that they may know under another name
    "shikra": Convention(
        codec="shikra",
        frame="pad",
        where="What are the coordinates of {phrase} in the image? Answer in [x1, y1, x2, y2] format.",
        what="What is at {location} in the image? Answer with a short description.",
    ),
    "thousand": Convention(
        codec="thousand",
        frame="stretch",
        where=(
            "Where is {phrase} in the image? Answer with its bounding box as [x1, y1, x2, y2], in whole "
            "numbers from 0 to 1000 of the image's width and height."
        ),
        what=(
            "What is in the bounding box {location} of the image? Its numbers go from 0 to 1000 of the "
            "image's width and height, [x1, y1, x2, y2]. Answer with a short description."
        ),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedWords:
    """The words of our training, in which our own checkpoints are asked also where a server runs them."""

    representation: str  # of locations, as prompts name it

    def __call__(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """The question as training asks it."""
        turn = render_query(query, rng=rng, location_text=location_text, representation=self.representation)
        return turn.question


def verbatim(query: Query, *, location_text: str | None, rng: random.Random) -> str:
    """The words of a model that knows no locations: the question, as the data set has it.

    Raises:
        ValueError: for a query about a location.
    """
    if query.objective in ("locpred", "negpred", "revloc"):
        raise ValueError(f"this model has no way of writing locations, and was asked about one: {query}")
    return query.question


def find_convention(name: str) -> tuple[CoordinateContract | None, Words]:
    """Contract and words of a convention: one of `CONVENTIONS`, "none", or a checkpoint folder of ours.

    Raises:
        ValueError: for any other name, and for a folder whose config.json holds no contract.
    """
    if name == NO_CONVENTION:
        return None, verbatim
    if name in CONVENTIONS:
        return CONVENTIONS[name].contract(), CONVENTIONS[name]
    config = Path(name) / "config.json"
    saved = (read_json(config).get("locvlm") or {}).get("contract") if config.is_file() else None
    if saved is None:
        raise ValueError(
            f"--convention is one of {', '.join(CONVENTIONS)}, {NO_CONVENTION}, or a checkpoint folder of "
            f"ours, whose config.json holds locvlm.contract; got {name!r}"
        )
    contract = CoordinateContract.from_dict(saved)
    return contract, TrainedWords(representation=contract.representation)
