"""Ask a checkpoint the questions of one or more tasks, save its answers, score them.

    python eval/run.py --model runs/demo/stage2/final --tasks locpred,absent,present,revloc \\
        --data-root runs/demo/data --image-root runs/demo/world/images/val \\
        --images real,blank,shuffled --output-dir runs/demo/eval/stage2

Coordinates are written and read as the checkpoint's contract says. Started again, it goes on where it was,
and asks again where an image could not be read; answers are kept in OUT/predictions, scores in
OUT/scores.json. `--images blank` and `shuffled` ask the same questions about an empty canvas and about the
images of other records: what is scored then, the words alone gave away.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from locvlm.evals.store import IMAGE_MODES, require_readable_images
from locvlm.evals.task import load_tasks
from locvlm.io import write_json
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder, ours or an export")
    parser.add_argument("--adapter", type=Path, help="adapter-only folder of stage 1, put into the model")
    parser.add_argument(
        "--tasks", required=True, help="names, comma separated; * matches: locpred,coco_spatial_*"
    )
    parser.add_argument(
        "--task-dir", type=Path, default=Path(__file__).parent / "tasks", help="where they are declared"
    )
    parser.add_argument(
        "--data-root", type=Path, default=Path(), help="folder of the files that the tasks name"
    )
    parser.add_argument(
        "--records", type=Path, help="one record file for all tasks, instead of those they name"
    )
    parser.add_argument(
        "--image-root", type=Path, required=True, help="folder of the images that the records name"
    )
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--images", default="real", help="real, blank, shuffled; comma separated")
    parser.add_argument("--limit", type=int, help="ask about the first N images of each task only")
    parser.add_argument(
        "--max-dropped-fraction",
        type=float,
        default=0.01,
        help="share of a task's questions without a readable image above which this stops",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="questions decoded together")
    parser.add_argument("--seed", type=int, default=0, help="draws the wording and the shuffled images")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", help="default: cuda where there is one")
    args = parser.parse_args()
    args.images = args.images.split(",")
    unknown = [mode for mode in args.images if mode not in IMAGE_MODES]
    if unknown:
        parser.error(f"--images knows {', '.join(IMAGE_MODES)}, got {', '.join(unknown)}")
    return args


def main() -> None:
    """Load once, ask every task under every image mode, score."""
    args = parse_arguments()
    setup_logging(0)
    tasks = load_tasks(args.task_dir, tuple(args.tasks.split(",")))

    import torch

    from locvlm.evals.answer import fingerprint, load_answerer
    from locvlm.evals.predict import AskOptions, predict_task
    from locvlm.evals.score import format_table, score_folder

    answerer = load_answerer(
        args.model, adapter=args.adapter, dtype=getattr(torch, args.dtype), device=args.device
    )
    logger.info("%s: %s, conversation %s", args.model, answerer.contract, answerer.conversation)
    checkpoint = (str(args.adapter or args.model), fingerprint(args.model, args.adapter))
    options = AskOptions(image_root=args.image_root, batch_size=args.batch_size, seed=args.seed)
    for images in args.images:
        for task in tasks:
            answers = predict_task(
                answerer,
                task,
                records=args.records or args.data_root / task.data.file,
                folder=args.output_dir,
                options=replace(options, images=images),
                checkpoint=checkpoint,
                limit=args.limit,
            )
            require_readable_images(
                answers, image_root=args.image_root, max_dropped_fraction=args.max_dropped_fraction
            )
    scores = score_folder(args.output_dir, load_tasks(args.task_dir, ("*",)))
    write_json(args.output_dir / "scores.json", scores)
    print(format_table(scores))


if __name__ == "__main__":
    main()
