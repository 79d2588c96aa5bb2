"""Ask a model the questions of one or more tasks, save its answers, score them.

    python eval/run.py --model runs/demo/stage2/final --tasks locpred,absent,present,revloc \\
        --data-root runs/demo/data --image-root runs/demo/world/images/val \\
        --images real,blank,shuffled --output-dir runs/demo/eval/stage2
    torchrun --standalone --nproc_per_node 2 eval/run.py --model runs/demo/stage2/final --tasks locpred \\
        --data-root runs/demo/data --image-root runs/demo/world/images/val --output-dir runs/demo/eval/stage2
    python eval/run.py --model llava-hf/llava-1.5-7b-hf --dtype bfloat16 --tasks pope_random \\
        --data-root data --output-dir runs/llava/eval
    python eval/run.py --model http://node7:8000/v1 --convention thousand --tasks rec_refcoco_val \\
        --data-root data --output-dir runs/served/eval

Coordinates are written and read as the checkpoint's contract says, for models of others as their convention
does (locvlm/answering/). Started again, it goes on where it was, and asks again where an image could not be
read or a server gave no answer; answers are kept in OUT/predictions, scores in OUT/scores.json. `--images
blank` and `shuffled` ask the same questions about an empty canvas and about the images of other records: what
is scored then, the words alone gave away.

Under torchrun each rank answers a part of the questions. So does `--shard I/N` in processes that know nothing
of each other, such as the jobs of an array; eval/score.py, or a start without it, makes one file of them.
The answers are those of one process.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from locvlm import dist
from locvlm.answering.options import add_model_options, open_model
from locvlm.evals.asking.store import IMAGE_MODES, require_readable_images
from locvlm.evals.bundle import select_tasks
from locvlm.evals.task import load_tasks
from locvlm.io import write_json
from locvlm.log import setup_logging
from locvlm.shard import Shard, shard_argument

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_model_options(parser)
    parser.add_argument(
        "--tasks", required=True, help="names, * matches, or a bundle: locpred,coco_spatial_*,paper"
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
        "--image-root", type=Path, help="folder of the images; default: the task's own, below --data-root"
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
    parser.add_argument("--batch-size", type=int, default=256, help="questions in memory, with images")
    parser.add_argument(
        "--shard", type=shard_argument, default=Shard(0, 1), metavar="I/N", help="answer the I-th of N parts"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the wording and the shuffled images")
    args = parser.parse_args()
    args.images = args.images.split(",")
    unknown = [mode for mode in args.images if mode not in IMAGE_MODES]
    if unknown:
        parser.error(f"--images knows {', '.join(IMAGE_MODES)}, got {', '.join(unknown)}")
    if args.shard.count > 1 and dist.expected_world_size() > 1:
        parser.error("--shard is for processes on their own; torchrun's ranks share by themselves")
    return args


def main() -> None:
    """Load once, ask every task under every image mode, score."""
    args = parse_arguments()
    dist.join()
    setup_logging(dist.rank())
    selection = select_tasks(
        args.tasks.split(","), args.task_dir, args.data_root, records=args.records, image_root=args.image_root
    )

    from locvlm.evals.asking.answerable import answerable_by
    from locvlm.evals.asking.ask import AskOptions
    from locvlm.evals.asking.predict import predict_task
    from locvlm.evals.score import format_table, score_folder

    model = open_model(args)
    logger.info("%s", model.description)
    selection = answerable_by(model.answerer, selection)
    options = AskOptions(image_root=Path(), batch_size=args.batch_size, seed=args.seed)
    for images in args.images:
        for task in selection.tasks:
            image_root = Path(task.data.image_root)
            answers = predict_task(
                model.answerer,
                task,
                records=Path(task.data.file),
                folder=args.output_dir,
                options=replace(options, images=images, image_root=image_root),
                checkpoint=model.checkpoint,
                limit=args.limit,
                shard=args.shard,
            )
            if dist.is_main():
                require_readable_images(
                    answers, image_root=image_root, max_dropped_fraction=args.max_dropped_fraction
                )
    if args.shard.count > 1:
        logger.info("part %s is answered; eval/score.py makes one file of all parts", args.shard)
    elif dist.is_main():
        scores = score_folder(args.output_dir, load_tasks(args.task_dir, ("*",)))
        write_json(args.output_dir / "scores.json", scores)
        print(format_table(scores) + selection.describe_left_out())
    dist.leave()


if __name__ == "__main__":
    main()
