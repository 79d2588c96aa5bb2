"""Export a checkpoint as a published llava-hf folder, for vLLM, lmms-eval and any transformers 4.x or 5.x.

    python scripts/export_hf.py --checkpoint runs/stage2/final --out my-locvlm-7b
    python scripts/export_hf.py --checkpoint runs/stage3/final --out my-locvlm-vid-7b
    python scripts/export_hf.py --checkpoint runs/stage3/final --out my-locvlm-vid-7b-images --class stock

It says done only after the class that the folder names, a stock one for models of images, has given the
checkpoint's own token ids, pixels and logits. No stock class pools the frames of a video: a checkpoint of
stage 3 is exported for this package's class (`import locvlm.model.registered` makes transformers know it),
and with `--class stock` for stock LLaVA, which sees images alone. README.md in the folder says which it is.
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
    parser.add_argument(
        "--class",
        dest="export_class",
        choices=("stock", "video"),
        help="stock LLaVA, for images alone, or this package's class for videos; default: as it was trained",
    )
    args = parser.parse_args()
    setup_logging(0)

    import torch  # after the command line, so that --help answers at once

    from locvlm.export.hf import export_hf

    dtype = getattr(torch, args.dtype) if args.dtype else None
    made_for = export_hf(
        args.checkpoint,
        args.out,
        adapter=args.adapter,
        dtype=dtype,
        name=args.name,
        export_class=args.export_class,
    )
    print(f"exported to {args.out}" + (", for videos and images" if made_for == "video" else ""))


if __name__ == "__main__":
    main()
