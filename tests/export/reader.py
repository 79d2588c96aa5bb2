"""Run in another environment: read an exported folder with stock classes, write what it gives.

python reader.py FOLDER IMAGE.npy OUT.npz
"""

# ruff: noqa: I001  (locvlm's torchvision remedy comes first; nothing else of ours reads the folder)

import sys

import locvlm  # noqa: F401
import numpy as np
import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline


folder, image_path, out = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
image = Image.fromarray(np.load(image_path))
content = [
    {"type": "image", "image": image},
    {"type": "text", "text": "Where is the dog at (0, 12, 345, 6)?"},
]
messages = [{"role": "user", "content": content}]
text = processor.apply_chat_template(messages, add_generation_prompt=True)
inputs = processor(images=image, text=text, return_tensors="pt")
with torch.inference_mode():
    side = model.config.vision_config.image_size
    same_pixels = torch.from_numpy(
        np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    )
    logits = model.eval()(**{**inputs, "pixel_values": same_pixels}).logits
ask = pipeline("image-text-to-text", model=folder, device="cpu")
answer = ask(text=messages, max_new_tokens=8, do_sample=False, return_full_text=False)[0]["generated_text"]
np.savez(
    out,
    version=transformers.__version__,
    missing=sorted(info["missing_keys"]) + sorted(info["unexpected_keys"]),
    ids=inputs["input_ids"].numpy(),
    pixels=inputs["pixel_values"].numpy(),
    logits=logits.numpy(),
    answer=answer,
)
