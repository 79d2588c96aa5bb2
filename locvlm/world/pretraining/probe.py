"""What the pretrained backbones can do, in numbers: the encoder on scenes it has not seen, the language model
on layouts it has not read.

`pretrain_world_backbones.py --parts probe` prints them. Features are those an adapter reads: patches of the
last layer but one.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from locvlm.coords.codec import build_codec
from locvlm.geometry import Box, iou
from locvlm.world.backbones import EOS, NUM_PIECES, VISION
from locvlm.world.pretraining.clip import encode_captions, pool_regions, region_features
from locvlm.world.pretraining.documents import NOTATIONS, Writer
from locvlm.world.pretraining.layout_tokens import LayoutEmbedder
from locvlm.world.pretraining.llm import embed_document
from locvlm.world.pretraining.views import StoredScene, Views, caption_tokens
from locvlm.world.shapes import CLASSES

Encode = Callable[[str], list[int]]
BATCH = 100  # scenes encoded together
RIDGE = 10.0  # of the linear probes, on standardised features


@dataclass(frozen=True, slots=True)
class SceneFeatures:
    """Of every thing in some scenes (R of them): its class, its box, and what the encoder says of it."""

    classes: torch.Tensor  # (R,) index into CLASSES
    boxes: torch.Tensor  # (R, 4) fractions of the scene
    centre: torch.Tensor  # (R, D) of the patch at the box's centre
    named: torch.Tensor  # (R,) class by contrast, from all patches of the box


@torch.no_grad()
def scene_features(clip: Any, scenes: Sequence[StoredScene], encode: Encode) -> SceneFeatures:
    """Encode the scenes and look up their things."""
    pixels = Views(scenes, encode, seed=0).whole_images(len(scenes))
    boxes = torch.tensor([thing.box for scene in scenes for thing in scene.things])
    image_of = torch.tensor([k for k, scene in enumerate(scenes) for _ in scene.things])
    grid = VISION.spec.grid
    column, row = (((boxes[:, k] + boxes[:, k + 2]) / 2 * grid).long() for k in (0, 1))
    read, last = [], []
    for part in pixels.split(BATCH):
        before, final, _ = region_features(clip.visual, part)
        read.append(before)
        last.append(final)
    pooled = pool_regions(torch.cat(last), image_of, boxes)
    phrases = encode_captions(clip, caption_tokens([f"a {name}" for name in CLASSES], encode))
    return SceneFeatures(
        classes=torch.tensor([CLASSES.index(t.category) for scene in scenes for t in scene.things]),
        boxes=boxes,
        centre=torch.cat(read)[image_of, row * grid + column],
        named=(pooled @ clip.visual.proj @ phrases.T).argmax(1),
    )


def probe_encoder(
    clip: Any, fit: Sequence[StoredScene], test: Sequence[StoredScene], encode: Encode
) -> dict[str, float]:
    """Shares of the test scenes' things, and the mean IoU.

    Args:
        fit: scenes that the linear probes are fitted on, by ridge regression.

    Returns:
        named (by contrast, from the box), linear_class, linear_box_acc50, linear_box_miou (from one patch).
    """
    clip.eval()
    known, asked = (scene_features(clip, scenes, encode) for scenes in (fit, test))
    mean, spread = known.centre.mean(0), known.centre.std(0)
    x, y = (F.pad((f.centre - mean) / spread, (0, 1), value=1.0) for f in (known, asked))
    targets = torch.cat([F.one_hot(known.classes, len(CLASSES)).float(), known.boxes], 1)
    predicted = y @ torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ targets)
    pairs = zip(predicted[:, -4:].tolist(), asked.boxes.tolist(), strict=True)
    overlaps = [iou(Box(*answered), Box(*true)) for answered, true in pairs]
    return {
        "named": _share((asked.named == asked.classes).tolist()),
        "linear_class": _share((predicted[:, :-4].argmax(1) == asked.classes).tolist()),
        "linear_box_acc50": _share([overlap >= 0.5 for overlap in overlaps]),
        "linear_box_miou": sum(overlaps) / len(overlaps),
    }


@torch.no_grad()
def probe_lookup(
    llm: Any,
    writer: Writer,
    embedder: LayoutEmbedder,
    decode: Callable[[list[int]], str],
    *,
    layout: Literal["list", "grid"],
    num_things: int,
    tries: int,
    seed: int = 0,
) -> float:
    """Share of layouts of `num_things` things in which the language model finds the one it is asked for.

    Found is a box with an IoU of at least 0.5, in a list in text or in a grid of layout tokens. About a grid
    it may answer in any notation that it has learned: nothing tells it which is wanted.
    """
    llm.eval()
    rng = random.Random(f"lookup/{layout}/{seed}/{num_things}")
    codecs = [build_codec(name, canvas=VISION.canvas, patch=VISION.spec.patch) for name in NOTATIONS]
    found = []
    for _ in range(tries):
        doc, thing = writer.lookup(rng, num_things, layout=layout)
        prompt = embed_document(llm, doc, embedder)
        mask = torch.ones(prompt.shape[:2], dtype=torch.long)
        out = llm.generate(
            inputs_embeds=prompt,
            attention_mask=mask,
            max_new_tokens=48,
            do_sample=False,
            suppress_tokens=list(range(NUM_PIECES, llm.config.vocab_size)),  # they stand for no piece
        )
        text = decode([token for token in out[0].tolist() if token != EOS])
        boxes = [box for codec in codecs if isinstance(box := codec.decode(text, "bbox"), Box)]
        found.append(any(iou(box, Box(*thing.box)) >= 0.5 for box in boxes))
    return _share(found)


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)
