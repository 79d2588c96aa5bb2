"""Does an exported folder give what its checkpoint gives? Stock classes on one side, ours on the other.

A folder for videos is loaded by the class that it names, ours, as its users load it: through AutoModel.
"""

# S tokens, V vocabulary, n frames

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedTokenizerBase

from locvlm.data.image import prepare_image
from locvlm.data.prompt import render_question
from locvlm.data.tokenize import tokenize_prompts
from locvlm.geometry import plan_steps
from locvlm.model.locvlm import LocVLM

QUESTION = "Where is the object described dog located in image in terms of (x1,y1,x2,y2) bbox?"
_IMAGE_SIZE = (150, 100)  # width, height: not square, so that stretch, pad and crop differ
_MAX_PIXEL_LEVELS = 3  # of 255; torchvision's resize, which stock code prefers, is 1 off Pillow's
_MAX_LOGIT_DIFFERENCE = 1e-4  # of the largest logit; equal on a quiet machine, whatever the precision


def compare_with_export(
    model: LocVLM, tokenizer: PreTrainedTokenizerBase, conversation: str, folder: Path
) -> None:
    """Nothing, if token ids, pixels and logits of the exported folder are those of the checkpoint.

    Raises:
        ValueError: naming what differs, and by how much.
    """
    processor = AutoProcessor.from_pretrained(folder)
    image = _test_image()
    # `plain` has no questions: its prompt is the image alone
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(images=image, text=text, return_tensors="pt")
    _require_same_ids(inputs["input_ids"][0].tolist(), model, tokenizer, conversation)
    pixels = _require_same_pixels(inputs["pixel_values"], model, image)
    _require_same_logits(model, folder, {"input_ids": inputs["input_ids"], "pixel_values": pixels})


def compare_videos(
    model: LocVLM, tokenizer: PreTrainedTokenizerBase, conversation: str, folder: Path
) -> None:
    """Nothing, if the exported folder gives the checkpoint's ids and logits for a question about a video.

    Raises:
        ValueError: naming what differs, and by how much.
    """
    import locvlm.export.video_processor  # noqa: F401  (as users of the folder have to)

    spec = model.spec
    text = render_question(QUESTION, conversation, True)
    ids = tokenize_prompts([text], tokenizer, spec.num_video_tokens)
    clip = [_test_image(seed) for seed in range(spec.num_frames)]
    content = [{"type": "video", "video": clip}, {"type": "text", "text": QUESTION}]
    processed = AutoProcessor.from_pretrained(folder).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True
    )
    if processed["input_ids"].tolist() != ids or processed["frames_per_visual"].tolist() != [len(clip)]:
        raise ValueError(
            f"the exported processor gives other token ids for a video than training: "
            f"{processed['input_ids'].shape[1]}, not {len(ids[0])}; nothing was written"
        )
    steps = plan_steps(model.contract.frame, _IMAGE_SIZE, spec.canvas)
    frames = [prepare_image(frame, steps, spec) for frame in clip]
    video = {
        "pixel_values": torch.from_numpy(np.stack(frames)).to(model.dtype),  # (n, 3, canvas, canvas)
        "frames_per_visual": torch.tensor([spec.num_frames]),
    }
    _require_same_logits(model, folder, {"input_ids": torch.tensor(ids), **video})


@torch.inference_mode()
def _require_same_logits(model: LocVLM, folder: Path, inputs: dict[str, torch.Tensor]) -> None:
    expected = model(**inputs).logits  # (1, S, V)
    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=model.dtype, output_loading_info=True
    )
    exported, info = loaded
    problems = {kind: sorted(info[kind])[:4] for kind in ("missing_keys", "unexpected_keys") if info[kind]}
    if problems:
        raise ValueError(f"the export does not load whole: {problems}")
    got = exported.eval()(**inputs).logits
    difference = float((got - expected).abs().max() / expected.abs().max())
    del loaded, exported
    gc.collect()  # a second copy of the model is in memory until here
    if not difference <= _MAX_LOGIT_DIFFERENCE:
        raise ValueError(
            f"the export's logits differ from the checkpoint's by {difference:.1e} of the largest, expected "
            f"at most {_MAX_LOGIT_DIFFERENCE:.0e}; nothing was written"
        )


def _test_image(seed: int = 0) -> Image.Image:
    """Smooth random colours: what two resizers may draw one level apart, but a wrong frame shows at once."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(_IMAGE_SIZE, Image.Resampling.BICUBIC)


def _require_same_ids(
    got: list[int], model: LocVLM, tokenizer: PreTrainedTokenizerBase, conversation: str
) -> None:
    text = render_question(QUESTION, conversation, True)
    (expected,) = tokenize_prompts([text], tokenizer, model.spec.num_image_tokens)
    if got != expected:
        where = next((i for i, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]), -1)
        raise ValueError(
            f"the exported processor gives other token ids than training: {len(got)}, not {len(expected)}, "
            f"the first difference at {where}; nothing was written"
        )


def _require_same_pixels(got: torch.Tensor, model: LocVLM, image: Image.Image) -> torch.Tensor:
    """Our pixels for the image (1, 3, canvas, canvas), if the processor's agree with them."""
    spec = model.spec
    steps = plan_steps(model.contract.frame, image.size, spec.canvas)
    expected = torch.from_numpy(prepare_image(image, steps, spec))[None]
    if got.shape != expected.shape:
        raise ValueError(
            f"the exported processor makes pixels {tuple(got.shape)}, expected {tuple(expected.shape)}"
        )
    levels = (got - expected).abs().amax(dim=(0, 2, 3)) * torch.tensor(spec.image_std) * 255  # per channel
    if levels.max() > _MAX_PIXEL_LEVELS:
        raise ValueError(
            f"the exported processor's pixels are up to {levels.max():.0f} of 255 levels off those of the "
            f"{model.contract.frame!r} frame; nothing was written"
        )
    return expected.to(model.dtype)
