"""Speed of batched answers against one question at a time, same model and questions; and how many agree.

    python scripts/benchmark_eval.py --out benchmarks/results/eval.json

A model of random weights (or --model) is asked several questions about each of some images: one after another
by the library's `generate`, which encodes the image and reads the whole prompt for each; and in batches. Both
get the same pixels and ids and write --new-tokens tokens. The two take turns, the medians count. For every
precision it says how many answers are equal token by token. In bf16 rounding decides between tokens that are
about as likely, which those of random weights are more often than those of a trained model. Seconds are worth
something with nothing else running.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from locvlm.benchmarks.result import add_out_option, write_result
from locvlm.benchmarks.turns import take_turns


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, help="checkpoint folder, instead of random weights")
    parser.add_argument("--hidden", type=int, default=512, help="width of the random language model")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--canvas", type=int, default=224, help="pixels; patches of 14, so 256 visual tokens")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=8, help="about each image")
    parser.add_argument("--new-tokens", type=int, default=20, help="of an answer: a location takes about 20")
    parser.add_argument("--max-batch-tokens", type=int, default=32768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    add_out_option(parser)
    return parser.parse_args()


def measure(model: Any, groups: list[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, after a question that warms up."""
    import torch

    from locvlm.benchmarks.answering import in_batches, one_at_a_time

    answers: dict[str, list[list[int]]] = {}

    def one_by_one(groups: list[Any]) -> None:
        answers["one"] = one_at_a_time(model, groups, new_tokens=args.new_tokens)

    def batched(groups: list[Any]) -> None:
        limits = {"new_tokens": args.new_tokens, "max_batch_tokens": args.max_batch_tokens}
        answers["many"] = in_batches(model, groups, **limits)

    for way in (one_by_one, batched):
        way(groups[:1])
    synchronize = torch.cuda.synchronize if model.device.type == "cuda" else None
    ways = {"one": partial(one_by_one, groups), "many": partial(batched, groups)}
    turns = take_turns(ways, rounds=args.repeats, warmup=0, synchronize=synchronize)
    equal = [a == b for a, b in zip(answers["one"], answers["many"], strict=True)]
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "times_faster": round(turns.times_as_fast("many", than="one"), 2),
        "one_at_a_time_s": [round(value, 3) for value in turns.seconds["one"]],
        "in_batches_s": [round(value, 3) for value in turns.seconds["many"]],
        "questions_per_s": round(len(equal) / turns.median("many"), 2),
        "equal_answers_fraction": sum(equal) / len(equal),
    }


def main() -> None:
    """Every precision on the same weights and questions."""
    args = parse_arguments()

    # after the command line, so that --help and a typo answer before torch is loaded
    import torch

    from locvlm.benchmarks.answering import ask_about, headline, random_model
    from locvlm.model.locvlm import LocVLM

    torch.set_num_threads(args.threads)
    sizes = {"hidden": args.hidden, "layers": args.layers, "canvas": args.canvas}
    model: Any = random_model(**sizes) if args.model is None else LocVLM.from_pretrained(args.model)
    model.eval().to(args.device)
    rows = []
    for dtype in args.dtypes:
        model.to(getattr(torch, dtype))
        groups = ask_about(model, images=args.images, questions=args.questions)
        rows.append(row := measure(model, groups, args))
        print(row, flush=True)
    quoted = headline(rows, vars(args))
    print("\n".join(one.line() for one in quoted))
    write_result(args, {"rows": rows}, device=args.device, headline=quoted)


if __name__ == "__main__":
    main()
