"""Questions to a server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, OpenAI itself.

    server = ChatServer(ServerOptions(url="http://node7:8000/v1"))
    for reply in server.ask_all(questions, Decoding(max_tokens=64)):
        ...

The `openai` package talks to the server: it waits and asks again, each time longer, where the server is busy
(429), broken (5xx), too slow or gone. What fails all the same is a reply with a `failure`, so that one bad
picture does not end a run of days; a server that refuses the key, or answers nothing for long, does.
"""

import base64
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import openai

_AHEAD = 2  # replies that may wait for an earlier one, per question that the server may work on
_LONGEST_MESSAGE = 300  # characters of a server's message that are worth a line
_STARTS = {  # of files that servers read
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}


class ServerError(RuntimeError):
    """A server that cannot be worked with: it refuses the key or the model, or seems to be down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerOptions:
    """Where the server is and how patient to be.

    Raises:
        ValueError: for a URL of another form, or one with a password, which logs and manifests would show.
    """

    url: str  # up to and with the version: http://node7:8000/v1
    model: str = ""  # its name there; empty asks the server, which has to have only one
    key_variable: str = ""  # environment variable that holds the API key; empty sends none
    concurrency: int = 16  # questions that the server works on at once
    timeout_s: float = 120.0  # until an answer has to come
    num_retries: int = 6  # of a question: after about 0.5, 1, 2, 4, 8, 8 ... seconds
    max_failures_in_a_row: int = 20  # then the server counts as down

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"a server is given by its URL, such as http://node7:8000/v1, got {self.url!r}")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                f"the URL of the server at {parts.hostname} holds a name, a password or a query, which would "
                f"stand in logs and manifests; put the key into an environment variable and name that"
            )
        limits = {"concurrency": 1, "num_retries": 0, "max_failures_in_a_row": 1}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, got {self.timeout_s}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One message of a user, to be answered on its own."""

    text: str
    images: tuple[bytes, ...] = ()  # encoded, as `media_type` knows them; shown before the text
    system: str = ""  # message to begin with


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How answers are drawn. Servers promise no more than to try to repeat themselves for equal seeds."""

    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back for a question."""

    text: str = ""
    model: str = ""  # as the server names it
    is_cut_off: bool = False  # the answer reached `max_tokens`
    failure: str = ""  # why there is no answer; empty when there is one


