"""The stock processor of a checkpoint: what turns image and prompt into model input outside this project.

Its image processor makes the very pixels that the checkpoint's frame describes, or boxes would be off
elsewhere:

    stretch   CLIPImageProcessor, size {height, width}, no centre crop
    crop      CLIPImageProcessor, size {shortest_edge}, centre crop (CLIP's own)
    pad       LlavaImageProcessor, padded to a square with the mean colour, then resized
"""

from typing import Any

from transformers import (
    CLIPImageProcessorPil,
    LlavaImageProcessorPil,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)

from locvlm.constants import IMAGE_TOKEN
from locvlm.spec import VisionSpec


def build_processor(
    tokenizer: PreTrainedTokenizerBase, spec: VisionSpec, frame: str, chat_template: str | None
) -> LlavaProcessor:
    """A `LlavaProcessor` for the tower's sizes and the frame; Pillow's pixels, not torchvision's."""
    return LlavaProcessor(
        image_processor=build_image_processor(spec, frame), tokenizer=tokenizer, chat_template=chat_template,
        **processor_settings(spec),
    )  # fmt: skip


def processor_settings(spec: VisionSpec) -> dict[str, Any]:
    """The `LlavaProcessor` settings that give `spec.num_image_tokens` placeholders per image."""
    return {
        "patch_size": spec.patch,
        "vision_feature_select_strategy": "default",
        "image_token": IMAGE_TOKEN,
        "num_additional_image_tokens": 1,  # CLS, which "default" takes off again
    }


def build_image_processor(spec: VisionSpec, frame: str) -> CLIPImageProcessorPil | LlavaImageProcessorPil:
    """The stock image processor whose pixels follow the frame mode.

    Raises:
        ValueError: if the frame is not stretch, pad or crop.
    """
    square = {"height": spec.canvas, "width": spec.canvas}
    settings: dict[str, Any] = {
        "size": square,
        "crop_size": square,
        "do_center_crop": False,
        "image_mean": list(spec.image_mean),
        "image_std": list(spec.image_std),
    }
    if frame == "stretch":
        return CLIPImageProcessorPil(**settings)
    if frame == "crop":
        return CLIPImageProcessorPil(
            **{**settings, "size": {"shortest_edge": spec.canvas}, "do_center_crop": True}
        )
    if frame == "pad":
        return LlavaImageProcessorPil(**settings, do_pad=True)
    raise ValueError(f"the frame is one of stretch, pad, crop, got {frame!r}")
