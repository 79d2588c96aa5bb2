"""How cost grows with the number of ranks, the length of rows, the pairs of an image, or the records.

    python scripts/benchmark_growth.py rows --out benchmarks/results/growth_rows.json
    python scripts/benchmark_growth.py pairs --out benchmarks/results/growth_pairs.json
    python scripts/benchmark_growth.py ranks --out benchmarks/results/growth_ranks.json
    python scripts/benchmark_growth.py records --out benchmarks/results/growth_records.json

- rows: the same conversations in rows of 1,024 to 8,192 tokens: `sdpa` under a mask, and `tree`.
- pairs: 1 to 16 pairs about an image behind one prefix, against each behind its own copy; beside it what
  counting operations promises.
- ranks: a step on one rank and on two, a core each, with train/stage2.py started by torchrun (DDP) and by
  deepspeed (ZeRO-2), over gloo; and on one rank of two threads.
- records: seconds to index 10 thousand to a million records, to open the index again, to plan a step; memory.

Prints a curve, and what takes the time at both its ends, from a profile: by kind of operator, by part of a
step, or by function. Ways take turns, and all have to give the same loss. --toy takes small sizes.
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from locvlm.benchmarks.result import Headline, add_out_option, write_result

if TYPE_CHECKING:
    from locvlm.benchmarks.growth.curve import Curve

ROOT = Path(__file__).resolve().parents[1]
POINTS = {  # of each curve, and with --toy
    "rows": ([1024, 2048, 4096, 8192], [128, 256]),
    "pairs": ([1, 2, 4, 8, 16], [1, 3]),
    "ranks": ([1, 2], [1, 2]),
    "records": ([10_000, 100_000, 1_000_000], [100, 300]),
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("curve", choices=POINTS)
    parser.add_argument("--images", type=int, default=16, help="of a step of rows; a quarter of it for pairs")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each way")
    parser.add_argument("--storage", choices=("lines", "zip", "tars"), default="lines", help="for records")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--toy", action="store_true", help="small sizes, to see that it works")
    add_out_option(parser)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> "tuple[Curve, list[Headline]]":
    """The curve that was asked for, and what is quoted of it."""
    from locvlm.benchmarks.growth import pairs, ranks, records, rows
    from locvlm.benchmarks.peers.workload import TOY, ModelSizes

    points = POINTS[args.curve][args.toy]
    sizes = TOY if args.toy else ModelSizes()
    if args.curve == "rows":
        curve = rows.measure_rows(points, sizes=sizes, images=args.images, rounds=args.rounds)
        return curve, rows.headline(curve)
    if args.curve == "pairs":
        images = max(1, args.images // 4)
        curve = pairs.measure_pairs(points, sizes=sizes, images=images, rounds=args.rounds)
        return curve, pairs.headline(curve)
    if args.curve == "records":
        options = {"storage": args.storage, "later_steps": args.rounds, "folder": args.folder}
        curve = records.measure_records(points, **options)
        return curve, records.headline(curve)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        curve = ranks.measure_ranks(ROOT, Path(name), sizes=sizes, timed_steps=args.rounds, rounds=1)
    return curve, ranks.headline(curve)


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()
    curve, quoted = measure(args)
    print("\n".join([*curve.table(), *(one.line() for one in quoted)]))
    write_result(args, {"curve": curve.to_json()}, headline=quoted)


if __name__ == "__main__":
    main()
