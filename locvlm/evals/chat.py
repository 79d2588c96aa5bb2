"""A conversation about one image: short questions in the training data's words, answers with boxes in its
pixels.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from locvlm.coords.notation import ParseFailure
from locvlm.data.image import load_image
from locvlm.evals.answer import Answerer, Asked
from locvlm.geometry import Box, Location, place_box
from locvlm.objectives.locpred import PROMPTS as LOCATION_PROMPTS
from locvlm.objectives.revloc import PROMPTS as DESCRIPTION_PROMPTS

COLORS = ("#2bdc83", "#5b97ff", "#ffb648", "#ff6f91", "#b48cff", "#35d0d6")
_WHERE = re.compile(r"where (?:is|are) (?:the |an? )?(.+?)\??", re.IGNORECASE)
_WHAT = re.compile(r"what is at \(?\s*([\d.]+(?:\s*,\s*[\d.]+){3})\s*\)?\s*\??", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One answer, and the location in it, in source pixels."""

    question: str  # as asked of the model
    text: str
    location: Location | None

    def describe(self) -> str:
        """The location in words: "box (12, 30, 80, 77) px"."""
        assert self.location is not None
        numbers = ", ".join(f"{value:.0f}" for value in self.location)
        return f"{'box' if isinstance(self.location, Box) else 'point'} ({numbers}) px"


class Talk:
    """Questions about one image to one checkpoint.

    Raises:
        ValueError: if the image cannot be read.
    """

    def __init__(self, answerer: Answerer, image: Path) -> None:
        self._answerer = answerer
        self._image = load_image(image)
        self._frame = answerer.contract.frame_for(self._image.size)
        self._pixels = answerer.pixels(self._image)
        self.replies: list[Reply] = []

    def ask(
        self, question: str, *, max_new_tokens: int = 64, temperature: float | None = None, seed: int = 0
    ) -> Reply:
        """The answer to a question, in the training data's words if it is short (see `in_full`)."""
        full = self.in_full(question)
        asked = [Asked(pixels=self._pixels, questions=[full])]
        [[text]] = self._answerer.answer(
            asked, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        location = self._answerer.contract.read(text, self._frame)
        reply = Reply(
            question=full, text=text, location=None if isinstance(location, ParseFailure) else location
        )
        self.replies.append(reply)
        return reply

    def in_full(self, question: str) -> str:
        """`where is X` and `what is at x1, y1, x2, y2` (source pixels) as the training data ask it; else as
        it is.

        Raises:
            ValueError: for a box that the model's canvas does not show.
        """
        contract = self._answerer.contract
        where, what = _WHERE.fullmatch(question.strip()), _WHAT.fullmatch(question.strip())
        if where:
            return LOCATION_PROMPTS[0].format(category=where[1], repr=contract.representation)
        if what:
            box = place_box(self._frame, Box(*(float(value) for value in what[1].split(","))))
            if not isinstance(box, Box):
                raise ValueError(
                    f"the box ({what[1]}) is not in the part of the image that the model sees; the image is "
                    f"{self._image.width} x {self._image.height} pixels, the frame is {contract.frame}"
                )
            return DESCRIPTION_PROMPTS[0].format(loc=contract.write(box, self._frame))
        return question

    def drawing(self) -> Image.Image:
        """The image with every location answered so far, each with its number and in its own colour."""
        picture = self._image.copy()
        draw = ImageDraw.Draw(picture)
        line = max(2, round(max(picture.size) / 200))
        located = [reply for reply in self.replies if reply.location is not None]
        for index, reply in enumerate(located):
            draw_location(draw, reply.location, COLORS[index % len(COLORS)], line, label=str(index + 1))
        return picture


def draw_location(
    draw: ImageDraw.ImageDraw, location: Location | None, color: str, line: int, *, label: str = ""
) -> None:
    """Draw a box or a point (source pixels), outlined in black so that it shows on any background."""
    if location is None:
        return
    if isinstance(location, Box):
        draw.rectangle(location, outline="#000000", width=line + 2)
        draw.rectangle(
            [location.x1 + 1, location.y1 + 1, location.x2 - 1, location.y2 - 1], outline=color, width=line
        )
        corner = (location.x1 + line + 3, location.y1 + line + 1)
    else:
        reach = 2 * line + 2
        around = (location.x - reach, location.y - reach, location.x + reach, location.y + reach)
        draw.ellipse(around, fill=color, outline="#000000")
        corner = (location.x + reach + 2, location.y - reach)
    draw.text(corner, label, fill=color, stroke_width=2, stroke_fill="#000000")
