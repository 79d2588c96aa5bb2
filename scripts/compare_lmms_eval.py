"""Does an export answer under lmms-eval as it does here? The same questions through both, answer by answer.

    python scripts/compare_lmms_eval.py --export runs/demo/export --data-root runs/demo/data \\
        --image-root runs/demo/world/images/val --limit 20 --python lmms/bin/python

lmms-eval 0.7.3 runs in an environment of its own (docs/evaluation.md), by its own command line, with its
model llava_hf on a local task. The same on both sides: greedy, the task's number of tokens, the precision,
the system sentence, which the export's chat template holds, and Pillow as the library that resizes images.
`--image-backend torchvision` shows what becomes of the answers where nobody sees to that.

The status is 0 if all answers are equal, 1 if one is not.
"""

import argparse
import logging
import tempfile
from pathlib import Path

from locvlm.log import setup_logging

logger = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16", "float16")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--export", type=Path, required=True, help="of a model of images, or --class stock")
    parser.add_argument("--tasks", default="locpred,absent,revloc", help="names; comma separated")
    parser.add_argument(
        "--data-root", type=Path, default=Path(), help="folder of the files that the tasks name"
    )
    parser.add_argument("--records", type=Path, help="one record file for all tasks")
    parser.add_argument("--image-root", type=Path, required=True, help="folder or zip of the images")
    parser.add_argument("--limit", type=int, help="ask about the first N images of each task only")
    parser.add_argument("--python", required=True, help="the Python of the environment with lmms-eval")
    parser.add_argument(
        "--image-backend", choices=("pil", "torchvision"), default="pil", help="of lmms-eval's side"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--device", default="cpu", help="of both sides")
    parser.add_argument("--show", type=int, default=5, metavar="N", help="differences to print")
    parser.add_argument("--seed", type=int, default=0, help="draws the wording")
    return parser.parse_args()


def main() -> int:
    """Ask here, ask there, compare."""
    args = parse_arguments()
    setup_logging(0)

    from locvlm.evals.lmms.compare import VERSION, find_lmms_eval, require_stock

    require_stock(args.export)  # before anything takes long
    version = find_lmms_eval(args.python)
    if version != VERSION:
        logger.warning("lmms-eval %s is installed; this was tried with %s", version, VERSION)

    import torch

    from locvlm.answering.locvlm import load_answerer
    from locvlm.evals.asking.ask import AskOptions, ask
    from locvlm.evals.asking.questions import read_questions
    from locvlm.evals.lmms.compare import Setup, compare, read_answers, run_lmms_eval, write_task
    from locvlm.evals.task import load_tasks

    task_dir = Path(__file__).parents[1] / "eval" / "tasks"
    tasks = [
        task.located(args.data_root, records=args.records, image_root=args.image_root)
        for task in load_tasks(task_dir, tuple(args.tasks.split(",")))
    ]
    answerer = load_answerer(args.export, dtype=getattr(torch, args.dtype), device=args.device)
    options = AskOptions(image_root=args.image_root, seed=args.seed)
    setup = Setup(
        python=args.python,
        export=args.export,
        dtype=args.dtype,
        device=args.device,
        image_backend=args.image_backend,
    )
    with tempfile.TemporaryDirectory(prefix="locvlm-lmms-") as scratch:
        folder = Path(scratch)
        ours = {}
        for task in tasks:
            questions = read_questions(Path(task.data.file), task, limit=args.limit)
            ours[task.name] = [p for window in ask(answerer, task, questions, options) for p in window]
            write_task(folder, task, ours[task.name], image_root=args.image_root)
            logger.info("%s: %d questions answered here", task.name, len(ours[task.name]))
        logger.info("the same questions under lmms-eval %s, one at a time", version)
        out = run_lmms_eval(setup, folder, [task.name for task in tasks])
        differences = {name: compare(answers, read_answers(out, name)) for name, answers in ours.items()}
    for name, answers in ours.items():
        print(f"{name}: {len(answers) - len(differences[name])} of {len(answers)} answers equal")
    every = [difference for found in differences.values() for difference in found]
    for difference in every[: args.show]:
        print(f"{difference.id}: {difference.question}")
        print(f"    ours   {difference.ours}\n    theirs {difference.theirs}")
    return 1 if every else 0


if __name__ == "__main__":
    raise SystemExit(main())
