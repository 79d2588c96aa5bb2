"""What the pretrained backbones can do, in numbers: the encoder on scenes it has not seen, the language model on
listings it has not read.

`pretrain_world_backbones.py --parts probe` prints them. Features are those an adapter reads: patches of the last
layer but one.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from locvlm.geometry import Box, iou
from locvlm.world.backbones import VISION
from locvlm.world.pretrain import encode_captions, pool_regions, region_features
from locvlm.world.shapes import CLASSES
from locvlm.world.text import Dialogue, listing, random_things, where_is
from locvlm.world.views import StoredScene, Views, caption_tokens

Encode = Callable[[str], list[int]]
BATCH = 100  # scenes encoded together
RIDGE = 10.0  # of the linear probes, on standardised features


class SceneFeatures:
    """Of every thing in some scenes: its class, its box, and what the encoder says of it."""

    @torch.no_grad()
    def __init__(self, clip: Any, scenes: Sequence[StoredScene], encode: Encode) -> None:
        pixels = Views(scenes, encode, seed=0).whole_images(len(scenes))
        self.boxes = torch.tensor(
            [thing.box for scene in scenes for thing in scene.things]
        )  # (R, 4) fractions
        self.classes = torch.tensor([CLASSES.index(t.category) for s in scenes for t in s.things])  # (R,)
        image_of = torch.tensor([k for k, scene in enumerate(scenes) for _ in scene.things])
        grid = VISION.spec.grid
        column, row = (((self.boxes[:, k] + self.boxes[:, k + 2]) / 2 * grid).long() for k in (0, 1))
        read, last = [], []
        for part in pixels.split(BATCH):
            before, final, _ = region_features(clip.visual, part)
            read.append(before)
            last.append(final)
        self.centre = torch.cat(read)[image_of, row * grid + column]  # (R, D) of the patch at a box's centre
        pooled = pool_regions(torch.cat(last), image_of, self.boxes)
        phrases = encode_captions(clip, caption_tokens([f"a {name}" for name in CLASSES], encode))
        self.named = (pooled @ clip.visual.proj @ phrases.T).argmax(1)  # (R,) class by contrast


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
    known, asked = SceneFeatures(clip, fit, encode), SceneFeatures(clip, test, encode)
    mean, spread = known.centre.mean(0), known.centre.std(0)
    x, y = (F.pad((f.centre - mean) / spread, (0, 1), value=1.0) for f in (known, asked))
    targets = torch.cat([F.one_hot(known.classes, len(CLASSES)).float(), known.boxes], 1)
    said = y @ torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1]), x.T @ targets)
    pairs = zip(said[:, -4:].tolist(), asked.boxes.tolist(), strict=True)
    overlaps = [iou(Box(*answered), Box(*true)) for answered, true in pairs]
    return {
        "named": _share((asked.named == asked.classes).tolist()),
        "linear_class": _share((said[:, :-4].argmax(1) == asked.classes).tolist()),
        "linear_box_acc50": _share([overlap >= 0.5 for overlap in overlaps]),
        "linear_box_miou": sum(overlaps) / len(overlaps),
    }


@torch.no_grad()
def probe_lookup(
    llm: Any,
    encode: Encode,
    decode: Callable[[list[int]], str],
    talk: Dialogue,
    *,
    num_things: int,
    tries: int,
    seed: int = 0,
) -> float:
    """Share of listings of `num_things` things from which the language model reads the box it is asked for."""
    llm.eval()
    rng, size = random.Random(f"lookup/{seed}/{num_things}"), VISION.canvas
    right = []
    for _ in range(tries):
        things = random_things(rng, (num_things,))
        question, answer = where_is(rng, rng.choice(things), size, talk)
        text = talk.frame.format(question=f"{listing(rng, things, size)}\n{question}").rstrip()
        ids = torch.tensor([[llm.config.bos_token_id, *encode(text)]])
        out = llm.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False
        )
        said = [token for token in out[0, ids.shape[1] :].tolist() if token != llm.config.eos_token_id]
        right.append(decode(said).strip() == answer)
    return _share(right)


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)
