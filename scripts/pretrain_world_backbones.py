"""Pretrain the embedded world's backbones: tokenizer, CLIP by contrast, LLaMA by next token; on the CPU.

    python scripts/pretrain_world_backbones.py --out DIR

The weights in locvlm/world/weights were made so, with `--parts patches --scenes 14000` run on its own, on two
cores in 52 minutes: clip 32, patches 12, llm 7.

The scenes come from a random stream of their own, of which no world holds one. Parts can be made alone with
--parts; each needs the tokenizer that stands in --out. They load torch themselves, so that --help answers at
once.
"""

import argparse
import logging
import os
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from locvlm.data.prompt import FORMATS
from locvlm.log import setup_logging
from locvlm.objectives import locpred, negpred, revloc
from locvlm.world.text import Dialogue, document, tokenizer_lines

logger = logging.getLogger(__name__)

VICUNA = FORMATS["vicuna_v1"]
TALK = Dialogue(
    frame=VICUNA.first + "{question}" + VICUNA.ask + VICUNA.answer,
    later=VICUNA.later + "{question}" + VICUNA.ask + VICUNA.answer,
    end=VICUNA.end,
    where=locpred.PROMPTS,
    located=locpred.ANSWER,
    absent=negpred.ABSENT_ANSWER,
    what=revloc.PROMPTS,
    found=revloc.ANSWER,
    representation="(x1,y1,x2,y2) bbox",
)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights")
    parser.add_argument(
        "--parts", default="tokenizer,clip,patches,llm", help="comma-separated, in this order"
    )
    parser.add_argument("--documents", type=int, default=20000, help="documents for the tokenizer")
    parser.add_argument("--scenes", type=int, default=20000, help="pretraining scenes for CLIP")
    parser.add_argument("--clip-steps", type=int, default=2500)
    parser.add_argument("--patch-steps", type=int, default=800)
    parser.add_argument("--clip-batch", type=int, default=64, help="scenes a step")
    parser.add_argument("--llm-steps", type=int, default=1000)
    parser.add_argument("--llm-batch", type=int, default=12, help="rows a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


def _save(model: Any, path: Path) -> None:
    from locvlm.world.backbones import save_weights

    save_weights(model.state_dict(), path)


def make_clip(args: argparse.Namespace) -> None:
    """Scenes in memory, then contrastive training."""
    import torch

    from locvlm.world import backbones, pretrain
    from locvlm.world.start import NUM_IMAGES, warm_start
    from locvlm.world.views import Views, make_pretraining_scenes

    encode = backbones.load_pieces(args.out / backbones.TOKENIZER_FILE)
    scenes = make_pretraining_scenes(args.scenes, args.seed, args.workers)
    torch.manual_seed(args.seed)
    model, views = backbones.build_clip(), Views(scenes, encode, args.seed)
    warm_start(model, views.whole_images(NUM_IMAGES), seed=args.seed)
    run = pretrain.PretrainRun(steps=args.clip_steps, batch=args.clip_batch)
    save = partial(_save, model, args.out / backbones.CLIP_FILE)
    pretrain.train_clip(model, views, run, save)
    save()


def make_clip_patches(args: argparse.Namespace) -> None:
    """Goes on from the CLIP that stands, patch by patch."""
    import torch

    from locvlm.world import backbones, pretrain
    from locvlm.world.views import Views, make_pretraining_scenes

    encode = backbones.load_pieces(args.out / backbones.TOKENIZER_FILE)
    scenes = make_pretraining_scenes(args.scenes, args.seed, args.workers)
    torch.manual_seed(args.seed)
    model = backbones.build_clip()
    model.load_state_dict(backbones.load_weights(args.out / backbones.CLIP_FILE))
    run = pretrain.PretrainRun(steps=args.patch_steps, batch=args.clip_batch)
    save = partial(_save, model, args.out / backbones.CLIP_FILE)
    pretrain.train_clip(model, Views(scenes, encode, args.seed + 1), run, save, by_patch=True)
    save()


def token_documents(args: argparse.Namespace) -> Iterator[list[int]]:
    """Endless documents as ids, with their begin and end marks."""
    from locvlm.world import backbones, pretrain

    encode = backbones.load_pieces(args.out / backbones.TOKENIZER_FILE)
    rng = random.Random(f"documents/{args.seed}")
    expected, made = args.llm_steps * args.llm_batch * pretrain.ROW_TOKENS, 0
    while True:
        # short layouts first: copying a box comes before choosing one
        counts = (1, 2) if made < 0.15 * expected else (1, 2, 3, 4)
        text = document(rng, backbones.VISION.canvas, TALK, counts=counts)
        ids = pretrain.document_ids(text, encode, TALK.end)
        made += len(ids)
        yield ids


def make_llm(args: argparse.Namespace) -> None:
    """Next-token training on the world's text."""
    import torch

    from locvlm.world import backbones, pretrain

    torch.manual_seed(args.seed)
    model = backbones.build_llm()
    run = pretrain.PretrainRun(steps=args.llm_steps, batch=args.llm_batch, learning_rate=2.5e-3)
    save = partial(_save, model, args.out / backbones.LLM_FILE)
    pretrain.train_llm(model, token_documents(args), run, save=save)
    save()


def make_tokenizer(args: argparse.Namespace) -> None:
    """Pieces from the world's text and the objectives' prompts."""
    from locvlm.world import backbones, pretrain

    lines = tokenizer_lines(
        random.Random(f"tokenizer/{args.seed}"), args.documents, backbones.VISION.canvas, TALK
    )
    pretrain.train_tokenizer(lines, args.out / backbones.TOKENIZER_FILE)


def main() -> None:
    """Make the parts that are asked for."""
    args = parse_arguments()
    setup_logging(0)
    makers = {"tokenizer": make_tokenizer, "clip": make_clip, "patches": make_clip_patches, "llm": make_llm}
    for part in args.parts.split(","):
        if part not in makers:
            raise ValueError(f"unknown part {part!r} in --parts; there are {', '.join(makers)}")
        start = time.time()
        makers[part](args)
        logger.info("%s took %.0f s", part, time.time() - start)


if __name__ == "__main__":
    main()
