"""Pretrain the embedded world's backbones: tokenizer, CLIP by contrast, LLaMA by next token; on the CPU.

    python scripts/pretrain_world_backbones.py --out DIR

The weights in locvlm/world/weights were made so, with `--parts patches --scenes 14000` run on its own, on two
cores in 52 minutes: clip 32, patches 12, llm 7.

`--parts probe` alone says what weights that stand can do.

The scenes come from a random stream of their own, of which no world holds one. Parts can be made alone with
--parts; each needs the tokenizer that stands in --out. They load torch themselves, so that --help answers at
once.
"""

import argparse
import functools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locvlm.data.prompt import FORMATS
from locvlm.log import setup_logging
from locvlm.objectives import locpred, negpred, revloc
from locvlm.world.text import Dialogue, document, tokenizer_lines

if TYPE_CHECKING:
    from locvlm.world.views import StoredScene, Views

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
        "--parts", default="tokenizer,clip,patches,llm,probe", help="comma-separated, in this order"
    )
    parser.add_argument("--documents", type=int, default=20000, help="documents for the tokenizer")
    parser.add_argument("--scenes", type=int, default=20000, help="pretraining scenes for CLIP")
    parser.add_argument("--clip-steps", type=int, default=2500)
    parser.add_argument("--patch-steps", type=int, default=800)
    parser.add_argument("--clip-batch", type=int, default=64, help="scenes a step")
    parser.add_argument("--llm-steps", type=int, default=1000)
    parser.add_argument("--llm-batch", type=int, default=12, help="rows a step")
    parser.add_argument("--probe-scenes", type=int, default=300)
    parser.add_argument("--probe-lookups", type=int, default=40, help="listings of each length")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


@functools.cache
def pretraining_scenes(count: int, seed: int, workers: int) -> "list[StoredScene]":
    """Made once for all parts of a start."""
    from locvlm.world.views import make_pretraining_scenes

    return make_pretraining_scenes(count, seed, workers)


def encoder_of(args: argparse.Namespace) -> Callable[[str], list[int]]:
    """Text -> ids of the tokenizer in --out."""
    from locvlm.world import backbones

    return backbones.load_pieces(args.out / backbones.TOKENIZER_FILE)


def make_clip(args: argparse.Namespace) -> None:
    """Contrast of whole images and of regions, from a warm start."""
    from locvlm.world.start import NUM_IMAGES, warm_start

    def start(model: Any, views: "Views") -> None:
        warm_start(model, views.whole_images(NUM_IMAGES), seed=args.seed)

    contrast(args, start, steps=args.clip_steps, seed=args.seed, by_patch=False)


def make_clip_patches(args: argparse.Namespace) -> None:
    """Goes on from the CLIP that stands, patch by patch."""
    from locvlm.world import backbones

    def start(model: Any, views: "Views") -> None:
        model.load_state_dict(backbones.load_weights(args.out / backbones.CLIP_FILE))

    contrast(args, start, steps=args.patch_steps, seed=args.seed + 1, by_patch=True)


def contrast(
    args: argparse.Namespace,
    start: "Callable[[Any, Views], None]",
    *,
    steps: int,
    seed: int,
    by_patch: bool,
) -> None:
    """Contrastive training on scenes in memory; `start` sets the weights, `seed` orders the views."""
    import torch

    from locvlm.world import backbones, pretrain
    from locvlm.world.views import Views

    views = Views(pretraining_scenes(args.scenes, args.seed, args.workers), encoder_of(args), seed)
    torch.manual_seed(args.seed)
    model = backbones.build_clip()
    start(model, views)
    run = pretrain.PretrainRun(steps=steps, batch=args.clip_batch)
    path = args.out / backbones.CLIP_FILE
    pretrain.train_clip(model, views, run, lambda: save_weights(model, path), by_patch=by_patch)
    save_weights(model, path)


def save_weights(model: Any, path: Path) -> None:
    """As shipped."""
    from locvlm.world import backbones

    backbones.save_weights(model.state_dict(), path)


def token_documents(args: argparse.Namespace) -> Iterator[list[int]]:
    """Endless documents as ids, with their begin and end marks."""
    from locvlm.world import backbones, pretrain

    encode = encoder_of(args)
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
    path = args.out / backbones.LLM_FILE
    pretrain.train_llm(model, token_documents(args), run, save=lambda: save_weights(model, path))
    save_weights(model, path)


def probe(args: argparse.Namespace) -> None:
    """Print what the weights in --out can do; scenes and listings come from seeds of their own."""
    import sentencepiece

    from locvlm.world import backbones
    from locvlm.world.probe import probe_encoder, probe_lookup

    encode = encoder_of(args)
    decode = sentencepiece.SentencePieceProcessor(model_file=str(args.out / backbones.TOKENIZER_FILE)).decode
    clip, llm = backbones.build_clip(), backbones.build_llm()
    clip.load_state_dict(backbones.load_weights(args.out / backbones.CLIP_FILE))
    llm.load_state_dict(backbones.load_weights(args.out / backbones.LLM_FILE))
    fit, test = (
        pretraining_scenes(count, args.seed + away, args.workers)
        for away, count in ((1, 3 * args.probe_scenes), (2, args.probe_scenes))
    )
    for name, value in probe_encoder(clip, fit, test, encode).items():
        print(f"encoder {name:18} {value:.3f}")
    for num_things in (1, 2, 3, 4):
        value = probe_lookup(llm, encode, decode, TALK, num_things=num_things, tries=args.probe_lookups)
        print(f"language model, box of one thing among {num_things}: {value:.3f}")


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
    makers = {
        "tokenizer": make_tokenizer,
        "clip": make_clip,
        "patches": make_clip_patches,
        "llm": make_llm,
        "probe": probe,
    }
    for part in args.parts.split(","):
        if part not in makers:
            raise ValueError(f"unknown part {part!r} in --parts; there are {', '.join(makers)}")
        start = time.time()
        makers[part](args)
        logger.info("%s took %.0f s", part, time.time() - start)


if __name__ == "__main__":
    main()
