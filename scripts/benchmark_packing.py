"""How much of the rows is tokens, and what that is worth: ours, against conversations padded to the longest.

    python scripts/benchmark_packing.py --out benchmarks/results/packing.json
    python scripts/benchmark_packing.py --coco data/coco --tokenizer checkpoints/llama

Conversations are Localize-Instruct's, made of the images of --coco, or of scenes that are drawn for it; every
question about an image shares its prefix in all ways. Settings are those of the shipped stage-2
configurations (64 conversations on 8 ranks: LocVLM-B in 5 passes of a row each, LocVLM-L in 8), and fewer
passes, whose rows are fuller. The first share: tokens in what the ranks compute. "Waiting": tokens in what
they could have computed, if in every pass all wait for the one with most to do. Time is that of a small
model, per token: all ranks' shares of a step, computed one after the other, in one pass each: batches of
eight, or one long row.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locvlm.benchmarks.pipeline.options import add_source_options
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline, add_out_option, write_result

if TYPE_CHECKING:
    from locvlm.benchmarks.pipeline.source import Source

RANKS, CONVERSATIONS = 8, 64
SHIPPED = {224: ("LocVLM-B", 5), 336: ("LocVLM-L", 8)}  # canvas -> name, passes
SCENES, TOY_SCENES = 200, 12
TIMED_ROW_TOKENS = 8192  # a rank's whole share in one row: a pass and memory as batches of eight have them


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_source_options(parser)
    parser.add_argument("--passes", type=int, nargs="+", default=[4, 5, 6, 7, 8, 10], help="of a step")
    parser.add_argument("--row-tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=100, help="that are packed")
    parser.add_argument("--steps-timed", type=int, default=1, help="whose ranks' shares are computed")
    parser.add_argument("--rounds", type=int, default=3, help="timed, of each way")
    parser.add_argument("--toy", action="store_true", help="a model of a few neurons: to see that all works")
    add_out_option(parser)
    return parser.parse_args()


def measure_fills(source: "Source", args: argparse.Namespace) -> dict[str, Any]:
    """setting -> way -> shares; rows of ours that do not fit are left out."""
    from locvlm.benchmarks.pipeline.filling import OURS, WAYS, Setting, draw, measure_fill

    found: dict[str, Any] = {}
    for canvas in (56,) if args.toy else SHIPPED:
        samples = [sample for epoch in range(3) for sample in source.tokenized(canvas, epoch=epoch)]
        drawn = draw(samples, CONVERSATIONS * args.steps)
        for passes in args.passes:
            setting = Setting(
                conversations=CONVERSATIONS,
                ranks=RANKS,
                accumulation=passes,
                row_tokens=args.row_tokens,
            )
            name = f"{canvas} pixels, {passes} passes"
            try:
                found[name] = {OURS: asdict(measure_fill(WAYS[OURS](drawn, setting)))}
            except ValueError as error:
                print(f"{name}: some steps do not fit ({error})")
        padded = {way: make(drawn, setting) for way, make in WAYS.items() if way != OURS}
        found[f"{canvas} pixels"] = {way: asdict(measure_fill(steps)) for way, steps in padded.items()}
    return found


def filled_lines(fills: dict[str, Any]) -> list[Headline]:
    """How full our rows are with the shipped settings; and of what ranks compute or wait for."""
    lines = []
    for canvas, (name, passes) in SHIPPED.items():
        if (ours := fills.get(f"{canvas} pixels, {passes} passes")) is not None:
            what = f"tokens in the rows of {name}'s stage 2"
            lines.append(Headline(what, ours["of_rows"], "of the rows", goal=0.98))
            what += ", 8 ranks as long as their longest row"
            lines.append(Headline(what, ours["while_waiting"], "of the rows"))
    return lines


def measure_time(source: "Source", args: argparse.Namespace) -> tuple[dict[str, Any], list[Headline]]:
    """Seconds per token of every way, and how many times as fast ours is."""
    from locvlm.benchmarks.peers.workload import TOY, ModelSizes
    from locvlm.benchmarks.pipeline.filled_time import time_ways
    from locvlm.benchmarks.pipeline.filling import BATCHES_SORTED, LLAVA, OURS, WAYS, Setting, draw

    sizes = TOY if args.toy else ModelSizes(hidden=1024, heads=16, mlp=2752)
    setting = Setting(conversations=CONVERSATIONS, ranks=RANKS, accumulation=1, row_tokens=TIMED_ROW_TOKENS)
    drawn = draw(source.tokenized(sizes.canvas), CONVERSATIONS * BATCHES_SORTED)
    made = {way: make(drawn, setting) for way, make in WAYS.items()}
    # spread over all: where batches are sorted, the first has the longest conversations
    timed = [int((k + 0.5) / args.steps_timed * BATCHES_SORTED) for k in range(args.steps_timed)]
    times = time_ways(
        {way: [steps[number] for number in timed] for way, steps in made.items()},
        sizes=sizes,
        tokenizer=source.tokenizer_folder,
        rounds=args.rounds,
    )
    ours, lines = times.pop(OURS), []
    for way, other in times.items():
        waiting, working = other.while_waiting / ours.while_waiting, other.of_work / ours.of_work
        what, goal = f"rows filled, {RANKS} ranks that wait for the slowest", 1.3 if way == LLAVA else None
        lines.append(Headline(what, waiting, TIMES_AS_FAST, than=way, goal=goal))
        lines.append(Headline("rows filled, a rank by itself", working, TIMES_AS_FAST, than=way))
    found = {
        way: {**asdict(time), "of_work": time.of_work, "while_waiting": time.while_waiting}
        for way, time in {OURS: ours, **times}.items()
    }
    return found, lines


def main() -> None:
    """Pack, print, time, write."""
    args = parse_arguments()

    from locvlm.benchmarks.pipeline.filling import OURS
    from locvlm.benchmarks.pipeline.source import open_source

    with tempfile.TemporaryDirectory() as folder:
        source = open_source(args, Path(folder), scenes=TOY_SCENES if args.toy else SCENES)
        fills = measure_fills(source, args)
        for setting, ways in fills.items():
            for way, fill in ways.items():
                print(f"{setting:22} {way:34} {fill['of_rows']:6.1%} {fill['while_waiting']:6.1%} waiting")
        time, lines = measure_time(source, args)
    headline = [
        *filled_lines({setting: ways[OURS] for setting, ways in fills.items() if OURS in ways}),
        *lines,
    ]
    print("\n".join(one.line() for one in headline))
    write_result(args, {"fills": fills, "time": time}, headline=headline)


if __name__ == "__main__":
    main()
