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

import numpy as np

from locvlm.io import write_json
from locvlm.runs import environment

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES, NUM_THEMES = 80, 12
MEAN_CLASSES, MOST_CLASSES = 3.7, 8  # drawn for an image; some are the same, and some images are too empty
NUM_POLYGONS, MEAN_POINTS = 4000, 25  # different polygons, and their mean number of points
CHUNK = 50_000
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
    parser.add_argument("--out", type=Path, help="JSON to write; the rows are printed in any case")
    return parser.parse_args()


# ---- the file


def write_instances(path: Path, num_images: int, num_instances: int, *, seed: int = 0) -> None:
    """A COCO instances file, as COCO writes them, of images that are nowhere.

    Near COCO's figures: 2.6 classes an image (COCO 2.9), 89,405 images with a class that is there once
    (95,899 in PRefCOCO), one class in half of the images. An image has a theme, so that some classes stand
    beside each other more often than by chance.
    """
    rng = np.random.default_rng(seed)
    polygons = make_polygons(rng)
    image_ids = np.sort(rng.choice(5 * num_images, num_images, replace=False)) + 1
    crowded = rng.gamma(2.5, size=num_images)
    owners = np.sort(rng.choice(num_images, num_instances, p=crowded / crowded.sum()))
    classes = draw_classes(rng, owners, num_images)
    corner, side = rng.random((num_instances, 2)) * 0.8, 0.02 + 0.18 * rng.random((num_instances, 2)) ** 2
    boxes = np.round(np.concatenate([corner, side], axis=1) * [640, 480, 640, 480], 2)
    crowd = rng.random(num_instances) < 0.012
    outlines = np.array(polygons, dtype=object)[rng.integers(len(polygons), size=num_instances)]
    ids = rng.permutation(num_instances) + 1
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {"description": "made up"},"licenses": [],"images": [')
        file.write(",".join(image_entry(n) for n in image_ids.tolist()))
        file.write('],"annotations": [')
        for start in range(0, num_instances, CHUNK):
            part = slice(start, start + CHUNK)
            columns = (outlines, image_ids[owners], classes, crowd, ids)
            rows = zip(*(column[part].tolist() for column in columns), boxes[part].tolist(), strict=True)
            file.write("," * bool(start) + ",".join(annotation_entry(*row) for row in rows))
        names = (f'{{"supercategory": "s","id": {k + 1},"name": "class {k}"}}' for k in range(NUM_CLASSES))
        file.write(f'],"categories": [{",".join(names)}]}}')


def make_polygons(rng: np.random.Generator) -> list[str]:
    """Outlines as JSON, with as many points as COCO's have on average, a few very long ones among them."""
    counts = 4 + rng.gamma(0.9, (MEAN_POINTS - 4) / 0.9, NUM_POLYGONS).astype(int)
    return [str([np.round(rng.random(2 * count) * 640, 2).tolist()]) for count in counts]


def draw_classes(rng: np.random.Generator, owners: np.ndarray, num_images: int) -> np.ndarray:
    """A class for every instance, of images `owners` (sorted): a few to an image, mostly once, one often."""
    frequency = 1 / (np.arange(NUM_CLASSES) + 8.0)
    frequency[0] = 0.3 * frequency[1:].sum()
    anywhere = rng.choice(NUM_CLASSES, (num_images, MOST_CLASSES), p=frequency / frequency.sum())
    in_theme = anywhere - anywhere % NUM_THEMES + rng.integers(NUM_THEMES, size=(num_images, 1))
    keeps_theme = (rng.random(anywhere.shape) < 0.7) & (anywhere > 0) & (in_theme < NUM_CLASSES)
    table = np.where(keeps_theme, in_theme, anywhere)  # images x the classes in them
    number = np.minimum(1 + rng.poisson(MEAN_CLASSES - 1, num_images), MOST_CLASSES)[owners]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)  # of an instance in its image
    often = np.where(rng.random(len(owners)) < 0.85, 0, rng.integers(number))
    return table[owners, np.where(place < number, place, often)]


def annotation_entry(
    polygon: str, image: int, label: int, is_crowd: bool, number: int, box: list[float]
) -> str:
    """An entry of "annotations"."""
    return (
        f'{{"segmentation": {polygon},"area": {box[2] * box[3] / 2},"iscrowd": {int(is_crowd)},'
        f'"image_id": {image},"bbox": {box},"category_id": {label + 1},"id": {number}}}'
    )


def image_entry(number: int) -> str:
    """An entry of "images"."""
    url = f"http://images.cocodataset.org/train2017/{number:012}.jpg"
    return (
        f'{{"license": 3,"file_name": "{number:012}.jpg","coco_url": "{url}","height": 480,"width": 640,'
        f'"date_captured": "2013-11-14 11:18:45","flickr_url": "{url}","id": {number}}}'
    )


# ---- the runs


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
        size_mb = round(instances.stat().st_size / 1e6, 1)
    if args.out:
        software = {name: value for name, value in environment().items() if name not in ("argv", "seeds")}
        cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "")
        machine = {**software, "cpu": cpu, "cores": len(os.sched_getaffinity(0))}
        settings = {"images": args.images, "instances": args.instances, "file_mb": size_mb}
        write_json(args.out, {"settings": settings, "machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
