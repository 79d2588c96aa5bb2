"""Export a checkpoint as a published llava-hf folder, for vLLM, lmms-eval and any transformers 4.x or 5.x.

    python scripts/export_hf.py --checkpoint runs/stage2/final --out my-locvlm-7b

It says done only after stock classes have given the checkpoint's own token ids, pixels and logits.
"""

import argparse
import logging

from locvlm.log import setup_logging

logger = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16", "float16")


def main() -> None:
    """Read the command line, export, say where it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", required=True, help="folder of a trained or composed LocVLM")
    parser.add_argument("--out", required=True, help="folder to write; must not exist")
    parser.add_argument("--adapter", help="adapter-only folder of stage 1, put into the checkpoint first")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; the checkpoint's own by default")
    parser.add_argument("--name", help="the model's name on its card; the folder's by default")
    args = parser.parse_args()
    setup_logging(0)

    import torch  # after the command line, so that --help answers at once

    from locvlm.export.hf import export_hf

    dtype = getattr(torch, args.dtype) if args.dtype else None
    export_hf(args.checkpoint, args.out, adapter=args.adapter, dtype=dtype, name=args.name)
    print(f"exported to {args.out}")


if __name__ == "__main__":
    main()
