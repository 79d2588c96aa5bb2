"""Ask a checkpoint about an image or a video; boxes in its answers are drawn into a copy of the image.

    python scripts/chat.py --model runs/demo/stage2/final --image scene.jpg \\
        --ask "where is the mug" --draw out.png
    python scripts/chat.py --model runs/demo/export --image scene.jpg
    python scripts/chat.py --model runs/demo/stage3/final --video clip.mp4 --ask "where is the mug"

Takes our checkpoints and exported ones. Without --ask it asks for questions until an empty line. `where is X`
and `what is at x1,y1,x2,y2` (pixels of the image) are put into the words of the training data; anything else
is asked as it stands. The frame and the codec are the checkpoint's own, boxes are printed and drawn in pixels
of the image. A video is for checkpoints of stage 3: they see as many of its frames as they were made for, and
boxes are in pixels of an upright frame, drawn on the middle one.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from locvlm.log import setup_logging


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder, ours or an export")
    parser.add_argument("--adapter", type=Path, help="adapter-only folder of stage 1, put into the model")
    shown = parser.add_mutually_exclusive_group(required=True)
    shown.add_argument("--image", type=Path)
    shown.add_argument("--video", type=Path, help="seen whole, by a checkpoint that was trained on videos")
    parser.add_argument("--ask", action="append", help="a question; may be given several times")
    parser.add_argument(
        "--draw", type=Path, help="write the image with the boxes of the answers to this file"
    )
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, help="sample instead of the greedy answer")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling")
    return parser.parse_args()


def questions(given: list[str] | None) -> Iterator[str]:
    """Those of the command line, or one by one from the terminal until an empty line."""
    if given is not None:
        yield from given
        return
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            return
        if not text:
            return
        yield text


def main() -> None:
    """Load once, answer every question, draw after each."""
    args = parse_arguments()
    setup_logging()

    from locvlm.answering.answerer import Decoding
    from locvlm.answering.locvlm import load_answerer
    from locvlm.evals.chat import Talk

    sampling = {} if args.temperature is None else {"greedy": False, "temperature": args.temperature}
    decoding = Decoding(max_new_tokens=args.max_new_tokens, seed=args.seed, **sampling)
    answerer = load_answerer(args.model, adapter=args.adapter)
    talk = Talk(answerer, args.image or args.video, is_video=args.video is not None)
    for question in questions(args.ask):
        reply = talk.ask(question, decoding)
        print(reply.text)
        if args.draw is not None and reply.location is not None:
            talk.drawing().save(args.draw)
            print(f"  {reply.describe()}, drawn in {args.draw}")
        elif reply.location is not None:
            print(f"  {reply.describe()}")


if __name__ == "__main__":
    main()
