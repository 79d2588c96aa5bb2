"""What the model is shown of a video: a fixed number of its frames, by the steps that its boxes' frame has.

A clip always gives `VisionSpec.num_frames` frames, whatever its length, so that its tokens can be counted
without opening the file. Frames go to the canvas one by one as they are decoded, and stay bytes until a batch
is made of them: 100 frames of 224 pixels are 15 MB, normalised 60 MB.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from locvlm.data.image import normalised_levels, on_canvas
from locvlm.data.video import UnreadableVideo, clip_indices, probe_video, read_frames
from locvlm.geometry import FrameMode, Size, plan_steps
from locvlm.spec import VisionSpec


class VideoSizeMismatch(UnreadableVideo):
    """A video whose upright size differs from what its record says."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The n frames of a clip on the canvas, not yet normalised."""

    levels: NDArray[np.uint8]  # (n, 3, canvas, canvas), 0..255
    vision: VisionSpec
    size: Size = (0, 0)  # (width, height) of the upright frames in the file

    def __len__(self) -> int:
        return len(self.levels)

    def normalised(self) -> NDArray[np.float32]:
        """(n, 3, canvas, canvas) as the tower takes them: what `prepare_image` gives for each frame."""
        pixels = np.empty(self.levels.shape, dtype=np.float32)
        self.normalise_into(pixels)
        return pixels

    def normalise_into(self, pixels: NDArray[np.float32]) -> None:
        """The same into an array that is there. Looked up instead of computed, bit for bit the same."""
        for channel, table in enumerate(normalised_levels(self.vision)):
            pixels[:, channel] = table[self.levels[:, channel]]


def read_clip(
    path: str | Path, num_frames: int, *, size: Size | None = None, threads: int = 0
) -> Iterator[Image.Image]:
    """The frames that stand for a video, upright, RGB, in order: `num_frames` of them.

    Args:
        size: (width, height) that the record says; None or (0, 0) if it says none.
        threads: of the decoder, see `read_frames`.

    Raises:
        UnreadableVideo: on the first frame, or at the one that cannot be decoded.
        VideoSizeMismatch: if the upright frame is of another size than `size`.
    """
    info = probe_video(path)
    require_size(path, info.size, size)
    for frame in read_frames(path, clip_indices(info, num_frames), info=info, threads=threads):
        yield frame.image


def clip_pixels(
    path: str | Path, *, mode: FrameMode, vision: VisionSpec, size: Size | None = None, threads: int = 1
) -> Frames:
    """The frames of a clip on the canvas of `vision`, `vision.num_frames` of them. Raises as `read_clip`."""
    levels = np.empty((vision.num_frames, 3, vision.canvas, vision.canvas), dtype=np.uint8)
    found: Size = (0, 0)
    for k, image in enumerate(read_clip(path, vision.num_frames, size=size, threads=threads)):
        found = image.size
        levels[k] = on_canvas(image, plan_steps(mode, found, vision.canvas), vision).transpose(2, 0, 1)
    return Frames(levels, vision, found)


def blank_frames(vision: VisionSpec) -> Frames:
    """Black frames in the place of a clip that cannot be read."""
    return Frames(np.zeros((vision.num_frames, 3, vision.canvas, vision.canvas), dtype=np.uint8), vision)


def require_size(path: str | Path, found: Size, expected: Size | None) -> None:
    """Nothing, if a video's upright frame has the size that its record says, or the record says none.

    Raises:
        VideoSizeMismatch: naming both.
    """
    if expected is None or tuple(expected) in ((0, 0), tuple(found)):
        return
    raise VideoSizeMismatch(
        f"{path}: its upright frames are of (width, height) {tuple(found)}, its record says "
        f"{tuple(expected)}, so its boxes would be off; use the videos that the annotations were made on, or "
        f"rebuild the records"
    )
