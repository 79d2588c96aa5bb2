"""Pretrain the embedded world's backbones: tokenizer, CLIP by contrast, LLaMA by next token; on the CPU.

    python scripts/pretrain_world_backbones.py --out DIR

The weights in locvlm/world/weights were made so, on two cores in two hours:

    python scripts/pretrain_world_backbones.py --out DIR --parts tokenizer,clip
    python scripts/pretrain_world_backbones.py --out DIR --parts patches --scenes 14000
    python scripts/pretrain_world_backbones.py --out DIR --parts patches --scenes 14000 \\
        --patch-steps 750 --seed 1
    python scripts/pretrain_world_backbones.py --out DIR --parts patches --scenes 14000 \\
        --patch-steps 800 --seed 2 --patch-rate 0.5
    python scripts/pretrain_world_backbones.py --out DIR --parts patches --scenes 14000 \\
        --patch-steps 800 --seed 3 --patch-rate 0.5
    python scripts/pretrain_world_backbones.py --out DIR --parts llm --llm-steps 4500 --compile
    python scripts/pretrain_world_backbones.py --out DIR --parts llm_more --llm-steps 2000 \\
        --llm-rate 0.5 --seed 1 --compile

clip 32 minutes, patches 12 (before near misses were part of it), 10, 11 and 11, llm 28 (when documents held
one notation, IVB, and hardly any sides), llm_more 11. `--parts probe` alone says what weights that stand can
do.

The scenes come from a random stream of their own, of which no world holds one. Parts can be made alone with
--parts; each needs the tokenizer that stands in --out. They load torch themselves, so that --help answers at
once.
"""

import argparse
import dataclasses
import functools
import itertools
import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from locvlm.data.prompt import FORMATS
from locvlm.log import setup_logging
from locvlm.objectives import locpred, negpred, revloc
from locvlm.world.pretraining.text import Dialogue, tokenizer_lines

if TYPE_CHECKING:
    from locvlm.world.pretraining.documents import Writer
    from locvlm.world.pretraining.loop import PretrainRun
    from locvlm.world.pretraining.views import StoredScene, Views

logger = logging.getLogger(__name__)

