"""Write the report of a run, beside the paper's tables; or compare two runs.

    python eval/report.py --run runs/demo
    python eval/report.py --run runs/mine --runs "LLaVA-1.5=runs/llava15" --trained-on data/li_train.jsonl
    python eval/report.py --compare runs/before runs/after

A run is a folder with evaluations in RUN/eval/<label> or RUN/eval (tables show the last label), or one that
eval/run.py was given as --output-dir.

Asked what the demo asks, it gets RUN/report.html and RUN/scores.json: scenes, curves of RUN/*/metrics.jsonl,
timings of RUN/seconds.json. Asked other tasks, or with --tables or --runs, it gets the paper's tables with
its figures: RUN/tables.html, .md and .json, and examples in RUN/examples/. A comparison is written to AFTER,
as compared.html and .json.
"""

import argparse
from pathlib import Path

from locvlm.evals.pages import benchmark as benchmark_page
from locvlm.evals.pages import comparison as comparison_page
from locvlm.evals.pages import demo as demo_page
from locvlm.evals.pages.examples import render_examples
from locvlm.evals.reports import compare, demo
from locvlm.evals.reports.answers import Run, named_run, read_run
from locvlm.evals.reports.benchmark import build_benchmark, to_json
from locvlm.evals.reports.demo_figures import DEMO_TASKS, asks_what_the_demo_asks
from locvlm.evals.reports.demo_video import collect_video, flat_video_scores, video_table
from locvlm.evals.reports.leakage import read_trained_on
from locvlm.evals.reports.markdown import to_markdown
from locvlm.evals.reports.tables import load_tables
from locvlm.evals.task import Task, load_tasks
from locvlm.io import atomic_writer, write_json


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, help="run folder")
    what.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two run folders")
    parser.add_argument("--output-dir", type=Path, help="folder to write to; default: that of the run")
    parser.add_argument("--tables", action="store_true", help="the paper's tables, for a demo's run, too")
    parser.add_argument(
        "--runs", nargs="+", default=[], metavar="[NAME=]RUN", help="further runs, to stand in the tables"
    )
    parser.add_argument(
        "--trained-on",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="what the model was trained on: record files or their manifests, COCO or LLaVA JSON, lists of "
        "names; scores on their images are told apart",
    )
    parser.add_argument(
        "--visual-genome", type=Path, help="its image_data.json: which images GQA shares with COCO"
    )
    parser.add_argument("--out", type=Path, help="the demo's report; default: report.html in the folder")
    parser.add_argument("--scores", type=Path, help="the demo's figures; default: scores.json in the folder")
    parser.add_argument(
        "--seconds", type=Path, help="phase -> seconds; default: RUN/seconds.json, if it is there"
    )
    parser.add_argument(
        "--judge", default="", help="whose verdicts count, if there are several: see eval/score.py"
    )
    parser.add_argument(
        "--image-root", type=Path, help="of the demo's report; default: where they were found"
    )
    parser.add_argument("--task-dir", type=Path, default=here / "tasks", help="where tasks are declared")
    parser.add_argument("--table-dir", type=Path, default=here / "tables", help="where tables are declared")
    parser.add_argument(
        "--seed", type=int, default=0, help="draws scenes, examples and the bootstrap's images"
    )
    return parser.parse_args()


def main() -> None:
    """Whatever the run's tasks, or the command line, ask for."""
    args = parse_arguments()
    tasks = load_tasks(args.task_dir, ("*",))
    if args.compare:
        write_comparison(args, tasks)
        return
    run = read_run(args.run, tasks, judge=args.judge)
    is_demo = asks_what_the_demo_asks(run.answers) and run.folder != args.run  # which has its own scores.json
    if is_demo:
        write_demo(args, tasks)
    if args.tables or args.runs or not is_demo or not DEMO_TASKS.issuperset(run.answers):
        write_tables(args, run, tasks)


def write_demo(args: argparse.Namespace, tasks: list[Task]) -> None:
    """The demo's report and flat scores."""
    folder = args.output_dir or args.run
    out = args.out or folder / "report.html"
    asked = [task for task in tasks if task.name in DEMO_TASKS]
    report = demo.collect(args.run, asked, seconds=args.seconds, image_root=args.image_root, seed=args.seed)
    video = collect_video(args.run, tasks, seed=args.seed)
    write_text(out, demo_page.render_page(report, video))
    flat, table = demo.flat_scores(report), demo.terminal_table(report)
    if video is not None:
        flat |= flat_video_scores(video)
        table += f"\n\n{video_table(video)}"
    write_json(args.scores or folder / "scores.json", flat)
    print(f"{table}\n\n{out}")


def write_tables(args: argparse.Namespace, run: Run, tasks: list[Task]) -> None:
    """The paper's tables with this run's figures and those of other runs, and examples of answers."""
    out = args.output_dir or args.run
    runs = [run, *(named_run(text, tasks, judge=args.judge) for text in args.runs)]
    trained_on = read_trained_on(args.trained_on, args.visual_genome) if args.trained_on else None
    benchmark = build_benchmark(
        runs, load_tables(args.table_dir), tasks, trained_on=trained_on, seed=args.seed
    )
    links = {}
    for name, answers in benchmark.main.run.answers.items():
        links[name] = f"examples/{name}.html"
        write_text(out / links[name], render_examples(answers, seed=args.seed))
    write_text(out / "tables.html", benchmark_page.render_page(benchmark, examples=links))
    write_text(out / "tables.md", to_markdown(benchmark))
    write_json(out / "tables.json", to_json(benchmark))
    print(f"{to_markdown(benchmark, is_whole=False)}\n{out / 'tables.html'}")


def write_comparison(args: argparse.Namespace, tasks: list[Task]) -> None:
    """What changed from one run to the other."""
    before, after = (read_run(folder, tasks, judge=args.judge) for folder in args.compare)
    compared = compare.compare_runs(before, after, seed=args.seed)
    out = args.output_dir or args.compare[1]
    write_text(out / "compared.html", comparison_page.render_page(compared))
    write_json(out / "compared.json", compare.to_json(compared))
    print(f"{compare.terminal_table(compared)}\n\n{out / 'compared.html'}")


def write_text(path: Path, text: str) -> None:
    """A page, whole or not at all."""
    with atomic_writer(path) as file:
        file.write(text)


if __name__ == "__main__":
    main()
