"""How long until a program answers: `import locvlm`, and --help of every program, each in its own process.

    python scripts/benchmark_startup.py --out benchmarks/results/startup.json

Medians of seconds on the clock and of the processor, Python's own start included, which stands beside them.
Ends with status 1 if one takes longer than --limit-s.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from locvlm.io import write_json
from locvlm.runs import environment

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("train", "eval", "data_builders", "scripts")
PYTHON, IMPORT = "python -c pass", "import locvlm"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    programs = [path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).glob("*.py")]
    parser.add_argument("--programs", nargs="*", default=sorted(programs), help="default: all of them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit-s", type=float, default=2.0, help="of the median on the clock")
    parser.add_argument("--out", type=Path, help="JSON to write; the table is printed in any case")
    return parser.parse_args()


def run(arguments: list[str]) -> tuple[float, float]:
    """(seconds on the clock, seconds of the processor) of one process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr[-500:]}")
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time them in turns, print, write, judge."""
    args = parse_arguments()
    commands = {PYTHON: ["-c", "pass"], IMPORT: ["-c", IMPORT]}
    commands |= {f"{program} --help": [program, "--help"] for program in args.programs}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(args.rounds + 1):
        for name, arguments in commands.items():
            taken = run(arguments)
            if turn:  # the first reads files that the disk has not read yet
                times[name].append(taken)
    medians = {}
    for name, pairs in times.items():
        seconds, cpu_seconds = (median(pair[i] for pair in pairs) for i in range(2))
        medians[name] = {"seconds": seconds, "cpu_seconds": cpu_seconds}
        print(f"{name:42} {seconds:6.3f} s, {cpu_seconds:6.3f} s of the processor")
    slow = [name for name, found in medians.items() if found["seconds"] > args.limit_s]
    if args.out:
        machine = {**environment(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        write_json(args.out, {"rounds": args.rounds, "machine": machine, "medians": medians})
    if slow:
        sys.exit(f"longer than {args.limit_s:g} s: {', '.join(slow)}")


if __name__ == "__main__":
    main()
