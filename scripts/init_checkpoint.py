"""Compose a starting checkpoint: language model + CLIP tower + fresh adapter, as one Hugging Face folder.

    python scripts/init_checkpoint.py --llm vicuna-7b-v1.5 --clip open_clip:ViT-L-14:openai \\
        --adapter linear --out init

--clip takes a Hugging Face CLIP folder, an open_clip folder, or open_clip:NAME[:TAG or .safetensors file].
Codec, frame, location type and conversation are stored in the checkpoint; training, evaluation and export
read them from there.
"""

import argparse
import logging

from locvlm.data.prompt import FORMATS, chat_template
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line; defaults are LocVLM-B's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--llm", required=True, help="Hugging Face folder of the language model")
    parser.add_argument("--clip", required=True, help="vision tower: DIR or open_clip:NAME[:FILE_OR_TAG]")
    parser.add_argument("--tokenizer", help="tokenizer folder, if not in the language model's")
    parser.add_argument("--adapter", choices=("linear", "mlp"), default="linear")
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
    return parser.parse_args()


def main() -> None:
    """Read the parts, put them together, write the folder."""
    args = parse_arguments()
    setup_logging(0)

    # after the command line, so that --help answers before torch is loaded
    from locvlm.data.tokenize import load_tokenizer
    from locvlm.model.compose import CoordinateChoice, compose, save_checkpoint

    tokenizer = load_tokenizer(args.tokenizer or args.llm)
    model = compose(
        llm=args.llm,
        clip=args.clip,
        tokenizer=tokenizer,
        adapter=args.adapter,
        coordinates=CoordinateChoice(codec=args.codec, frame=args.frame, location=args.location),
        conversation=args.conversation,
        match_embeddings=args.match_embeddings,
        seed=args.seed,
    )
    save_checkpoint(model, tokenizer, args.out, chat_template=chat_template(args.conversation))
    size = sum(parameter.numel() for parameter in model.parameters())
    logger.info("%s: %s parameters, %s", args.out, f"{size:,}", model.contract)


if __name__ == "__main__":
    main()
