"""Write the report of a run: one HTML page that needs nothing else, and its figures as flat JSON.

    python eval/report.py --run runs/demo

Reads RUN/eval/<label>/predictions (or RUN/eval/predictions), RUN/*/metrics.jsonl and RUN/seconds.json; writes
RUN/report.html and RUN/scores.json; prints the table.
"""

import argparse
from pathlib import Path

from locvlm.evals.pages.report import render_page
from locvlm.evals.report import collect, flat_scores, terminal_table
from locvlm.evals.task import load_tasks
from locvlm.io import atomic_writer, write_json


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--out", type=Path, help="default: RUN/report.html")
    parser.add_argument("--scores", type=Path, help="default: RUN/scores.json")
    parser.add_argument(
        "--seconds", type=Path, help="JSON, phase -> seconds; default: RUN/seconds.json if it is there"
    )
    parser.add_argument("--image-root", type=Path, help="default: where eval/run.py found the images")
    parser.add_argument(
        "--task-dir", type=Path, default=Path(__file__).parent / "tasks", help="where tasks are declared"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the scenes that are shown")
    return parser.parse_args()


def main() -> None:
    """Collect, write the page and the figures, print the table."""
    args = parse_arguments()
    report = collect(
        args.run,
        load_tasks(args.task_dir, ("*",)),
        seconds=args.seconds,
        image_root=args.image_root,
        seed=args.seed,
    )
    out = args.out or args.run / "report.html"
    with atomic_writer(out) as file:
        file.write(render_page(report))
    write_json(args.scores or args.run / "scores.json", flat_scores(report))
    print(terminal_table(report))
    print(f"\n{out}")


if __name__ == "__main__":
    main()