class ChatServer:
    """A server with one model, asked by several threads at once.

    Raises:
        ServerError: if it has to be asked for its model and cannot be, or has several.
        ValueError: if there is no key in the variable that is named, or no `openai` package.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self._key = _read_key(options.key_variable)
        self._client = _open_client(options, self._key)
        self.model = options.model or self._only_model()

    def ask(self, question: Question, decoding: Decoding) -> Reply:
        """The reply to one question.

        Raises:
            ServerError: if the server refuses the key or does not know the model.
            ValueError: for an image that servers do not read.
        """
        import openai

        messages, settings = _messages(question), _settings(decoding)
        try:
            answered = self._client.chat.completions.create(model=self.model, messages=messages, **settings)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise ServerError(self._refusal(error)) from None  # its text may hold the key
        except openai.OpenAIError as error:
            return Reply(failure=self._say(error))
        except ValueError as error:  # the package lets through what its JSON reader says
            return Reply(failure=f"the answer is not JSON: {self._say(error)}")
        return _read(answered)

    def ask_all(self, questions: Iterable[Question], decoding: Decoding) -> Iterator[Reply]:
        """The replies in the order of the questions, `concurrency` of which are with the server at a time.

        Questions are taken from the iterable only a little ahead. Who does not want all replies has to make
        a new ChatServer: the connections of this one are ended.

        Raises:
            ServerError: as `ask`, and after `max_failures_in_a_row` questions without an answer.
        """
        num_failures = 0  # since the last answer
        for reply in self._replies(questions, decoding):
            num_failures = num_failures + 1 if reply.failure else 0
            if num_failures >= self.options.max_failures_in_a_row:
                raise ServerError(
                    f"{num_failures} questions in a row got no answer from {self.options.url}, the last "
                    f"because: {reply.failure}. It seems to be down: start the same command again when it "
                    f"is up, and it goes on where it stopped"
                )
            yield reply

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _replies(self, questions: Iterable[Question], decoding: Decoding) -> Iterator[Reply]:
        pool = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="chat")
        waiting: deque[Future[Reply]] = deque()
        try:
            for question in questions:
                waiting.append(pool.submit(self.ask, question, decoding))
                if len(waiting) >= _AHEAD * self.options.concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            self.close()  # or threads would go on asking, and the program would end only after them
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _only_model(self) -> str:
        """The name of the one model that the server has."""
        import openai

        try:
            names = [model.id for model in self._client.models.list()]
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            raise ServerError(
                f"{self.options.url} does not say which models it has ({self._say(error)}); correct the URL, "
                f"which ends in /v1 at most servers, or name the model"
            ) from None
        if len(names) != 1:
            raise ServerError(
                f"{self.options.url} has {len(names)} models ({', '.join(names[:10])}); name the one to ask"
            )
        return names[0]

    def _refusal(self, error: Exception) -> str:
        variable = self.options.key_variable
        key = f"the key in ${variable}" if variable else "a question without a key (name its variable)"
        return (
            f"{self.options.url} refuses {key}, or has no model {self.model!r}: {self._say(error)}. Correct "
            f"the URL (it ends in /v1 at most servers), the model's name or the key"
        )

    def _say(self, error: Exception) -> str:
        """An error on one line, without the key, which servers put into their messages."""
        text = " ".join(str(error).split()) or type(error).__name__
        return (text.replace(self._key, "***") if self._key else text)[:_LONGEST_MESSAGE]


def media_type(data: bytes) -> str | None:
    """What an encoded image is, by how it begins; None if servers would not read it."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((name for name, starts in _STARTS.items() if data.startswith(starts)), None)


def _read_key(variable: str) -> str:
    """The API key in an environment variable; empty without a variable."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise ValueError(f"the environment variable {variable} is empty; export the server's API key in it")
    return key


def _open_client(options: ServerOptions, key: str) -> "openai.OpenAI":
    try:
        import openai
    except ModuleNotFoundError as error:
        raise ValueError(
            'a server is asked through the openai package; install it: pip install -e ".[server]"'
        ) from error
    return openai.OpenAI(
        base_url=options.url,
        api_key=key or "none",  # servers without keys ignore it; the package insists on one
        timeout=options.timeout_s,
        max_retries=options.num_retries,
    )


def _settings(decoding: Decoding) -> dict[str, Any]:
    settings = {"max_tokens": decoding.max_tokens, "temperature": decoding.temperature}
    return settings if decoding.seed is None else {**settings, "seed": decoding.seed}


def _messages(question: Question) -> list[Any]:
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": _data_uri(image)}} for image in question.images
    ]
    parts.append({"type": "text", "text": question.text})
    # text alone goes as a string: servers of models without images take nothing else
    user = {"role": "user", "content": parts if question.images else question.text}
    system = [{"role": "system", "content": question.system}] if question.system else []
    return [*system, user]


def _data_uri(image: bytes) -> str:
    kind = media_type(image)
    if kind is None:
        raise ValueError(
            f"servers read JPEG, PNG, GIF and WebP, got an image that begins with {image[:8]!r}; encode it so"
        )
    return f"data:{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _read(answered: Any) -> Reply:
    """The first choice; a failure for what is JSON and no chat completion."""
    choices = getattr(answered, "choices", None)
    first = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(first, "message", None)
    text = getattr(message, "content", None) or getattr(message, "refusal", None) or ""
    if message is None or not isinstance(text, str):
        return Reply(failure=f"the answer is no chat completion: {str(answered)[:_LONGEST_MESSAGE]}")
    return Reply(
        text=text,
        model=str(getattr(answered, "model", None) or ""),
        is_cut_off=getattr(first, "finish_reason", None) == "length",
    )
