"""All pairs of an image behind one copy of it, against a sequence for each pair: equal gradients, less time.

    python scripts/benchmark_attention.py --dtypes fp32 bf16 --out benchmarks/results/attention.json
    python scripts/benchmark_attention.py --toy

A LocVLM with random weights and the real vocabulary; images of 256 tokens, 8 pairs of 40 tokens each, packed
and collated as in training. `separate` repeats the image for every pair, as LLaVA does (`packing.mode:
separate`); `sdpa` and `tree` share it (`shared_prefix`), under a dense mask or by tree attention. First,
losses and gradients are compared with those of `separate`: in fp64 in a narrow model with rows as long, in
fp32 in the model that is timed. Then a pass, forward and backward, is timed in turns: the whole of it, and
the language model without tower and head. Ratios stand beside those of the operations that the planner
counts, and that of a step of 64 images with AdamW. Seconds are worth something with nothing else running.
"""

import argparse
from functools import partial

from locvlm.benchmarks.result import TIMES_AS_FAST, Headline, add_out_option, write_result

GOAL = 3.9
IMAGES_PER_STEP = 64  # of stage 2
TOY = {"width": 32, "layers": 2, "heads": 2, "canvas": 28, "images": 1, "pairs": 3, "rounds": 1}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=3, help="of a pass")
    parser.add_argument("--pairs", type=int, default=8, help="about an image")
    parser.add_argument("--tokens", type=int, nargs="+", default=[40], help="of the first pair, second, ...")
    parser.add_argument("--targets", type=int, default=11, help="supervised tokens of a pair")
    parser.add_argument("--canvas", type=int, default=224, help="side of an image; 14 pixels are a patch")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=32_064)
    parser.add_argument("--dtypes", nargs="+", choices=("fp32", "bf16"), default=["fp32"])
    parser.add_argument("--rounds", type=int, default=3, help="timed passes of each")
    parser.add_argument("--toy", action="store_true", help="a model of a few neurons: to see that all works")
    add_out_option(parser)
    args = parser.parse_args()
    if args.toy:
        vars(args).update(TOY)
    return args


def main() -> None:
    """Check, time, print and write."""
    args = parse_arguments()
    from locvlm.benchmarks import shared_prefixes as prefixes  # torch: not before --help has answered
    from locvlm.benchmarks.packed import Content, Sizes

    sizes = Sizes(
        width=args.width,
        layers=args.layers,
        heads=args.heads,
        vocabulary=args.vocabulary,
        canvas=args.canvas,
    )
    content = Content(
        images=args.images, pairs=args.pairs, branch_tokens=tuple(args.tokens), targets=args.targets
    )
    agreement = prefixes.check(sizes, content)
    for dtype, ways in agreement.items():
        for way, gap in ways.items():
            print(f"{way} in {dtype}: loss off by {gap.loss:.1e}, gradients by {gap.gradients:.1e}")
    figures, headline = {}, []
    for dtype in args.dtypes:
        found = prefixes.measure(sizes, content, dtype=dtype, rounds=args.rounds)
        print(f"\n{dtype:24}{'s a pass':>10}{'times as fast':>15}{'fewer FLOPs':>13}{'of these':>10}")
        for part, turns in found.turns.items():
            print(part)
            for way in prefixes.WAYS:
                ratio, counted = found.times_as_fast(part, way), found.counted(part, way)
                row = f"{turns.median(way):10.3f}{ratio:15.2f}{counted:13.2f}{ratio / counted:10.0%}"
                print(f"  {way:22}{row}")
        passes = IMAGES_PER_STEP / args.images
        step = {way: found.step(way, passes) for way in prefixes.WAYS}
        told = ", ".join(f"{way} {ratio:.2f}" for way, ratio in step.items())
        print(f"times as fast, a step of {IMAGES_PER_STEP} images with AdamW: {told}")
        figures[dtype] = {**found.to_json(), "step_times_as_fast": step}
        for part in found.turns:
            best = max(("sdpa", "tree"), key=partial(found.times_as_fast, part))
            headline.append(
                Headline(
                    f"shared prefix by {best} attention in {dtype}, {part}, {args.pairs} pairs an image",
                    found.times_as_fast(part, best),
                    TIMES_AS_FAST,
                    than="a sequence per pair",
                    goal=GOAL,
                )
            )
    for one in headline:
        print(one.line())
    differences = {
        dtype: {way: {"loss": gap.loss, "gradients": gap.gradients} for way, gap in ways.items()}
        for dtype, ways in agreement.items()
    }
    write_result(args, {"differences": differences, **figures}, headline=headline)


if __name__ == "__main__":
    main()
