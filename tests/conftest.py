"""What every test gets: no network, quiet threads, the checkout's root and, where present, real data."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from numpy.typing import NDArray

import locvlm  # noqa: F401  (the torchvision remedy, before a test imports transformers)

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real data files (COCO excerpts, the LLaMA tokenizer); the test is skipped without it."""
    folder = Path(os.environ.get("LOCVLM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data here: set LOCVLM_TEST_DATA to a folder that has it")
    return folder


class ChatEndpoint(ThreadingHTTPServer):
    """An HTTP server that speaks chat completions; `answer(question, number)` gives what it says.

    A text is the answer, a number an HTTP status, bytes the whole body; "<hang>" says nothing until the
    server is closed, "<close>" ends the connection.
    """

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, Any], int], str | int | bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _ChatHandler)
        self.answer = answer
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.questions: list[dict[str, Any]] = []  # bodies of the requests, in the order in which they came
        self.headers: list[dict[str, str]] = []
        self.models = ["tiny"]
        self.lock = threading.Lock()
        self.is_closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ended its connection is no error of this server."""


class _ChatHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatEndpoint

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._send(
            200, {"object": "list", "data": [{"id": m, "object": "model"} for m in self.server.models]}
        )

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.questions.append(question)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            number = len(self.server.questions) - 1
        said = self.server.answer(question, number)
        if said == "<hang>":
            self.server.is_closing.wait()
        elif said == "<close>":
            self.close_connection = True
        elif isinstance(said, int):
            self._send(said, {"error": {"message": f"no ({self.headers.get('Authorization')})"}})
        elif isinstance(said, bytes):
            self._send(200, said)
        else:
            self._send(200, completion(said))

    def _send(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def completion(text: str, finish_reason: str = "stop") -> dict[str, Any]:
    """The body of an answer, as servers give it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    about = {"id": "1", "object": "chat.completion", "created": int(time.time()), "model": "tiny-1.2"}
    return {**about, "choices": [choice]}


@pytest.fixture
def serve() -> Iterator[Callable[..., ChatEndpoint]]:
    """serve(answer): a running `ChatEndpoint` on this host."""
    started: list[ChatEndpoint] = []

    def start(answer: Callable[[dict[str, Any], int], str | int | bytes]) -> ChatEndpoint:
        endpoint = ChatEndpoint(answer)
        started.append(endpoint)
        threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return endpoint

    yield start
    for endpoint in started:
        endpoint.is_closing.set()
        endpoint.shutdown()
        endpoint.server_close()


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """write_clip(path, pictures): a video of RGB arrays (H, W, 3), made by PyAV; see `_write_clip`."""
    return _write_clip


def _write_clip(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    times_ms: Sequence[int] | None = None,  # of the frames; None for an even rate
    pixel_aspect: Fraction | None = None,
    display: Callable[[Any], None] | None = None,  # sets how the stream is to be turned
    container: dict[str, str] | None = None,  # options of the muxer
    **options: str,  # of the encoder
) -> Path:
    import av

    height, width = pictures[0].shape[:2]
    unit = Fraction(1, rate) if times_ms is None else Fraction(1, 1000)
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = unit
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if display is not None:
            display(stream)
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base, frame.pts = unit, (k if times_ms is None else times_ms[k])
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path
