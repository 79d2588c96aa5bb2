"""README.md of an exported folder: what the model's coordinates mean, and how to ask it."""

from pathlib import Path
from typing import Any

from locvlm.geometry import Box
from locvlm.model.locvlm import LocVLM

_CODECS = {
    "ivb": "integers from 0 to {canvas}, of the image side",
    "nfp": "fractions of the image side with four decimals",
    "diga": "the patch that holds the centre (column, row), then pixel deviations from its middle",
    "shikra": "fractions of the image side with three decimals",
    "llava": "fractions of the image side with two decimals",
    "thousand": "integers from 0 to 1000, of the image side",
    "kosmos2": "the patches of a 32 x 32 grid, numbered row by row, that hold its first and its last corner",
}
_FRAMES = {
    "stretch": "the whole image, stretched to a square",
    "pad": "the image padded to a square with the mean colour, centred",
    "crop": "the central square of the image",
}
_TEMPLATE = """\
---
library_name: transformers
pipeline_tag: {pipeline_tag}
tags: [locvlm, llava, grounding]
---

# {name}

A vision-language model that says where things are, in plain text. {made_as}

## Coordinates

| | |
|---|---|
| location | `{representation}` |
| codec | `{codec}`: {codec_meaning} |
| frame | `{frame}`: {frame_meaning} |
| canvas | {canvas} x {canvas} pixels, patches of {patch} |
| conversation | `{conversation}` |

The numbers speak of the frame, not of the original image: undo the frame to get pixels of the original. The
same facts are in `config.json` under `locvlm`; with LocVLM installed,
`CoordinateContract.from_dict(config.locvlm["contract"])` reads and writes them.

## Use

{use}
It was trained to answer `It is located at {example}`, or `There is no such object in the image`; to
`Describe the object located at {example}?` it answers `There is a ...`.
"""
_MADE_AS_STOCK = """Made with LocVLM; a stock
`LlavaForConditionalGeneration`, so no code of ours is needed to run it."""
_MADE_OF_VIDEO = """Made with LocVLM; a stock
`LlavaForConditionalGeneration`, so no code of ours is needed to run it. **As such it sees images alone**: the
model was trained on videos too, whose frames no stock class pools. LocVLM's
`scripts/export_hf.py --class video` makes the export that sees them."""
_MADE_FOR_VIDEO = """Made with LocVLM; its class,
`LocVLMVideo`, is part of the package `locvlm`, and no code travels with the weights. It sees images and
videos.

## Videos

| | |
|---|---|
| frames | {num_frames}, from the middles of as many equal parts of the video |
| temporal tokens | {num_temporal}: the mean of each frame's patches{filled} |
| spatial tokens | {num_spatial}: the mean of each patch over the frames |
| order | {order} |

Without locvlm nothing loads the folder: `model_type` is `locvlm_video`. The names of the weights are those of
published LLaVA checkpoints."""
_USE_STOCK = """\
```python
from transformers import pipeline

ask = pipeline("image-text-to-text", model="{name}")
question = "Where is the object described dog located in image in terms of {representation}?"
content = [{{"type": "image", "url": "photo.jpg"}}, {{"type": "text", "text": question}}]
messages = [{{"role": "user", "content": content}}]
print(ask(text=messages, max_new_tokens=64, return_full_text=False)[0]["generated_text"])
```
"""
_USE_VIDEO = """\
```python
from pathlib import Path

from locvlm.answering.answerer import Asked, Decoding
from locvlm.answering.locvlm import load_answerer
from locvlm.data.clips import read_clip

answerer = load_answerer(Path("{name}"))
question = "Where is the object described dog located in image in terms of {representation}?"
frames = tuple(read_clip("clip.mp4", answerer.num_frames))
print(answerer.answer([Asked(image=None, frames=frames, questions=[question])], Decoding()))
```

Or by transformers' own ways:

```python
import locvlm.export.video_processor  # transformers knows class and processor from here on
from transformers import AutoModelForImageTextToText, AutoProcessor

processor = AutoProcessor.from_pretrained("{name}")
model = AutoModelForImageTextToText.from_pretrained("{name}")
content = [dict(type="video", path="clip.mp4"), dict(type="text", text=question)]
messages = [dict(role="user", content=content)]
inputs = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
answer = model.generate(**inputs, max_new_tokens=64)
print(processor.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

The model itself takes pixels (frames, 3, {canvas}, {canvas}), `frames_per_visual` ({num_frames} for such a
video, 0 for an image), and `<image>` written out {num_tokens} times for a video, {num_spatial} times for an
image.
`import locvlm.model.registered` makes transformers know the class alone.
"""


def write_model_card(
    folder: Path, model: LocVLM, conversation: str, *, name: str, is_video: bool = False
) -> None:
    """Write README.md for the model's coordinate contract, and the class that it is exported for."""
    contract = model.contract
    frame = contract.frame_for((100, 100))
    side = frame.source_size[0]
    example = contract.write(Box(0.02 * side, 0.23 * side, 0.06 * side, 0.28 * side), frame)
    facts = {
        "name": name,
        "representation": contract.representation,
        "codec": contract.codec,
        "codec_meaning": _CODECS.get(contract.codec, "see LocVLM").format(canvas=contract.canvas),
        "frame": contract.frame,
        "frame_meaning": _FRAMES[contract.frame],
        "canvas": contract.canvas,
        "patch": contract.patch,
        "conversation": conversation,
        "example": example,
        **_video_facts(model),
    }
    made_as = _MADE_AS_STOCK if model.video is None else _MADE_OF_VIDEO
    card = _TEMPLATE.format(
        **facts,
        pipeline_tag="video-text-to-text" if is_video else "image-text-to-text",
        made_as=(_MADE_FOR_VIDEO if is_video else made_as).format(**facts),
        use=(_USE_VIDEO if is_video else _USE_STOCK).format(**facts),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _video_facts(model: LocVLM) -> dict[str, Any]:
    """How the model sees videos, for the card; nothing for a model of images."""
    video, spec = model.video, model.spec
    if video is None:
        return {}
    filled = "" if video.pad_frames is None else f", filled up with zeros to {video.pad_frames}"
    return {
        "num_frames": video.num_frames,
        "num_tokens": spec.num_video_tokens,
        "num_temporal": spec.num_video_tokens - spec.num_image_tokens,
        "num_spatial": spec.num_image_tokens,
        "filled": filled,
        "order": ", then ".join(video.order.split("_")),
    }
