"""A server on this host that cuts connections, stalls and refuses; runs of scripts against it."""

import functools
import io
import os
import re
import subprocess
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "scripts" / "download"


class Server(ThreadingHTTPServer):
    """Files by path; `cuts`, `stalls` and `refusals` are used up, one per request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, list[int]] = defaultdict(list)  # bytes sent before the connection is closed
        self.stalls: dict[str, list[int]] = defaultdict(list)  # bytes sent before nothing more comes
        self.refusals: dict[str, list[int]] = defaultdict(list)  # statuses
        self.with_ranges = True
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        self.closing = threading.Event()
        self.base = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """GET, with byte ranges as far as a transfer needs them that goes on."""

    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Range"]))
        data = self.server.files.get(self.path)
        if self.server.refusals[self.path] or data is None:
            return self.answer(self.server.refusals[self.path].pop(0) if data is not None else 404, b"no")
        start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if not start or not self.server.with_ranges:
            return self.answer(200, data)
        first = int(start[1])
        if first >= len(data):
            return self.answer(416, b"", f"bytes */{len(data)}")
        return self.answer(206, data[first:], f"bytes {first}-{len(data) - 1}/{len(data)}")

    def answer(self, status: int, body: bytes, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        cuts, stalls = self.server.cuts[self.path], self.server.stalls[self.path]
        if status < 300 and stalls:
            self.wfile.write(body[: stalls.pop(0)])
            self.server.closing.wait(60)
        else:
            self.wfile.write(body[: cuts.pop(0)] if cuts and status < 300 else body)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield served
        served.closing.set()
        served.shutdown()
        thread.join()


@pytest.fixture
def settings(server) -> dict[str, str]:
    """Environment in which addresses lead to the server, and no pause is made between tries."""
    turned = {"LOCVLM_DOWNLOAD_BASE": server.base, "LOCVLM_DOWNLOAD_WAIT": "0", "no_proxy": "127.0.0.1"}
    return {**os.environ, **turned}


@pytest.fixture
def download(settings):
    """download(script, *arguments, **variables): runs it by bash, with these settings."""

    def run_script(script, *arguments, **variables):
        return subprocess.run(
            ["bash", str(script), *map(str, arguments)],
            env={**settings, **{name: str(value) for name, value in variables.items()}},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run_script


@pytest.fixture
def declare(tmp_path):
    """declare(*lines): a script like those of scripts/download/, of these declarations."""

    def write(*lines: str) -> Path:
        script = tmp_path / "some.sh"
        script.write_text("\n".join([f'source "{FOLDER}/common.sh"', *lines, 'run "$@"', ""]))
        return script

    return write


@pytest.fixture(scope="session")
def without(tmp_path_factory):
    """without(programs): a PATH on which they are not."""

    @functools.cache
    def hide(programs: frozenset[str]) -> str:
        folder = tmp_path_factory.mktemp("programs")
        for place in os.environ["PATH"].split(":"):
            for path in Path(place).iterdir() if place and Path(place).is_dir() else ():
                link = folder / path.name
                if path.name not in programs and not link.is_symlink():
                    link.symlink_to(path)
        return str(folder)

    return lambda programs: hide(frozenset(programs))


@pytest.fixture
def zipped():
    """zipped({name: bytes}): a zip, uncompressed."""

    def write(files):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    return write
