"""Kept benchmark results -> README's table, docs/benchmarks.md, one plot.

    python scripts/plot_benchmarks.py
    python scripts/plot_benchmarks.py --results runs/results --plot runs/benchmarks.svg --documents

Reads the headlines of benchmarks/results/*.json, writes the plot, and makes the blocks of the documents anew
that stand between `<!-- benchmark: NAME -->` and `<!-- end of benchmark -->`; what people wrote around them
stays. What has no result is left out.
"""

import argparse
from pathlib import Path

from locvlm.benchmarks.report.kept import read_kept
from locvlm.benchmarks.report.tables import fill
from locvlm.io import atomic_writer

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    documents = [ROOT / "README.md", ROOT / "docs/benchmarks.md"]
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results", help="folder")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/benchmarks.svg", help="SVG to write")
    parser.add_argument("--documents", type=Path, nargs="*", default=documents, help="none: only the plot")
    return parser.parse_args()


def main() -> None:
    """Read, fill, draw."""
    args = parse_arguments()
    kept = read_kept(args.results)
    for path in args.documents:
        filled = fill(path.read_text(encoding="utf-8"), kept)
        with atomic_writer(path) as file:
            file.write(filled)

    from locvlm.benchmarks.report.plot import draw  # matplotlib: not for --help

    draw(kept, args.plot)
    missed = [one.line() for file in kept for one in file.headline if one.is_reached is False]
    print("\n".join([f"{len(kept)} results, {len(missed)} goals missed", *missed]))


if __name__ == "__main__":
    main()
