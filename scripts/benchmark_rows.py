"""Head and last layer at supervised rows alone, against all rows: equal gradients, less time and memory.

    python scripts/benchmark_rows.py --layers 4 32 --out benchmarks/results/rows.json
    python scripts/benchmark_rows.py --toy

A LocVLM with random weights and the real vocabulary on packed rows of images with 8 pairs each. Three ways to
compute one loss, which are compared before they are timed in turns:

- all rows: every token goes through the last layer and the head, as in stock LLaVA; most weights are 0.
- head: the head sees supervised rows alone; the last layer all.
- both: what a model of ours does: nor does the last layer's MLP see others.

Memory is what the forward pass keeps for the backward pass. Seconds are worth something with nothing else
running.
"""

import argparse

from locvlm.benchmarks.result import TIMES_AS_FAST, Headline, add_out_option, write_result


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 32])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--images", type=int, default=2, help="of a pass")
    parser.add_argument("--pairs", type=int, default=8, help="about an image")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=5, help="timed passes of each")
    parser.add_argument("--toy", action="store_true", help="a model of a few neurons: to see that all works")
    add_out_option(parser)
    args = parser.parse_args()
    if args.toy:
        vars(args).update(layers=[2, 3], width=32, images=1, pairs=2, rounds=1)
    return args


def main() -> None:
    """Compare, time, print and write."""
    args = parse_arguments()
    from locvlm.benchmarks import supervised_rows as rows  # torch: not before --help has answered
    from locvlm.benchmarks.packed import Content, Sizes

    content = Content(images=args.images, pairs=args.pairs)
    figures, headline = {}, []
    for layers in args.layers:
        sizes = Sizes(width=args.width, layers=layers, heads=8)
        found = rows.measure(sizes, content, dtype=args.dtype, rounds=args.rounds)
        print(f"\n{layers} layers, {found.supervised_fraction:.0%} of the tokens predict a supervised one")
        for way, gap in found.differences.items():
            print(f"  {way}: loss off by {gap.loss:.1e}, gradients by {gap.gradients:.1e} in fp32")
        for way in rows.WAYS:
            print(
                f"  {way:9} {found.turns.median(way):7.3f} s, {found.times_as_fast(way):5.2f} times as fast "
                f"(operations: {found.counted(way):5.2f}), keeps {found.kept_bytes[way] / 2**20:7.0f} MiB"
            )
        figures[f"{layers} layers"] = found.to_json()
        headline += [
            Headline(
                f"{what} at supervised rows alone, {layers} layers",
                found.turns.times_as_fast(way, than),
                TIMES_AS_FAST,
                than="at all rows",
            )
            for what, way, than in (("head", "head", "all rows"), ("last layer", "both", "head"))
        ]
    for one in headline:
        print(one.line())
    write_result(args, figures, headline=headline)


if __name__ == "__main__":
    main()
