"""A video's middle frame, as an image file is loaded: what models of images are shown of a video."""

from pathlib import Path

from PIL import Image

from locvlm.data.image import SizeMismatch, UnreadableImage
from locvlm.data.video import VIDEO_EXTENSIONS, UnreadableVideo, middle_frame
from locvlm.geometry import Size


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
        image = middle_frame(path if path.exists() else _with_another_ending(path))
    except UnreadableVideo as error:
        raise UnreadableImage(str(error)) from error
    if size is not None and image.size != tuple(size):
        raise SizeMismatch(
            f"{path}: got a video of (width, height) {image.size}, expected {tuple(size)} from its record, "
            f"whose boxes would be off; use the videos that the annotations were made on"
        )
    return image


def _with_another_ending(path: Path) -> Path:
    others = (path.with_suffix(f".{ending}") for ending in VIDEO_EXTENSIONS)
    return next((other for other in others if other.exists()), path)
