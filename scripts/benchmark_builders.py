"""Time and memory of the builders that read COCO, on a made-up instances file of the real size.

    python scripts/benchmark_builders.py --out benchmarks/results/builders.json

Writes a file with as many images, instances and polygon points as COCO's instances_train2017.json (there are
no images to it), then runs the builders on it, and both readers (the plain one is what the fast one is tested
against), each in a process of its own. Memory is the most that was resident in the process. Seconds are worth
something with nothing else running, CPU seconds always; the load average says how much else there was.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from locvlm.benchmarks.builders import headline, write_instances
from locvlm.benchmarks.result import add_out_option, write_result

ROOT = Path(__file__).resolve().parents[1]
READ = "from collections import deque; from locvlm.annotations.coco import read_instances as read; "
READ += "from locvlm.io import Ledger; deque(list(read({path!r}, Ledger(), fast={fast})), maxlen=0)"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--instances", type=int, default=860_001)
    parser.add_argument("--folder", type=Path, help="where the made-up file and the outputs go (and stay)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    add_out_option(parser)
    return parser.parse_args()


def commands(instances: Path, folder: Path) -> dict[str, list[str]]:
    """What is run, by name."""
    localize = ["data_builders/localize_instruct.py", "--instances", str(instances), "--overwrite", "--out"]
    spatial = ["data_builders/coco_spatial.py", "--instances", str(instances), "--overwrite", "--out"]
    return {
        "localize_instruct": [*localize, str(folder / "localize.jsonl")],
        "localize_instruct_hard": [*localize, str(folder / "hard.jsonl"), "--hard-negatives", "0.5"],
        "coco_spatial": [*spatial, str(folder / "spatial")],
        "fast_reader": ["-c", READ.format(path=str(instances), fast=True)],
        "plain_reader": ["-c", READ.format(path=str(instances), fast=False)],
    }


RUNS = tuple(commands(Path(), Path()))


def measure(command: list[str]) -> dict[str, Any]:
    """Run a command in the checkout; its seconds, and MiB at most.

    Raises:
        ValueError: if it failed, with what it said.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)  # its own usage, where getrusage mixes all children
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise ValueError(f"{' '.join(command)} ended with {process.returncode}: {said.read()[-2000:]}")
    return {
        "wall_s": round(seconds, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "max_rss_mib": round(used.ru_maxrss / 1024),
        "load_average": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    """Write the file, run everything on it."""
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        instances = folder / f"instances_{args.images}_{args.instances}.json"
        if not instances.exists():
            with ProcessPoolExecutor(1) as other:  # or the runs would inherit what this process held at most
                other.submit(write_instances, instances, args.images, args.instances).result()
        rows = []
        for name in args.only:
            rows.append(row := {"run": name, **measure(commands(instances, folder)[name])})
            print(row, flush=True)
        args.file_mb = round(instances.stat().st_size / 1e6, 1)  # what the two sizes come to
    write_result(args, {"rows": rows}, headline=headline(rows))


if __name__ == "__main__":
    main()
