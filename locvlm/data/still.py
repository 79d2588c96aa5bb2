"""Videos, loaded as image files are: the middle frame, for models of images, or the frames for the whole."""

from pathlib import Path

from PIL import Image

from locvlm.data.clips import VideoSizeMismatch, read_clip
from locvlm.data.image import SizeMismatch, UnreadableImage
from locvlm.data.video import VIDEO_EXTENSIONS, UnreadableVideo, middle_frame
from locvlm.geometry import Size


def find_video(path: Path) -> Path:
    """The file itself, or where there is none, one of the same name with another ending of a video."""
    if path.exists():
        return path
    others = (path.with_suffix(f".{ending}") for ending in VIDEO_EXTENSIONS)
    return next((other for other in others if other.exists()), path)


def load_middle_frame(path: str | Path, size: Size | None = None) -> Image.Image:
    """The middle frame, upright, RGB.

    Annotations name videos without saying what kind of file they are: where `path` is not there, one of the
    same name with another ending of a video is taken.

    Args:
        size: (width, height) that the record says, None if it says none.

    Raises:
        UnreadableImage: no such video, or one that is broken.
        SizeMismatch: another size than `size`.
    """
    path = Path(path)
    try:
        image = middle_frame(find_video(path))
    except UnreadableVideo as error:
        raise UnreadableImage(str(error)) from error
    if size is not None and image.size != tuple(size):
        raise SizeMismatch(
            f"{path}: got a video of (width, height) {image.size}, expected {tuple(size)} from its record, "
            f"whose boxes would be off; use the videos that the annotations were made on"
        )
    return image


def load_clip(path: str | Path, num_frames: int, size: Size | None = None) -> tuple[Image.Image, ...]:
    """The frames that stand for a whole video, upright, RGB: `clips.read_clip` with `load_middle_frame`'s
    errors, and its other endings.

    Raises:
        UnreadableImage: no such video, or one that is broken.
        SizeMismatch: another size than `size`.
    """
    try:
        return tuple(read_clip(find_video(Path(path)), num_frames, size=size))
    except VideoSizeMismatch as error:
        raise SizeMismatch(str(error)) from error
    except UnreadableVideo as error:
        raise UnreadableImage(str(error)) from error