PROBE_SEEDS = (101, 102)  # of scenes that no part has trained on: keep --seed away from them
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
    parser.add_argument(
        "--patch-rate",
        type=float,
        default=1.0,
        help="learning rates of `patches` against the usual; 0.5 if the tower has had this part before",
    )
    parser.add_argument("--clip-batch", type=int, default=64, help="scenes a step")
    parser.add_argument("--llm-steps", type=int, default=5000)
    parser.add_argument("--llm-rate", type=float, default=1.0, help="as --patch-rate, of `llm_more`")
    parser.add_argument("--llm-batch", type=int, default=24, help="rows a step")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the language model: a fifth faster, needs a C++ compiler",
    )
    parser.add_argument("--probe-scenes", type=int, default=300)
    parser.add_argument("--probe-lookups", type=int, default=40, help="layouts of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


@functools.cache
def pretraining_scenes(count: int, seed: int, workers: int) -> "list[StoredScene]":
    """Made once for all parts of a start."""
    from locvlm.world.pretraining.views import make_pretraining_scenes

    return make_pretraining_scenes(count, seed, workers)


def encoder_of(args: argparse.Namespace) -> Callable[[str], list[int]]:
    """Text -> ids of the tokenizer in --out."""
    from locvlm.world import backbones

    return backbones.load_pieces(args.out / backbones.TOKENIZER_FILE)


def make_clip(args: argparse.Namespace) -> None:
    """Contrast of whole images and of regions, from a warm start."""
    from locvlm.world.pretraining.start import NUM_IMAGES, warm_start

    def start(model: Any, views: "Views") -> None:
        warm_start(model, views.whole_images(NUM_IMAGES), seed=args.seed)

    contrast(args, start, steps=args.clip_steps, rate=1.0, seed=args.seed, by_patch=False)


def make_clip_patches(args: argparse.Namespace) -> None:
    """Goes on from the CLIP that stands, patch by patch."""
    from locvlm.world import backbones

    def start(model: Any, views: "Views") -> None:
        model.load_state_dict(backbones.load_weights(args.out / backbones.CLIP_FILE))

    contrast(args, start, steps=args.patch_steps, rate=args.patch_rate, seed=args.seed + 1, by_patch=True)


def contrast(
    args: argparse.Namespace,
    start: "Callable[[Any, Views], None]",
    *,
    steps: int,
    rate: float,
    seed: int,
    by_patch: bool,
) -> None:
    """Contrastive training on scenes in memory; `start` sets the weights, `seed` orders the views.

    `rate` is that of learning against the usual one.
    """
    import torch

    from locvlm.world import backbones
    from locvlm.world.pretraining.clip import train_clip
    from locvlm.world.pretraining.views import Views

    views = Views(pretraining_scenes(args.scenes, args.seed, args.workers), encoder_of(args), seed)
    torch.manual_seed(args.seed)
    model = backbones.build_clip()
    start(model, views)
    run = run_of(steps, args.clip_batch, rate)
    path = args.out / backbones.CLIP_FILE
    train_clip(model, views, run, lambda: save_weights(model, path), by_patch=by_patch)


def run_of(steps: int, batch: int, rate: float, *, learning_rate: float | None = None) -> "PretrainRun":
    """A run whose learning rates are `rate` of the usual; `learning_rate` is that of all but matrices."""
    from locvlm.world.pretraining.loop import PretrainRun

    usual = PretrainRun(steps=steps, batch=batch)
    if learning_rate is not None:
        usual = dataclasses.replace(usual, learning_rate=learning_rate)
    rates = (usual.learning_rate, usual.muon_learning_rate)
    return dataclasses.replace(usual, learning_rate=rate * rates[0], muon_learning_rate=rate * rates[1])


def save_weights(model: Any, path: Path) -> None:
    """As shipped."""
    from locvlm.world import backbones

    backbones.save_weights(model.state_dict(), path)


def writer_of(args: argparse.Namespace) -> "Writer":
    """Of the language model's documents, in the tokenizer's ids."""
    from locvlm.world.pretraining.documents import Writer
    from locvlm.world.pretraining.llm import ROW_TOKENS

    return Writer(encoder_of(args), TALK, longest=ROW_TOKENS)


def make_llm(args: argparse.Namespace, *, goes_on: bool = False) -> None:
    """Next-token training on text and layouts, from easy to hard.

    With `goes_on`, from the language model that stands, and hard from the start.
    """
    import torch

    from locvlm.world import backbones
    from locvlm.world.pretraining.layout_tokens import LayoutEmbedder
    from locvlm.world.pretraining.llm import train_llm

    torch.manual_seed(args.seed)
    model, writer = backbones.build_llm(), writer_of(args)
    path = args.out / backbones.LLM_FILE
    if goes_on:
        model.load_state_dict(backbones.load_weights(path))
    embedder = LayoutEmbedder(encoder_of(args), backbones.LANGUAGE.width)
    rng = random.Random(f"documents/{args.seed}")
    run = run_of(args.llm_steps, args.llm_batch, args.llm_rate, learning_rate=2.5e-3)
    if args.compile:
        model.forward = torch.compile(model.forward, dynamic=False)
    train_llm(
        model,
        lambda progress: writer.write(rng, 1.0 if goes_on else progress),
        embedder,
        run,
        save=lambda: save_weights(model, path),
    )


def probe(args: argparse.Namespace) -> None:
    """Print what the weights in --out can do; scenes and layouts come from seeds of their own."""
    import sentencepiece

    from locvlm.world import backbones
    from locvlm.world.pretraining.layout_tokens import LayoutEmbedder
    from locvlm.world.pretraining.probe import probe_encoder, probe_lookup

    encode = encoder_of(args)
    decode = sentencepiece.SentencePieceProcessor(model_file=str(args.out / backbones.TOKENIZER_FILE)).decode
    clip, llm = backbones.build_clip(), backbones.build_llm()
    clip.load_state_dict(backbones.load_weights(args.out / backbones.CLIP_FILE))
    llm.load_state_dict(backbones.load_weights(args.out / backbones.LLM_FILE))
    fit, test = (
        pretraining_scenes(count, seed, args.workers)
        for seed, count in zip(PROBE_SEEDS, (3 * args.probe_scenes, args.probe_scenes), strict=True)
    )
    for name, value in probe_encoder(clip, fit, test, encode).items():
        print(f"encoder {name:18} {value:.3f}")
    writer, embedder = writer_of(args), LayoutEmbedder(encode, backbones.LANGUAGE.width)
    layouts: tuple[Literal["list", "grid"], ...] = ("list", "grid")
    for layout, num_things in itertools.product(layouts, (1, 2, 3, 4)):
        found = probe_lookup(
            llm, writer, embedder, decode, layout=layout, num_things=num_things, tries=args.probe_lookups
        )
        print(f"language model finds one thing of {num_things} in a {layout}: {found:.3f}")


def make_tokenizer(args: argparse.Namespace) -> None:
    """Pieces from the world's text and the objectives' prompts."""
    from locvlm.world import backbones
    from locvlm.world.pretraining.tokenizer import train_tokenizer

    lines = tokenizer_lines(
        random.Random(f"tokenizer/{args.seed}"), args.documents, backbones.VISION.canvas, TALK
    )
    train_tokenizer(lines, args.out / backbones.TOKENIZER_FILE)


def main() -> None:
    """Make the parts that are asked for."""
    args = parse_arguments()
    setup_logging(0)
    makers: dict[str, Callable[[argparse.Namespace], None]] = {
        "tokenizer": make_tokenizer,
        "clip": make_clip,
        "patches": make_clip_patches,
        "llm": make_llm,
        "llm_more": functools.partial(make_llm, goes_on=True),
        "probe": probe,
    }
    parts = args.parts.split(",")
    unknown = [part for part in parts if part not in makers]
    if unknown:
        raise ValueError(f"unknown part {unknown[0]!r} in --parts; there are {', '.join(makers)}")
    for part in parts:
        start = time.time()
        makers[part](args)
        logger.info("%s took %.0f s", part, time.time() - start)


if __name__ == "__main__":
    main()
