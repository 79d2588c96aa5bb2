"""A server as a captioner: it gets many prompts at once, and images as they lie on the disk."""

import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from PIL import Image

from locvlm.answering.server import as_png
from locvlm.building.captioning.captioner import Answer, Picture, Prompted
from locvlm.chat_server import ChatServer, Decoding, Question, Reply, media_type
from locvlm.data.archive import locate
from locvlm.data.image import EXIF_ORIENTATION

_AS_THEY_ARE = ("RGB", "L")  # modes that every reader turns into the same pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCaptioner:
    """A model behind an OpenAI-compatible server."""

    server: ChatServer
    max_new_tokens: int
    prompts_per_batch: int = 1  # a picture: the server makes its own batches

    @property
    def name(self) -> str:
        """The model's name at the server."""
        return self.server.model

    @property
    def identity(self) -> Mapping[str, str]:
        """What the model is called at the server, which tells no more; where that is may change."""
        return {"model": self.server.model, "max_new_tokens": str(self.max_new_tokens)}

    def describe(self, batches: Iterable[Sequence[Prompted]]) -> Iterator[list[list[Answer]]]:
        """See `Captioner`. A prompt without an answer has an `Answer.failure`.

        Raises:
            ServerError: if the server refuses to work, or seems to be down.
        """
        asked: deque[Sequence[Prompted]] = deque()

        def questions() -> Iterator[Question]:
            for batch in batches:
                asked.append(batch)
                for item in batch:
                    images = (encoded(item.picture),)
                    yield from (Question(text=prompt, images=images) for prompt in item.prompts)

        replies = self.server.ask_all(questions(), Decoding(max_tokens=self.max_new_tokens, seed=0))
        for first in replies:
            answers = map(_answer, chain([first], replies))
            yield [list(islice(answers, len(item.prompts))) for item in asked.popleft()]


def encoded(picture: Picture) -> bytes:
    """The picture's file as it is, if servers read it and see the same pixels; else those as PNG.

    They may not where the file is of another format, holds transparency, or has an EXIF tag that turns it,
    which some servers do and others do not.
    """
    found = locate(picture.path)
    data = found.getvalue() if isinstance(found, io.BytesIO) else Path(found).read_bytes()
    if media_type(data) is not None:
        with Image.open(io.BytesIO(data)) as stored:
            is_turned = stored.getexif().get(EXIF_ORIENTATION, 1) != 1
            if stored.mode in _AS_THEY_ARE and not is_turned:
                return data
    return as_png(picture.image)


def _answer(reply: Reply) -> Answer:
    return Answer(text=reply.text, is_cut_off=reply.is_cut_off, failure=reply.failure)
