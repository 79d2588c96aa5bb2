"""Memory and speed of the data loader, by the number of records and by how they are stored.

    python scripts/benchmark_data.py --records 10000 1000000 --out benchmarks/results/data.json

Writes records with small JPEGs to a temporary folder in each way that a source can name (lines: JSON Lines
and a folder; zip: LLaVA JSON and images.zip; tars: shards), makes the index, opens it again from the cache,
and lets workers prepare steps as in training. Memory is what a process has for itself alone (USS) and what is
resident in all (RSS) when the last step comes; a worker has then touched all that it inherited. Seconds are
worth something with nothing else running, CPU seconds always.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from locvlm.benchmarks.result import add_out_option, write_result
from locvlm.benchmarks.stored_data import MAKERS, build_loader, give_freed_memory_back, headline, memory_mb


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--records", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--storage", nargs="+", choices=MAKERS, default=list(MAKERS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40, help="after those that start the workers")
    parser.add_argument("--per-step", type=int, default=64, help="conversations")
    parser.add_argument("--canvas", type=int, default=224, help="pixels")
    parser.add_argument("--folder", type=Path, help="where the temporary data goes")
    add_out_option(parser)
    return parser.parse_args()


def measure(storage: str, count: int, args: argparse.Namespace) -> dict[str, Any]:
    """Make the data, open it twice, run the steps."""
    from locvlm.data.dataset import FileDataset

    give_freed_memory_back()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        os.environ["LOCVLM_CACHE"] = f"{name}/cache"
        (folder := Path(name) / "data").mkdir()
        source = MAKERS[storage](folder, count)
        clock, cpu = [time.perf_counter()], time.process_time()
        FileDataset(**source)
        clock, cpu = [*clock, time.perf_counter()], time.process_time() - cpu
        FileDataset(**source)
        clock.append(time.perf_counter())
        loader = build_loader(
            source,
            Path(name),
            num_steps=args.workers + args.steps,
            num_workers=args.workers,
            per_step=args.per_step,
            canvas=args.canvas,
        )
        for step, _ in enumerate(loader, start=1):
            if step == args.workers:  # every worker has started
                start = time.perf_counter()
            if step == len(loader):
                took = time.perf_counter() - start
                time.sleep(1)  # until workers have let go of the batches that they sent
                workers = [memory_mb(worker.pid or 0) for worker in multiprocessing.active_children()]
                main = memory_mb(os.getpid())
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = (children.ru_utime + children.ru_stime) / (len(loader) * args.per_step)
    return {
        "storage": storage,
        "records": count,
        "index_s": round(clock[1] - clock[0], 3),
        "index_cpu_s": round(cpu, 3),
        "open_again_s": round(clock[2] - clock[1], 3),
        "conversations_per_s": round(args.steps * args.per_step / took, 1),
        "worker_cpu_ms_per_conversation": round(1000 * worked, 2),
        "main_mb": main,
        "worker_mb": workers,
    }


def main() -> None:
    """Every size in every form."""
    args = parse_arguments()
    rows = []
    for storage in args.storage:
        for count in args.records:
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as fresh:
                rows.append(row := fresh.submit(measure, storage, count, args).result())
            print(row, flush=True)
    write_result(args, {"rows": rows}, headline=headline(rows))


if __name__ == "__main__":
    main()
