"""A model behind an OpenAI-compatible server (vLLM, SGLang and others) as something that answers questions.

The server knows its model's prompt format; how the model writes locations has to be declared.
"""

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from PIL import Image

from locvlm import chat_server
from locvlm.answering.answerer import Asked, Decoding, NoAnswer, OptionScore, refuse_videos
from locvlm.answering.conventions import Words
from locvlm.chat_server import ChatServer, Question
from locvlm.coords.contract import CoordinateContract
from locvlm.records import Query


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerAnswerer:
    """A model of a server, asked many questions at once. It gets images as PNG, so that no pixel differs."""

    server: ChatServer
    contract: CoordinateContract | None
    words: Words

    def question(self, query: Query, *, location_text: str | None, rng: random.Random) -> str:
        """See `Answerer`."""
        return self.words(query, location_text=location_text, rng=rng)

    def answer(self, asked: Sequence[Asked], decoding: Decoding) -> list[list[str | NoAnswer]]:
        """See `Answerer`. What the server refuses has no answer.

        Raises:
            ServerError: if the server refuses to work, or seems to be down.
            ValueError: for a beam search, which is no part of this protocol, or a whole video.
        """
        refuse_videos(asked)
        settings = _server_decoding(decoding)

        def questions() -> Iterator[Question]:
            for item in asked:
                images = () if item.image is None else (as_png(item.image),)
                yield from (Question(text=text, images=images) for text in item.questions)

        replies = list(self.server.ask_all(questions(), settings))  # to the end, or its connections close
        answers = (NoAnswer(reply.failure) if reply.failure else reply.text.strip() for reply in replies)
        return [list(islice(answers, len(item.questions))) for item in asked]

    def option_scores(
        self, asked: Sequence[Asked], options: Sequence[Sequence[Sequence[str]]]
    ) -> list[list[list[OptionScore]]]:
        """See `Answerer`.

        Raises:
            ValueError: always: chat completions have no likelihood of a given answer.
        """
        raise ValueError(
            f"the server at {self.server.options.url} does not say how likely given options are; leave out "
            f"the tasks with `choose: likelihood`, or load the model here: --model FOLDER"
        )


def as_png(image: Image.Image) -> bytes:
    """The image as a PNG file; quickly rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _server_decoding(decoding: Decoding) -> chat_server.Decoding:
    if decoding.beams > 1:
        raise ValueError(
            f"a server is asked greedily or with a temperature, and the task wants {decoding.beams} beams; "
            f"load the model here: --model FOLDER"
        )
    return chat_server.Decoding(
        max_tokens=decoding.max_new_tokens,
        temperature=0.0 if decoding.greedy else decoding.temperature,
        seed=decoding.seed,
    )
