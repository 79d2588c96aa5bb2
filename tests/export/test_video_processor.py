"""A clip's path or frames go into an exported model as training shows them."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from locvlm.answering.answerer import Asked, Decoding
from locvlm.answering.locvlm import load_answerer
from locvlm.data.clips import read_clip
from locvlm.export.hf import export_hf
from locvlm.export.video_processor import LocVLMVideoProcessor

NUM_FRAMES = 5
QUESTION = "Where is the dog?"


@pytest.fixture(scope="module", params=["stretch", "crop", "pad"])
def exported(request, build_video_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("processor") / "tiny-locvlm-vid"
    export_hf(build_video_checkpoint(None, request.param), out)
    return out


@pytest.fixture(scope="module")
def clip(write_clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    frames = [np.full((40, 64, 3), 9 * t, dtype=np.uint8) for t in range(22)]
    for t, frame in enumerate(frames):
        frame[8:20, 2 * t : 2 * t + 16] = (250, 40, 40)
    write_clip(path, frames)
    return path


def message(*content):
    return [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}]


def ask(processor, *content):
    return processor.apply_chat_template(message(*content), tokenize=True, add_generation_prompt=True)


def test_a_path_gives_ids_pixels_and_the_answer_of_the_checkpoint(exported, clip):
    processor, answerer = AutoProcessor.from_pretrained(exported), load_answerer(exported)
    assert type(processor) is LocVLMVideoProcessor
    frames = tuple(read_clip(clip, NUM_FRAMES))
    inputs = ask(processor, {"type": "video", "path": str(clip)})
    assert inputs["frames_per_visual"].tolist() == [NUM_FRAMES]
    expected = torch.from_numpy(answerer.clip_pixels(frames))
    assert torch.equal(inputs["pixel_values"], expected)
    model = AutoModelForImageTextToText.from_pretrained(exported).eval()
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    said = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    asked = [Asked(image=None, frames=frames, questions=[QUESTION])]
    assert [[said]] == answerer.answer(asked, Decoding(max_new_tokens=12))


def test_frames_are_taken_at_the_middles_of_equal_parts(exported, clip):
    processor = AutoProcessor.from_pretrained(exported)
    by_path = ask(processor, {"type": "video", "path": clip})
    every = list(read_clip(clip, 22))
    by_frames = ask(processor, {"type": "video", "video": every})
    called = processor(text=f"<video>\n{QUESTION}", videos=every)
    assert torch.equal(by_frames["pixel_values"], by_path["pixel_values"])
    assert torch.equal(called["pixel_values"], by_path["pixel_values"])
    assert len(processor.frames_of(every[:2])) == NUM_FRAMES  # a short one repeats some


def test_images_and_clips_mix_in_the_order_of_the_text(exported, clip):
    processor = AutoProcessor.from_pretrained(exported)
    picture = Image.new("RGB", (50, 30), "red")
    mixed = ask(processor, {"type": "image", "image": picture}, {"type": "video", "path": str(clip)})
    alone = processor(images=picture, text="<image>\nx", return_tensors="pt")
    assert mixed["frames_per_visual"].tolist() == [0, NUM_FRAMES]
    assert torch.equal(mixed["pixel_values"][:1], alone["pixel_values"])
    num_placeholders = int((mixed["input_ids"] == processor.image_token_id).sum())
    assert num_placeholders == 4 + NUM_FRAMES + 4
    batch = processor(text=["<video>\nWhere?", "<video>\nWhat happens there?"], videos=[clip, str(clip)])
    assert batch["frames_per_visual"].tolist() == [NUM_FRAMES, NUM_FRAMES]
    assert batch["attention_mask"][0, 0] == 0  # padded to the left, as generation wants it


def test_what_does_not_fit_the_text_is_refused(exported, clip, tmp_path):
    processor = AutoProcessor.from_pretrained(exported)
    with pytest.raises(ValueError, match="more <video> than there are"):
        processor(text="<video><video>\nx", videos=clip)
    with pytest.raises(ValueError, match="1 images or clips are left over"):
        processor(text="<video>\nx", videos=[clip, clip])
    with pytest.raises(ValueError, match="no such video"):
        processor(text="<video>\nx", videos=str(tmp_path / "none.mp4"))
    with pytest.raises(ValueError, match="a clip has no frames"):
        processor(text="<video>\nx", videos=[[]])


def test_the_export_for_images_keeps_the_stock_processor(build_video_checkpoint, tmp_path):
    export_hf(build_video_checkpoint(), tmp_path / "stock", export_class="stock")
    processor = AutoProcessor.from_pretrained(tmp_path / "stock")
    assert type(processor).__name__ == "LlavaProcessor"
    assert "<video>" not in processor.chat_template
