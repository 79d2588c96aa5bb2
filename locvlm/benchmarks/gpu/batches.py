"""Steps of random tokens and pixels, as long as real ones, packed by the code that packs real ones."""

import itertools
import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import LlavaConfig

from locvlm.data.collate import collate
from locvlm.data.packing import Mode, OverlongSampleError, PackingConfig, plan_step
from locvlm.data.tokenize import Branch, TokenizedSample
from locvlm.training.plan.shapes import StageName, shape_of

# (tokens of a branch, supervised among them), from least to most, of 1,920 branches that the builder of
# Localize-Instruct makes of COCO: vicuna_v1, LLaMA's tokenizer, codec IVB. A caption as LCS and CC3M have it.
_LOCPRED = ((52, 61), (20, 25))
_NEGPRED = ((40, 45), (9, 9))
_REVLOC = ((34, 43), (6, 8))
_CAPTION = ((10, 20), (10, 20))
_BRANCHES = {"stage1": (_CAPTION,), "stage2": (_LOCPRED, _NEGPRED, _REVLOC, _NEGPRED)}
_TEXT_BEFORE_IMAGE = {"stage1": 1, "stage2": 35}  # BOS; with vicuna_v1's system sentence
_FIRST_WORD_ID = 3  # after LLaMA's <unk>, <s> and </s>


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Images, each with as many pairs, that several steps can be made of."""

    samples: list[TokenizedSample]
    pixels: dict[int, NDArray[np.float32]]  # number of the sample -> (3, canvas, canvas)
    pad_token_id: int


def draw_conversations(
    config: LlavaConfig, *, stage: StageName, number: int, pairs: int, seed: int = 0
) -> Conversations:
    """The same for the same arguments; the first of them for any `number`."""
    text: Any = config.text_config
    canvas = shape_of(config).canvas
    samples, pixels = [], {}
    for index in range(number):
        rng = random.Random(f"{seed}/{index}")
        samples.append(_draw_sample(config, stage, index, pairs, rng))
        noise = np.random.default_rng(rng.getrandbits(32))
        pixels[index] = noise.standard_normal((3, canvas, canvas), dtype=np.float32)
    return Conversations(samples=samples, pixels=pixels, pad_token_id=text.pad_token_id)


def _draw_sample(
    config: LlavaConfig, stage: StageName, index: int, pairs: int, rng: random.Random
) -> TokenizedSample:
    text: Any = config.text_config
    image_id = config.image_token_id
    end = min(image_id, text.pad_token_id)

    def words(number: int) -> list[int]:
        return [rng.randrange(_FIRST_WORD_ID, end) for _ in range(number)]

    branches = []
    for tokens, targets in itertools.islice(itertools.cycle(_BRANCHES[stage]), pairs):
        length = rng.randint(*tokens)
        supervised = length if stage == "stage1" else rng.randint(*targets)
        flags = (False,) * (length - supervised) + (True,) * supervised  # the answer comes last
        branches.append(Branch(ids=words(length), supervised=flags))
    return TokenizedSample(
        id=str(index),
        prefix_ids=words(_TEXT_BEFORE_IMAGE[stage]) + [image_id] * shape_of(config).image_tokens,
        branches=tuple(branches),
        num_images=1,
    )


def make_step(
    conversations: Conversations, *, mode: Mode, row_tokens: int, rows_per_pass: int
) -> list[dict[str, Any]]:
    """One step's micro-batches, in as few passes as hold it.

    Raises:
        ValueError: if a conversation is longer than a row.
    """
    samples, packing = conversations.samples, PackingConfig(mode=mode, max_row_tokens=row_tokens)
    fewest = math.ceil(sum(_num_tokens(sample, mode) for sample in samples) / (row_tokens * rows_per_pass))
    most = math.ceil(sum(len(sample.branches) for sample in samples) / rows_per_pass)  # a row for each pair
    plan = None
    for passes in range(fewest, max(fewest, most) + 1):
        try:
            plan = plan_step(
                samples,
                packing,
                accumulation=passes,
                rows_per_accumulation=rows_per_pass,
                pad_token_id=conversations.pad_token_id,
            )
            break
        except OverlongSampleError:
            raise
        except ValueError:  # not all of it fits into so few rows
            if passes >= most:
                raise
    assert plan is not None
    return [
        collate(
            rows,
            pixels=conversations.pixels,
            pad_token_id=conversations.pad_token_id,
            num_targets=plan.num_targets,
        )
        for rows in plan.passes
    ]


def conversations_per_row(conversations: Conversations, row_tokens: int) -> int:
    """How many fit into a row with a shared prefix, whichever they are; at least one."""
    longest = max(_num_tokens(sample, "shared_prefix") for sample in conversations.samples)
    return max(1, row_tokens // longest)


def _num_tokens(sample: TokenizedSample, mode: Mode) -> int:
    copies = len(sample.branches) if mode == "separate" else 1
    return copies * len(sample.prefix_ids) + sum(len(branch.ids) for branch in sample.branches)
