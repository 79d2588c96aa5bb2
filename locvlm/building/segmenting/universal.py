"""Segments from transformers' universal segmentation models: Mask2Former, OneFormer, MaskFormer.

Two things are done here and not left to the processors. Pictures are batched only with those of the same
processed size: in a padded batch every mask moves, since post-processing stretches the padded area to the
image. And stuff is put together here: their fusing gives a later segment the id of an earlier one, so that
both get one box (`compute_segments` goes on counting from the id that it fused with).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation, AutoProcessor

from locvlm.annotations.coco_classes import COCO_CLASSES
from locvlm.annotations.panoptic import Extent, class_labels, measure_segments
from locvlm.building.segmenting.segment import (
    UNREADABLE_IMAGE,
    Category,
    Picture,
    Segment,
    Segmented,
    to_source,
)
from locvlm.data.image import UnreadableImage
from locvlm.geometry import Box, Resize, Size

logger = logging.getLogger(__name__)

_CHUNK_BATCHES = 4  # batches' worth of pictures that are in memory, to be grouped by size


class _Prepared(NamedTuple):
    """A picture as the model takes it."""

    place: int  # among the pictures of its chunk
    size: Size  # (width, height) of the image
    inputs: dict[str, torch.Tensor]  # each with a leading axis of 1


class UniversalSegmenter:
    """The segmenter that asks a universal segmentation model for panoptic segments."""

    def __init__(
        self,
        checkpoint: str,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 8,
        threshold: float = 0.8,
        things: Sequence[str] = (),
    ) -> None:
        """Load the model.

        Args:
            checkpoint: folder or name of a checkpoint.
            threshold: least probability of a segment's class; Mask2Former and OneFormer report with 0.8.
            things: names of the countable classes, where the checkpoint is not of COCO and does not say.

        Raises:
            ValueError: if it is not known which of its classes are countable.
        """
        self._model: Any = AutoModelForUniversalSegmentation.from_pretrained(checkpoint, dtype=dtype)
        self._model.to(device).eval()
        self._takes_task = self._model.config.model_type == "oneformer"
        loader: Any = AutoProcessor if self._takes_task else AutoImageProcessor
        # Pillow's arithmetic is the same on every machine
        self._processor = loader.from_pretrained(checkpoint, backend="pil")
        self._batch_size, self._threshold = batch_size, threshold
        labels_by_id: dict[int, str] = dict(sorted(self._model.config.id2label.items()))
        metadata = getattr(self._image_processor, "metadata", None) or {}
        is_thing = thing_ids(labels_by_id, given=things, listed=metadata.get("thing_ids", ()), of=checkpoint)
        spoken = class_labels(labels_by_id.values())
        self._categories = {k: Category(spoken[name], k in is_thing) for k, name in labels_by_id.items()}

    @property
    def categories(self) -> Sequence[Category]:
        """As the checkpoint's config lists them."""
        return tuple(self._categories.values())

    def segment(self, pictures: Iterable[Picture]) -> Iterator[Segmented]:
        """Boxes around the masks that the model finds."""
        remaining = iter(pictures)
        while chunk := list(islice(remaining, self._batch_size * _CHUNK_BATCHES)):
            yield from self._segment_chunk(chunk)

    def _segment_chunk(self, chunk: Sequence[Picture]) -> list[Segmented]:
        answers: list[Segmented | None] = [None] * len(chunk)
        groups: dict[tuple[int, ...], list[_Prepared]] = {}
        for place, picture in enumerate(chunk):
            try:
                image = picture.load()
            except UnreadableImage as error:
                answers[place] = Segmented(failed=UNREADABLE_IMAGE, detail=str(error))
                continue
            prepared = _Prepared(place, image.size, self._prepare(image))
            groups.setdefault(tuple(prepared.inputs["pixel_values"].shape), []).append(prepared)
        for group in groups.values():
            for start in range(0, len(group), self._batch_size):
                batch = group[start : start + self._batch_size]
                for prepared, answer in zip(batch, self._ask(batch), strict=True):
                    answers[prepared.place] = answer
        assert None not in answers
        return [answer for answer in answers if answer is not None]

    def _prepare(self, image: Image.Image) -> dict[str, torch.Tensor]:
        task = {"task_inputs": ["panoptic"]} if self._takes_task else {}
        inputs = dict(self._processor(images=[image], return_tensors="pt", **task))
        inputs.pop("pixel_mask", None)  # all ones: nothing is padded
        return inputs

    @torch.inference_mode()
    def _ask(self, batch: Sequence[_Prepared]) -> Iterator[Segmented]:
        inputs = {name: torch.cat([p.inputs[name] for p in batch]) for name in batch[0].inputs}
        inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        outputs = self._model(**{name: tensor.to(self._model.device) for name, tensor in inputs.items()})
        for name in ("class_queries_logits", "masks_queries_logits"):
            outputs[name] = outputs[name].float()
        # masks are no finer than what the model saw; at a large photograph's size they would fill the memory
        seen = tuple(inputs["pixel_values"].shape[-2:])
        targets = [min((p.size[1], p.size[0]), seen, key=lambda hw: hw[0] * hw[1]) for p in batch]
        found = self._image_processor.post_process_panoptic_segmentation(
            outputs, threshold=self._threshold, label_ids_to_fuse=set(), target_sizes=targets
        )
        for prepared, result in zip(batch, found, strict=True):
            yield self._read(prepared.size, result)

    def _read(self, size: Size, result: dict[str, Any]) -> Segmented:
        id_map = result["segmentation"].cpu().numpy()
        extents = measure_segments(np.where(id_map > 0, id_map, 0).astype(np.uint32))
        height, width = id_map.shape
        frame = Resize(width, height).frame(size)
        by_class: dict[int, list[Extent]] = {}
        for info in result["segments_info"]:
            if info["id"] in extents:
                by_class.setdefault(info["label_id"], []).append(extents[info["id"]])
        segments = [
            to_source(
                Segment(
                    category=self._categories[label].label,
                    is_thing=self._categories[label].is_thing,
                    box_px=extent.box,
                    area_px=extent.area,
                ),
                frame,
            )
            for label, parts in by_class.items()
            for extent in (parts if self._categories[label].is_thing else [_union(parts)])
        ]
        return Segmented(size=size, segments=tuple(segments))

    @property
    def _image_processor(self) -> Any:
        return self._processor.image_processor if self._takes_task else self._processor


def thing_ids(
    labels: dict[int, str], *, given: Sequence[str], listed: Iterable[int], of: str
) -> frozenset[int]:
    """Which class ids are countable: those `given` by name, else COCO's where all of them are there, else
    those that the processor has `listed`.

    Raises:
        ValueError: if none of the three says, or a given name is not a class.
    """
    ids = {name: k for k, name in labels.items()}
    if unknown := [name for name in given if name not in ids]:
        raise ValueError(f"{of} has no class {unknown[0]!r}; its classes are {', '.join(ids)}")
    if given:
        return frozenset(ids[name] for name in given)
    if all(name in ids for name in COCO_CLASSES):
        return frozenset(ids[name] for name in COCO_CLASSES)
    if found := frozenset(listed) & labels.keys():
        return found
    raise ValueError(
        f"{of} does not say which of its {len(labels)} classes are countable things; name them with --things"
    )


def _union(parts: Sequence[Extent]) -> Extent:
    """All parts of a class of stuff as one segment."""
    x1, y1, x2, y2 = zip(*(part.box for part in parts), strict=True)
    return Extent(sum(part.area for part in parts), Box(min(x1), min(y1), max(x2), max(y2)))
