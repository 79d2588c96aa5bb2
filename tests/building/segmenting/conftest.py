"""A tiny Mask2Former that was taught to find a bright rectangle, and panoptic files written by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from locvlm.geometry import Box

FINDER_LABELS = {0: "person", 1: "sky-other-merged"}  # the rectangle, and what is around it


def scene(width: int, height: int, box: Box, seed: int = 0) -> Image.Image:
    """A bright rectangle at `box` on dark noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(20, 50, (height, width, 3))
    pixels[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] += 180
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def finder(tmp_path_factory) -> Path:
    """The checkpoint: 64 pixels on the short side, trained for some seconds on rectangles of all sizes."""
    import torch
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessorPil,
    )

    torch.manual_seed(0)
    config = Mask2FormerConfig(
        backbone_config=tiny_swin(),
        **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32),
        **dict.fromkeys(("encoder_feedforward_dim", "dim_feedforward"), 32),
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=4,
        train_num_points=256,
        dropout=0.0,
        id2label=FINDER_LABELS,
        label2id={name: k for k, name in FINDER_LABELS.items()},
    )
    model = Mask2FormerForUniversalSegmentation(config).train()
    processor = Mask2FormerImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = np.random.default_rng(0)
    for step in range(45):
        boxes = [random_box(rng) for _ in range(4)]
        images = [scene(64, 64, box, seed=step) for box in boxes]
        masks = torch.zeros(4, 2, 64, 64)
        for mask, box in zip(masks, boxes, strict=True):
            x1, y1, x2, y2 = map(int, box)
            mask[0, y1:y2, x1:x2] = 1
            mask[1] = 1 - mask[0]
        loss = model(
            pixel_values=processor(images=images, return_tensors="pt")["pixel_values"],
            mask_labels=list(masks),
            class_labels=[torch.tensor([0, 1])] * 4,
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("finder")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def tiny_swin():
    from transformers import SwinConfig

    return SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def random_box(rng: np.random.Generator) -> Box:
    """Sides of 16 to 48 pixels in 64 x 64."""
    width, height = rng.integers(16, 49, 2)
    x, y = rng.integers(0, 65 - width), rng.integers(0, 65 - height)
    return Box(x, y, x + width, y + height)


def write_panoptic(json_path: Path, pngs: Path, images: dict[str, tuple], categories: list[dict]) -> Path:
    """Panoptic files of images: name -> ((width, height), array of ids, [(id, category_id), ...])."""
    entries, annotations = [], []
    for k, (name, (size, ids, segments)) in enumerate(images.items()):
        ids = np.asarray(ids)
        colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        png = f"{name}.png"
        (pngs / png).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors).save(pngs / png)
        entries.append({"id": k, "file_name": name, "width": size[0], "height": size[1]})
        infos = [{"id": i, "category_id": c, "iscrowd": 0} for i, c in segments]
        annotations.append({"image_id": k, "file_name": png, "segments_info": infos})
    content = {"images": entries, "annotations": annotations, "categories": categories}
    json_path.write_text(json.dumps(content))
    return json_path
