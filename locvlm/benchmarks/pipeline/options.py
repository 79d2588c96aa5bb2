"""Options that programs share, read before torch is loaded."""

import argparse
from pathlib import Path


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """--coco and --tokenizer; without them the embedded world's."""
    parser.add_argument(
        "--coco",
        type=Path,
        help="a folder with annotations/instances_*.json and the images of each beside it",
    )
    parser.add_argument("--tokenizer", type=Path, help="a folder with LLaMA's")
