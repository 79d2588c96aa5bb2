"""Faces of one frame, blurred in its neighbours too: a face that is missed for a moment must not be shown."""

from collections.abc import Sequence

from locvlm.building.faces.detect import Face
from locvlm.geometry import Box


def spread_faces(faces: Sequence[Sequence[Face]], *, reach: int) -> list[list[Box]]:
    """For every frame the boxes, in pixels, of its own faces and of `reach` frames on either side."""
    return [
        [face.box_px for near in faces[max(0, k - reach) : k + reach + 1] for face in near]
        for k in range(len(faces))
    ]
