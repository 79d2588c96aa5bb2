"""Records with small JPEGs, stored in each way that a source can name, and a loader that reads them."""

import ctypes
import gc
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from locvlm.benchmarks.result import Headline

WIDTH, HEIGHT = 160, 120
PER_SHARD = 10_000
_M_MMAP_THRESHOLD = -3  # malloc.h


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


MAKERS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "lines": make_lines,
    "zip": make_zip,
    "tars": make_tars,
}


def build_loader(
    source: dict[str, Any],
    folder: Path,
    *,
    num_steps: int,
    num_workers: int = 0,
    per_step: int = 64,
    canvas: int = 224,
) -> Any:
    """A loader with real parts over a source, a batch a step; its tokenizer goes into `folder`."""
    from locvlm.coords.contract import CoordinateContract
    from locvlm.data.image import read_pixels
    from locvlm.data.loader import StepLoader
    from locvlm.data.mixture import Source
    from locvlm.data.packing import PackingConfig
    from locvlm.data.steps import StepBuilder, StepShape, open_sources
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

    vision = VisionSpec(canvas=canvas, patch=14)
    contract = CoordinateContract(codec="ivb", frame="stretch", canvas=canvas, patch=14)
    write_tokenizer(WEIGHTS / TOKENIZER_FILE, folder / "tokenizer")
    datasets, mixture = open_sources([Source(name="all", **source)], seed=0, conversations_per_step=per_step)
    builder = StepBuilder(
        mixture=mixture,
        datasets=datasets,
        render=lambda record, epoch: render_record(record, contract, seed=0, epoch=epoch, flip=False),
        open_pixels=open_pixels,
        tokenizer=load_tokenizer(folder / "tokenizer"),
        conversation="vicuna_v1",
        vision=vision,
        packing=PackingConfig(max_row_tokens=2048),
        shape=StepShape(rows_per_pass=per_step),
    )
    return StepLoader(builder, num_steps=num_steps, num_workers=num_workers)


def give_freed_memory_back() -> None:
    """Have this process return what it frees to the system, so that what counts is in use."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**17)


def memory_mb(pid: int) -> dict[str, float]:
    """MB (10^6 bytes) of a process."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    kib = {row[0].rstrip(":"): int(row[1]) for row in rows}
    uss = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"uss": round(uss * 1.024e-3, 1), "rss": round(kib["Rss"] * 1.024e-3, 1)}


def headline(rows: Sequence[dict[str, Any]]) -> list[Headline]:
    """What a loader costs, of each storage that was tried with the most records; what a worker grows by."""
    most, least = (choose(row["records"] for row in rows) for choose in (max, min))
    found = []
    for row in rows:
        name = f"{most:,} records ({row['storage']})"
        few = next(r for r in rows if (r["storage"], r["records"]) == (row["storage"], least))
        if row["records"] != most:
            continue
        used, before = (max(worker["uss"] for worker in r["worker_mb"]) for r in (row, few))
        found += [
            Headline(what=f"{name}: making the index", figure=row["index_cpu_s"], unit="s of the processor"),
            Headline(what=f"{name}: a worker's own memory", figure=used, unit="MB"),
        ]
        if most > least:
            what, than = f"{name}: what a worker's own memory grows by", f"{least:,} records"
            found.append(Headline(what=what, figure=round(used - before, 1), unit="MB", than=than))
    return found
