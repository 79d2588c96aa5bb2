"""Let a language model judge the free answers that eval/run.py saved, by Video-ChatGPT's rubric; score again.

    python eval/judge.py --output-dir runs/vid_b/eval --server https://api.openai.com/v1 \\
        --served-model gpt-4o-mini --key-variable JUDGE_KEY --price-in 0.15 --price-out 0.6 --max-cost 3
    python eval/judge.py --output-dir runs/vid_b/eval --server http://node7:8000/v1 --yes

Any server that speaks OpenAI's chat completions will do; --key-variable names the environment variable with
its key. What is ahead is said before it begins: calls, tokens, cost at the prices given. Without a terminal
it takes --yes or --max-cost to go on.

Replies are kept in OUT/verdicts, one file per judge: model, version as the server reports it, rubric. Started
again, only what is missing is asked. Judges are never mixed: where the server changes its version, this
stops. A reply that cannot be read, and an answer that is not there, count as wrong and are told apart.
"""

import argparse
import logging
import sys
from pathlib import Path

from locvlm.answering.options import add_server_options, open_server
from locvlm.evals.asking.parts import collect_folder
from locvlm.evals.asking.store import IMAGE_MODES, ImageMode, predictions_path
from locvlm.evals.judging.attach import needs_verdicts, pairs_of
from locvlm.evals.judging.rubric import Pair, load_rubric
from locvlm.evals.score import format_table, judge_file, score_folder
from locvlm.evals.task import Task, load_tasks
from locvlm.io import write_json
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)
HERE = Path(__file__).parent


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder that eval/run.py wrote")
    parser.add_argument("--tasks", default="*", help="of those that need a judge; names, comma separated")
    parser.add_argument("--images", default="real", help="real, blank, shuffled; comma separated")
    parser.add_argument("--task-dir", type=Path, default=HERE / "tasks", help="where they are declared")
    parser.add_argument("--rubric", type=Path, default=HERE / "rubrics" / "video_qa.yaml")
    parser.add_argument(
        "--reuse",
        type=Path,
        nargs="+",
        default=[],
        metavar="OUT",
        help="take verdicts of the same judge from there",
    )
    parser.add_argument("--ask-again", action="store_true", help="about those whose reply cannot be read")
    parser.add_argument("--server", required=True, help="the judge's URL, up to and with /v1")
    parser.add_argument("--judge-version", default="", help="the only one to go on with, as replies name it")
    add_server_options(parser, "the judge's server")
    cost = parser.add_argument_group("what it may cost")
    cost.add_argument("--price-in", type=float, help="of a million tokens that the judge reads")
    cost.add_argument("--price-out", type=float, help="of a million tokens that it writes")
    cost.add_argument("--max-cost", type=float, help="go on up to this without asking, stop above it")
    cost.add_argument("--yes", action="store_true", help="go on without asking")
    args = parser.parse_args()
    args.images = args.images.split(",")
    if unknown := [mode for mode in args.images if mode not in IMAGE_MODES]:
        parser.error(f"--images knows {', '.join(IMAGE_MODES)}, got {', '.join(unknown)}")
    return args


def read_pairs(folder: Path, tasks: list[Task], images: list[ImageMode]) -> list[Pair]:
    """What there is to judge, each pair once.

    Raises:
        ValueError: if there are no answers to these tasks.
    """
    files = [(task, predictions_path(folder, task.predictions_name, i)) for task in tasks for i in images]
    rows = [row for task, path in files if path.exists() for row in judge_file(path, task)[1]]
    pairs = pairs_of(rows)
    if not pairs:
        names = ", ".join(task.name for task in tasks) or "tasks with judge_accuracy or judge_score"
        raise ValueError(f"{folder} holds no answers to {names}; run eval/run.py first")
    return pairs


def main() -> None:
    """Find what is missing, say what it costs, ask, score."""
    args = parse_arguments()
    setup_logging()
    from locvlm.evals.judging.ask import ask_judge, find_judging
    from locvlm.evals.judging.cost import Prices, estimate, require_consent

    prices, rubric = Prices(tokens_in=args.price_in, tokens_out=args.price_out), load_rubric(args.rubric)
    collect_folder(args.output_dir)
    tasks = load_tasks(args.task_dir, tuple(args.tasks.split(",")))
    pairs = read_pairs(args.output_dir, [task for task in tasks if needs_verdicts(task)], args.images)
    server = open_server(args.server, args)
    judging = find_judging(
        args.output_dir, rubric, server.model, version=args.judge_version, reuse=args.reuse
    )
    missing = judging.missing(pairs, ask_again=args.ask_again)
    taken = judging.take_over(pairs)
    logger.info(
        "%d different answers to judge, %d have a verdict, %d of them from elsewhere",
        len(pairs),
        len(pairs) - len(missing),
        taken,
    )
    if missing:
        ahead = estimate((rubric.ask(pair) for pair in missing), prices)
        logger.info("ahead: %s", ahead)
        require_consent(
            ahead, yes=args.yes, max_cost=args.max_cost, ask=input if sys.stdin.isatty() else None
        )
    judge = ask_judge(judging, server, missing) if missing else judging.judge
    assert judge is not None, "nothing is missing, so there are verdicts"
    scores = score_folder(args.output_dir, load_tasks(args.task_dir, ("*",)), by=judge.name)
    write_json(args.output_dir / "scores.json", scores)
    print(format_table(scores))


if __name__ == "__main__":
    main()
