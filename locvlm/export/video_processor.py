"""The processor of an export for videos: a clip's path or frames and a prompt -> what its model takes.

    import locvlm.export.video_processor  # transformers knows class and processor from here on
    processor = AutoProcessor.from_pretrained("my-locvlm-vid-7b")
    model = AutoModelForImageTextToText.from_pretrained("my-locvlm-vid-7b")
    content = [{"type": "video", "path": "clip.mp4"}, {"type": "text", "text": "What happens?"}]
    inputs = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=True,
                                           add_generation_prompt=True)
    model.generate(**inputs)

Of a file, the frames are taken that training takes, upright. Images go the ways of the stock processor.
"""

# n frames of a clip, N images and frames of all texts

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, BatchFeature, LlavaProcessor
from transformers.image_utils import load_image

from locvlm.constants import IMAGE_TOKEN, VIDEO_TOKEN
from locvlm.data.clips import read_clip
from locvlm.data.image import prepare_image
from locvlm.geometry import FrameMode, plan_steps
from locvlm.model.registered import LocVLMVideoConfig
from locvlm.spec import VisionSpec

ClipInput = str | Path | Sequence[Image.Image]  # a file, or frames in order, any number of them

_PLACEHOLDER = re.compile(f"{re.escape(IMAGE_TOKEN)}|{re.escape(VIDEO_TOKEN)}")
_PLACES = ("path", "url", "video", "image")  # where a part of a message may name what it shows


