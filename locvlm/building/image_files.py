"""Which images have a file."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from locvlm.io import Ledger, resolve_inside
from locvlm.records import ImageAnnotation


def with_files(images: Iterable[ImageAnnotation], root: Path, ledger: Ledger) -> Iterator[ImageAnnotation]:
    """The images whose file is in the folder `root`; the others are counted as dropped.

    Raises:
        ValueError: for an image whose path leads out of `root`.
    """
    for image in images:
        if resolve_inside(root, image.image).is_file():
            ledger.keep()
            yield image
        else:
            ledger.drop(image.image_id, "no image file", image.image)
