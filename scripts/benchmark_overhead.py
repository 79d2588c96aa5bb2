"""What our trainer adds to a step: against the same step as a bare PyTorch loop, in turns in one process.

    python scripts/benchmark_overhead.py --out benchmarks/results/overhead.json

The trainer is train/stage2.py's, with metrics, operations counted, losses watched, heartbeats and logging;
saving, profiling and reading data left out. The bare loop has a copy of the model and takes every step again:
the same batch in memory, the same optimizer, schedule and clipping. Afterwards both have to have learned the
same.
"""

import argparse
import sys
from dataclasses import asdict

from locvlm.benchmarks.result import Headline, add_out_option, write_result

TOLERANCE = 1e-6  # of what was learned


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=4, help="of a step")
    parser.add_argument("--pairs", type=int, default=8, help="about an image")
    parser.add_argument("--passes", type=int, default=2, help="of a step, at most")
    parser.add_argument("--steps", type=int, default=31, help="the first is not counted")
    parser.add_argument("--fp32", action="store_true", help="instead of autocast to bf16")
    parser.add_argument("--toy", action="store_true", help="a model of a few neurons: to see that all works")
    add_out_option(parser)
    return parser.parse_args()


def main() -> None:
    """Compare, print, write."""
    args = parse_arguments()

    from locvlm.benchmarks.peers.workload import TOY, ModelSizes
    from locvlm.benchmarks.pipeline.overhead import BARE, OURS, compare

    sizes = TOY if args.toy else ModelSizes()
    turns, difference = compare(
        sizes,
        images=args.images,
        pairs=args.pairs,
        passes=args.passes,
        num_steps=args.steps,
        bf16=not args.fp32,
    )
    added = turns.median(OURS) / turns.median(BARE) - 1
    least, greatest = turns.spread(BARE, OURS)
    print(f"{OURS} {turns.median(OURS):.4f} s, {BARE} {turns.median(BARE):.4f} s a step (medians)")
    print(f"by step from {least - 1:+.1%} to {greatest - 1:+.1%}")
    print(f"weights differ by {difference:.2g} of what was learned")
    one = Headline("what the trainer adds to a step", added, "of a bare loop's", goal=0.03, limit="<=")
    print(one.line())
    figures = {"model": asdict(sizes), "added_fraction": added, "weights_differ_by": difference}
    write_result(args, {**figures, "ways": turns.against(BARE)}, headline=[one])
    if difference > TOLERANCE:
        sys.exit("the two loops did not do the same: their weights differ")


if __name__ == "__main__":
    main()
