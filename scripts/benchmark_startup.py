"""How long until a program answers: `import locvlm`, and --help of every program, each in its own process.

    python scripts/benchmark_startup.py --out benchmarks/results/startup.json

Medians of seconds on the clock and of the processor, Python's own start included, which stands beside them.
Ends with status 1 if one takes longer than --limit-s.
"""

import argparse
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median

from locvlm.benchmarks.result import Headline, add_out_option, write_result
from locvlm.benchmarks.turns import take_turns

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
    add_out_option(parser)
    return parser.parse_args()


def run(arguments: list[str], cpu_seconds: list[float]) -> None:
    """One process; its seconds of the processor are added to the list."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr[-500:]}")
    cpu_seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def headline(medians: dict[str, dict[str, float]], *, limit_s: float) -> list[Headline]:
    """The package, and the slowest program."""
    package = Headline(
        what="import locvlm", figure=medians[IMPORT]["seconds"], unit="s", goal=limit_s, limit="<="
    )
    programs = {name: found["seconds"] for name, found in medians.items() if name not in (PYTHON, IMPORT)}
    if not programs:
        return [package]
    what = f"--help of the slowest of {len(programs)} programs"
    return [
        package,
        Headline(what=what, figure=max(programs.values()), unit="s", goal=limit_s, limit="<="),
        Headline(what="Python itself, doing nothing", figure=medians[PYTHON]["seconds"], unit="s"),
    ]


def main() -> None:
    """Time them in turns, print, write, judge."""
    args = parse_arguments()
    commands = {PYTHON: ["-c", "pass"], IMPORT: ["-c", IMPORT]}
    commands |= {f"{program} --help": [program, "--help"] for program in args.programs}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    ways = {name: partial(run, arguments, cpu[name]) for name, arguments in commands.items()}
    turns = take_turns(ways, rounds=args.rounds)  # the first round reads what the disk has not read yet
    medians = {
        name: {"seconds": turns.median(name), "cpu_seconds": median(cpu[name][1:])} for name in commands
    }
    for name, found in medians.items():
        print(f"{name:42} {found['seconds']:6.3f} s, {found['cpu_seconds']:6.3f} s of the processor")
    quoted = headline(medians, limit_s=args.limit_s)
    for one in quoted:
        print(one.line())
    write_result(args, {"medians": medians}, headline=quoted)
    slow = [name for name, found in medians.items() if found["seconds"] > args.limit_s]
    if slow:
        sys.exit(f"longer than {args.limit_s:g} s: {', '.join(slow)}")


if __name__ == "__main__":
    main()
