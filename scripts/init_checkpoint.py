"""Compose a starting checkpoint, as one Hugging Face folder, from what is public.

    python scripts/init_checkpoint.py --llm vicuna-7b-v1.5 --clip open_clip:ViT-L-14:openai \\
        --adapter linear --out init
    python scripts/init_checkpoint.py --llava llava-1.5-7b-hf --frame pad --out init
    python scripts/init_checkpoint.py --llava llava-v1.5-7b --clip clip-vit-large-patch14-336 --out init

A language model and a CLIP tower get a fresh adapter, or the one in --adapter-weights (a folder that stage 1
left, or LLaVA's mm_projector.bin). --llava takes a LLaVA checkpoint as transformers writes it, or as LLaVA's
own programs do; these only name their tower, which --clip then gives. Weights that are missing, unknown or of
another shape are an error. Nothing is downloaded, but tags of open_clip.

--clip takes a Hugging Face CLIP folder, an open_clip folder, or open_clip:NAME[:TAG or .safetensors file].
Codec, frame, location type and conversation are stored in the checkpoint; training, evaluation and export
read them from there.
"""

import argparse
import logging
from typing import Any

from locvlm.data.prompt import FORMATS, chat_template
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line; defaults are LocVLM-B's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--llm", help="Hugging Face folder of the language model; needs --clip")
    start.add_argument("--llava", help="folder of a LLaVA checkpoint, of either form")
    parser.add_argument("--clip", help="vision tower: DIR or open_clip:NAME[:FILE_OR_TAG]")
    parser.add_argument("--tokenizer", help="tokenizer folder, if not in the language model's")
    parser.add_argument(
        "--adapter", choices=("linear", "mlp"), help="linear, or what --llava or --adapter-weights holds"
    )
    parser.add_argument("--adapter-weights", help="stage 1's folder, or LLaVA's mm_projector.bin")
    parser.add_argument(
        "--match-embeddings",
        action="store_true",
        help="scale the fresh adapter so that images come out as long as words; LLaVA does not",
    )
    parser.add_argument("--codec", default="ivb", help="how locations are written: ivb, nfp or diga")
    parser.add_argument(
        "--frame", default="stretch", help="how images reach the square canvas: stretch, pad or crop"
    )
    parser.add_argument("--location", default="bbox", help="bbox or point")
    parser.add_argument("--conversation", choices=sorted(FORMATS), default="vicuna_v1")
    parser.add_argument("--seed", type=int, default=0, help="of the adapter's fresh weights")
    parser.add_argument("--out", required=True, help="folder to write; must not exist")
    args = parser.parse_args()
    if args.llm and not args.clip:
        parser.error("--llm needs --clip: the vision tower")
    if args.match_embeddings and (args.llava or args.adapter_weights):
        parser.error("--match-embeddings scales a fresh adapter; leave it out where there is a trained one")
    return args


def main() -> None:
    """Read the parts, put them together, write the folder."""
    args = parse_arguments()
    setup_logging(0)

    # after the command line, so that --help answers before torch is loaded
    from locvlm.data.tokenize import load_tokenizer
    from locvlm.model.adapter import load_adapter
    from locvlm.model.compose import CoordinateChoice, compose_parts, save_checkpoint

    parts = read_parts(args)
    tokenizer = load_tokenizer(args.tokenizer or args.llava or args.llm)
    model = compose_parts(
        parts,
        tokenizer=tokenizer,
        adapter=choose_adapter(args),
        coordinates=CoordinateChoice(codec=args.codec, frame=args.frame, location=args.location),
        conversation=args.conversation,
        match_embeddings=args.match_embeddings,
        seed=args.seed,
    )
    if args.adapter_weights:
        load_adapter(model, args.adapter_weights)
    save_checkpoint(model, tokenizer, args.out, chat_template=chat_template(args.conversation))
    size = sum(parameter.numel() for parameter in model.parameters())
    logger.info("%s: %s parameters, %s", args.out, f"{size:,}", model.contract)


def read_parts(args: argparse.Namespace) -> Any:
    """Language model and tower; with --llava the adapter too."""
    from locvlm.model.foreign import llava_parts, separate_parts

    if args.llava:
        return llava_parts(args.llava, clip=args.clip)
    return separate_parts(args.llm, args.clip)


def choose_adapter(args: argparse.Namespace) -> str | None:
    """The adapter's kind as asked for, or as in --adapter-weights; None: as in the checkpoint."""
    from locvlm.model.adapter import read_adapter

    if args.adapter or not args.adapter_weights:
        return None if args.adapter is None else str(args.adapter)
    return read_adapter(args.adapter_weights).kind


if __name__ == "__main__":
    main()
