"""Merge the LoRA that a run has left into its base: one whole checkpoint, for evaluation and export.

    python scripts/merge_lora.py --lora runs/stage2_lora/final --out runs/stage2_lora/merged

The base is the one that the LoRA folder names. It says done only after the merged model has given the logits
of base and LoRA, and the new folder those of the merged model.
"""

import argparse
import logging
from pathlib import Path

from locvlm.io import read_json
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16", "float16")


def main() -> None:
    """Read the command line, merge, say where it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--lora", type=Path, required=True, help="folder that a run with LoRA has left")
    parser.add_argument("--base", help="starting checkpoint of that run, if it has moved")
    parser.add_argument("--out", required=True, help="folder to write; must not exist")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; the base's own by default")
    args = parser.parse_args()
    setup_logging(0)

    import torch  # after the command line, so that --help answers at once

    from locvlm.export.merge import merge_checkpoint
    from locvlm.model.lora import BASE_FILE

    if not (args.lora / BASE_FILE).is_file():
        parser.error(f"{args.lora} is no LoRA folder: it has no {BASE_FILE}")
    base = args.base or read_json(args.lora / BASE_FILE)["base"]
    merge_checkpoint(base, args.lora, args.out, dtype=getattr(torch, args.dtype) if args.dtype else None)
    print(f"merged to {args.out}")


if __name__ == "__main__":
    main()
