"""README.md of an exported folder: what the model's coordinates mean, and how to ask it."""

from pathlib import Path

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
pipeline_tag: image-text-to-text
tags: [locvlm, llava, grounding]
---

# {name}

A vision-language model that says where things are, in plain text. Made with LocVLM; a stock
`LlavaForConditionalGeneration`, so no code of ours is needed to run it.

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

```python
from transformers import pipeline

ask = pipeline("image-text-to-text", model="{name}")
question = "Where is the object described dog located in image in terms of {representation}?"
content = [{{"type": "image", "url": "photo.jpg"}}, {{"type": "text", "text": question}}]
messages = [{{"role": "user", "content": content}}]
print(ask(text=messages, max_new_tokens=64, return_full_text=False)[0]["generated_text"])
```

It was trained to answer `It is located at {example}`, or `There is no such object in the image`; to
`Describe the object located at {example}?` it answers `There is a ...`.
"""


def write_model_card(folder: Path, model: LocVLM, conversation: str, *, name: str) -> None:
    """Write README.md for the model's coordinate contract."""
    contract = model.contract
    frame = contract.frame_for((100, 100))
    side = frame.source_size[0]
    example = contract.write(Box(0.02 * side, 0.23 * side, 0.06 * side, 0.28 * side), frame)
    card = _TEMPLATE.format(
        name=name,
        representation=contract.representation,
        codec=contract.codec,
        codec_meaning=_CODECS.get(contract.codec, "see LocVLM").format(canvas=contract.canvas),
        frame=contract.frame,
        frame_meaning=_FRAMES[contract.frame],
        canvas=contract.canvas,
        patch=contract.patch,
        conversation=conversation,
        example=example,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
