"""Memory and speed of the data loader, by the number of records and by how they are stored.

    python scripts/benchmark_data.py --records 10000 1000000 --out benchmarks/results/data.json

Writes records with small JPEGs to a temporary folder in each way that a source can name (lines: JSON Lines
and a folder; zip: LLaVA JSON and images.zip; tars: shards), makes the index, opens it again from the cache,
and lets workers prepare steps as in training. Memory is what a process has for itself alone (USS) and what is
resident in all (RSS) when the last step comes; a worker has then touched all that it inherited. Seconds are
worth something with nothing else running, CPU seconds always.
"""

import argparse
import ctypes
import gc
import io
import json
import multiprocessing
import os
import resource
import tarfile
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from locvlm.io import write_json
from locvlm.runs import environment

WIDTH, HEIGHT = 160, 120
PER_SHARD = 10_000
M_MMAP_THRESHOLD = -3  # malloc.h


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
    parser.add_argument("--out", type=Path, help="JSON to write; the table is printed in any case")
    return parser.parse_args()


def picture() -> bytes:
    """A JPEG."""
    from PIL import Image

    Image.radial_gradient("L").resize((WIDTH, HEIGHT)).convert("RGB").save(file := io.BytesIO(), "JPEG")
    return file.getvalue()


def record(number: int, image: str) -> str:
    """A line with three questions."""
    box = [number % 80, number % 60, number % 80 + 40, number % 60 + 30]
    asked = [("locpred", "dog", box), ("negpred", "cat", None), ("revloc", "dog", box)]
    queries = [{"objective": name, "phrase": phrase, "box_px": box} for name, phrase, box in asked]
    values = {"id": f"r{number}", "image": image, "width": WIDTH, "height": HEIGHT, "queries": queries}
    return json.dumps(values)


def conversation(number: int) -> str:
    """A LLaVA entry with an image of its own."""
    turns = [{"from": "human", "value": "<image>\nDescribe it."}, {"from": "gpt", "value": "A dog on grass."}]
    return json.dumps({"id": f"c{number}", "image": f"{number}.jpg", "conversations": turns})


def make_lines(folder: Path, count: int) -> dict[str, Any]:
    """records.jsonl and a folder with one image."""
    (folder / "0.jpg").write_bytes(picture())
    with open(folder / "records.jsonl", "w") as file:
        file.writelines(f"{record(n, '0.jpg')}\n" for n in range(count))
    return {"path": str(folder / "records.jsonl"), "image_root": str(folder)}


def make_zip(folder: Path, count: int) -> dict[str, Any]:
    """chat.json, one array, and images.zip, as CC3M-595K is published."""
    (folder / "chat.json").write_text(f"[{', '.join(conversation(n) for n in range(count))}]")
    data = picture()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for n in range(count):
            archive.writestr(f"{n}.jpg", data)
    return {"path": str(folder / "chat.json"), "image_root": str(folder / "images.zip"), "kind": "llava"}


def make_tars(folder: Path, count: int) -> dict[str, Any]:
    """Shards of ten thousand records with their images."""
    data = picture()
    for first in range(0, count, PER_SHARD):
        with tarfile.open(folder / f"{first // PER_SHARD:05}.tar", "w") as tar:
            for n in range(first, min(count, first + PER_SHARD)):
                for name, content in ((f"{n:09}.jpg", data), (f"{n:09}.json", record(n, "x").encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return {"path": str(folder / "*.tar"), "kind": "webdataset"}


MAKERS = {"lines": make_lines, "zip": make_zip, "tars": make_tars}


def build_loader(source: dict[str, Any], args: argparse.Namespace, folder: Path) -> Any:
    """A loader with real parts over a source, a batch a step."""
    from locvlm.coords.contract import CoordinateContract
    from locvlm.data.image import read_pixels
    from locvlm.data.loader import StepBuilder, StepLoader, StepShape, open_sources
    from locvlm.data.mixture import Source
    from locvlm.data.packing import PackingConfig
    from locvlm.data.tokenize import load_tokenizer
    from locvlm.objectives.render import render_record
    from locvlm.spec import VisionSpec
    from locvlm.world.backbones import TOKENIZER_FILE, WEIGHTS, write_tokenizer

    has_touched: set[int] = set()

    def open_pixels(sample: Any) -> Any:
        if os.getpid() not in has_touched:
            has_touched.add(os.getpid())
            gc.collect()  # looks at every inherited object, which copies its page
        return read_pixels(sample.image, mode="stretch", vision=vision)

    vision = VisionSpec(canvas=args.canvas, patch=14)
    contract = CoordinateContract(codec="ivb", frame="stretch", canvas=args.canvas, patch=14)
    write_tokenizer(WEIGHTS / TOKENIZER_FILE, folder / "tokenizer")
    datasets, mixture = open_sources(
        [Source(name="all", **source)], seed=0, conversations_per_step=args.per_step
    )
    builder = StepBuilder(
        mixture=mixture,
        datasets=datasets,
        render=lambda record, epoch: render_record(record, contract, seed=0, epoch=epoch, flip=False),
        open_pixels=open_pixels,
        tokenizer=load_tokenizer(folder / "tokenizer"),
        conversation="vicuna_v1",
        vision=vision,
        packing=PackingConfig(max_row_tokens=2048),
        shape=StepShape(rows_per_pass=args.per_step),
    )
    return StepLoader(builder, num_steps=args.workers + args.steps, num_workers=args.workers)


def memory_mb(pid: int) -> dict[str, float]:
    """MB (10^6 bytes) of a process."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    kib = {row[0].rstrip(":"): int(row[1]) for row in rows}
    uss = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"uss": round(uss * 1.024e-3, 1), "rss": round(kib["Rss"] * 1.024e-3, 1)}


def measure(storage: str, count: int, args: argparse.Namespace) -> dict[str, Any]:
    """Make the data, open it twice, run the steps."""
    from locvlm.data.dataset import FileDataset

    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**17)  # freed images go back, so that what counts is in use
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        os.environ["LOCVLM_CACHE"] = f"{name}/cache"
        (folder := Path(name) / "data").mkdir()
        source = MAKERS[storage](folder, count)
        clock, cpu = [time.perf_counter()], time.process_time()
        FileDataset(**source)
        clock, cpu = [*clock, time.perf_counter()], time.process_time() - cpu
        FileDataset(**source)
        clock.append(time.perf_counter())
        loader = build_loader(source, args, Path(name))
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
    if args.out:
        cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "")
        settings = {name: value for name, value in vars(args).items() if name not in ("folder", "out")}
        software = {name: value for name, value in environment().items() if name not in ("argv", "seeds")}
        machine = {**software, "cpu": cpu, "cores": len(os.sched_getaffinity(0))}
        write_json(args.out, {"settings": settings, "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
