"""A conversation about one image or video: short questions in the training data's words, answers with boxes
in its pixels.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from locvlm.answering.answerer import Answerer, Asked, Decoding, NoAnswer, num_frames_of
from locvlm.coords.notation import ParseFailure
from locvlm.data.image import load_image
from locvlm.data.still import load_clip, load_middle_frame
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
    """Questions about one image, or one video, to one checkpoint.

    Of a video, the model sees its frames, and boxes are drawn on the middle one.

    Args:
        file: of the image or video.
        is_video: which of both it is.

    Raises:
        ValueError: if the file cannot be read, the model has no way of writing locations, or it is a video
            and the model was made for images alone.
    """

    def __init__(self, answerer: Answerer, file: Path, *, is_video: bool = False) -> None:
        if answerer.contract is None:
            raise ValueError(
                "this model has no known way of writing locations, and boxes are talked about here"
            )
        self._answerer, self._contract = answerer, answerer.contract
        self._frames = load_clip(file, num_frames_of(answerer)) if is_video else ()
        self._image = load_middle_frame(file) if is_video else load_image(file)
        self._frame = self._contract.frame_for(self._image.size)
        self.replies: list[Reply] = []

    def ask(self, question: str, decoding: Decoding | None = None) -> Reply:
        """The answer to a question, in the training data's words if it is short (see `in_full`).

        Raises:
            ValueError: as `in_full`, or if the model gives no answer.
        """
        full = self.in_full(question)
        image = None if self._frames else self._image
        asked = [Asked(image=image, frames=self._frames, questions=[full])]
        [[text]] = self._answerer.answer(asked, decoding or Decoding(max_new_tokens=64))
        if isinstance(text, NoAnswer):
            raise ValueError(f"there is no answer to {full!r}: {text.reason}")
        location = self._contract.read(text, self._frame)
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
        contract = self._contract
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
        """The image, or the video's middle frame, with every location answered so far, each with its number
        and in its own colour.
        """
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
