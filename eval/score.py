"""Score saved predictions again, without a model.

    python eval/score.py --output-dir runs/demo/eval/stage2

Reads OUT/predictions as eval/run.py left them, writes OUT/scores.json, prints a table. Predictions that were
made in parts (`--shard`) become one file first.
"""

import argparse
from pathlib import Path

from locvlm.evals.asking.parts import collect_folder
from locvlm.evals.score import format_table, score_folder
from locvlm.evals.task import load_tasks
from locvlm.io import write_json


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder that eval/run.py wrote")
    parser.add_argument("--tasks", default="*", help="names, comma separated; * matches")
    parser.add_argument(
        "--task-dir", type=Path, default=Path(__file__).parent / "tasks", help="where they are declared"
    )
    parser.add_argument(
        "--judge", default="", help="whose verdicts count, if there are several: name, version or model"
    )
    return parser.parse_args()


def main() -> None:
    """Judge every saved answer, write the scores."""
    args = parse_arguments()
    collect_folder(args.output_dir)
    tasks = load_tasks(args.task_dir, tuple(args.tasks.split(",")))
    scores = score_folder(args.output_dir, tasks, by=args.judge)
    write_json(args.output_dir / "scores.json", scores)
    print(format_table(scores))


if __name__ == "__main__":
    main()