class LocVLMVideoProcessor(LlavaProcessor):
    """`LlavaProcessor` that also takes `videos`; `<video>` in a text stands for one.

    Args:
        num_frames: that a clip is shown by.
        num_video_tokens: placeholders of a clip.
        frame: how a picture gets to the canvas: the coordinate contract's.
    """

    def __init__(  # noqa: PLR0913  (the library reads their names)
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        patch_size: int | None = None,
        vision_feature_select_strategy: str | None = None,
        chat_template: str | None = None,
        image_token: str = IMAGE_TOKEN,
        num_additional_image_tokens: int = 0,
        num_frames: int = 0,
        num_video_tokens: int = 0,
        frame: FrameMode = "stretch",
        **kwargs: Any,
    ) -> None:
        self.num_frames = num_frames
        self.num_video_tokens = num_video_tokens
        self.frame = frame
        super().__init__(
            image_processor, tokenizer, patch_size, vision_feature_select_strategy, chat_template,
            image_token, num_additional_image_tokens, **kwargs,
        )  # fmt: skip

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: ClipInput | Sequence[ClipInput] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model input: input_ids, attention_mask, pixel_values (N, 3, H, W), frames_per_visual (V,).

        Args:
            images: in the order of the `<image>` of all texts.
            videos: one clip, or several in the order of the `<video>` of all texts.
            kwargs: of the tokenizer, such as `padding`.

        Raises:
            ValueError: if there are more or fewer clips or images than placeholders.
            UnreadableVideo: for a file that is missing or broken.
        """
        if videos is None or text is None:
            return super().__call__(images=images, text=text, **kwargs)
        texts = [text] if isinstance(text, str) else list(text)
        clips, stills = iter(_clips(videos)), iter(_images(images))
        pixels: list[torch.Tensor] = []
        frames_per_visual: list[int] = []
        for placeholder in _PLACEHOLDER.findall("".join(texts)):
            is_clip = placeholder == VIDEO_TOKEN
            shown = next(clips if is_clip else stills, None)
            if shown is None:
                raise ValueError(
                    f"the texts have more {placeholder} than there are to show; give one for each"
                )
            if is_clip:
                pixels.append(self._pixels(self.frames_of(shown)))
            else:
                pixels.append(self.image_processor(shown, return_tensors="pt")["pixel_values"])
            frames_per_visual.append(self.num_frames if is_clip else 0)
        if (num_left := len([*clips, *stills])) > 0:
            raise ValueError(
                f"{num_left} images or clips are left over: write {VIDEO_TOKEN} in a text for each clip and "
                f"{IMAGE_TOKEN} for each image, before the question"
            )
        kwargs = {"padding": len(texts) > 1, "return_tensors": "pt", **kwargs}
        tokens = self.tokenizer([_PLACEHOLDER.sub(self._written_out, t) for t in texts], **kwargs)
        visuals = {"pixel_values": torch.cat(pixels), "frames_per_visual": torch.tensor(frames_per_visual)}
        return BatchFeature({**tokens, **(visuals if pixels else {})})

    def apply_chat_template(  # type: ignore[override]
        self, conversation: Any, chat_template: str | None = None, **kwargs: Any
    ) -> Any:
        """As the stock method; with `tokenize=True` clips are read from where their parts say, by
        `__call__`."""
        shown = list(_parts(conversation))
        if not kwargs.get("tokenize") or all(kind == "image" for kind, _ in shown):
            return super().apply_chat_template(conversation, chat_template, **kwargs)
        for name in ("tokenize", "return_dict", "return_tensors"):
            kwargs.pop(name, None)
        text = super().apply_chat_template(conversation, chat_template, **kwargs)
        images = [load_image(part) for kind, part in shown if kind == "image"]
        return self(images=images, text=text, videos=[part for kind, part in shown if kind == "video"])

    def frames_of(self, clip: ClipInput) -> list[Image.Image]:
        """The n frames that stand for a clip; of given ones, those in the middle of n equal parts."""
        if isinstance(clip, str | Path):
            return list(read_clip(clip, self.num_frames))
        frames = list(clip)
        if not frames:
            raise ValueError("a clip has no frames; give its path, or at least one frame")
        return [
            frames[(2 * k + 1) * len(frames) // (2 * self.num_frames)].convert("RGB")
            for k in range(self.num_frames)
        ]

    def _pixels(self, frames: Sequence[Image.Image]) -> torch.Tensor:
        """(n, 3, canvas, canvas), the very ones of training: stock resizing may be one level of 255 off."""
        stock = self.image_processor
        canvas = int(stock.crop_size["height"])
        mean, std = tuple(stock.image_mean), tuple(stock.image_std)
        vision = VisionSpec(canvas=canvas, patch=int(self.patch_size), image_mean=mean, image_std=std)
        steps = [plan_steps(self.frame, frame.size, canvas) for frame in frames]
        prepared = [prepare_image(frame, s, vision) for frame, s in zip(frames, steps, strict=True)]
        return torch.from_numpy(np.stack(prepared))

    def _written_out(self, placeholder: re.Match[str]) -> str:
        num_patches = (self.image_processor.crop_size["height"] // self.patch_size) ** 2
        return IMAGE_TOKEN * (self.num_video_tokens if placeholder[0] == VIDEO_TOKEN else num_patches)


def _images(images: Any) -> list[Any]:
    if images is None:
        return []
    return [images] if isinstance(images, Image.Image) else list(images)


def _clips(videos: Any) -> list[Any]:
    """One clip is a path, or a sequence of frames; anything else is a sequence of clips."""
    is_one = isinstance(videos, str | Path) or (
        len(videos) > 0 and all(isinstance(item, Image.Image) for item in videos)
    )
    return [videos] if is_one else list(videos)


def _parts(conversation: Any) -> Iterator[tuple[str, Any]]:
    """("image" or "video", what is to be shown) of all parts of one or several conversations, in order."""
    for message in conversation:
        if isinstance(message, list | tuple):
            yield from _parts(message)
            continue
        content = message["content"]
        for part in content if not isinstance(content, str) else ():
            if part["type"] in ("image", "video"):
                yield part["type"], next((part[place] for place in _PLACES if place in part), None)


AutoProcessor.register(LocVLMVideoConfig, LocVLMVideoProcessor, exist_ok=True)
