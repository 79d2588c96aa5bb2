"""What pooled features of a video depend on, and how a video's content is told: the keys of the cache."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from locvlm.data.archive import open_video
from locvlm.data.video import UnreadableVideo
from locvlm.geometry import FrameMode

_BLOCK = 1 << 16  # bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSettings:
    """All that decides over pooled features, but for the video.

    Not in it is the device: another one, or other kernels, may round the last bits differently.
    """

    tower: str  # sha256 of its weights in `dtype`, and of its configuration
    layer: int  # that is read
    dtype: str  # of the tower's weights: "float32", "bfloat16"
    autocast: str  # dtype of products, "" without autocast
    attention: str  # the tower's implementation
    num_frames: int  # that a video is shown by, see `clip_indices`
    order: str  # of temporal and spatial tokens
    pad_frames: int | None
    frame: FrameMode  # how a picture gets to the canvas
    canvas: int  # pixels
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    layout: int = 1  # raise it when the same settings give other features

    @property
    def digest(self) -> str:
        """Names the folder of their features: 16 hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differences(self, other: dict[str, Any]) -> Iterator[str]:
        """Where saved settings differ: "num_frames is 100 there, 8 here"."""
        own = json.loads(json.dumps(asdict(self)))
        for name in sorted(own.keys() | other.keys()):
            if own.get(name) != other.get(name):
                yield f"{name} is {other.get(name)} there, {own.get(name)} here"


def _open(path: str | Path) -> BinaryIO:
    found = open_video(path)
    return open(found, "rb") if isinstance(found, str) else io.BufferedReader(found)  # type: ignore[return-value]


def content_key(path: str | Path) -> str:
    """Tells a video's content, wherever the file lies and however it is called: 32 hexadecimal digits.

    The SHA-256 of its size and of 64 KiB at its beginning, middle and end: a video set is hundreds of
    gigabytes, and reading a file whole takes as long as decoding it. A file that was encoded, cut or fetched
    anew is another; one of the same size that was changed only between these places is not seen.

    Raises:
        UnreadableVideo: if there is no such file, or it cannot be read.
    """
    try:
        with _open(path) as file:
            size = file.seek(0, 2)
            digest = hashlib.sha256(str(size).encode())
            for start in sorted({0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)}):
                file.seek(start)
                digest.update(file.read(_BLOCK))
    except FileNotFoundError:
        raise UnreadableVideo(f"{path}: no such video; check the video root and the file name") from None
    except OSError as error:
        raise UnreadableVideo(
            f"{path}: cannot be read ({error.strerror or error}); fetch it again or drop it"
        ) from error
    return digest.hexdigest()[:32]
