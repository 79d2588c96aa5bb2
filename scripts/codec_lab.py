"""What each coordinate codec costs on your boxes, before anything is trained.

    python scripts/codec_lab.py --instances instances_val2017.json --tokenizer DIR --canvas 224 --out DIR

Writes codec_lab.json, codec_lab.md and codec_lab.png: error of writing and reading back, IoU ceiling by COCO
size class, tokens per location; for LocVLM's nfp, ivb and diga, and for those of other systems, as bbox and
as point. Minutes for a file as large as COCO's train split.
"""

import argparse
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from locvlm.annotations.coco import read_instances
from locvlm.coords.codec import CODECS
from locvlm.coords.contract import CoordinateContract
from locvlm.coords.lab import SIZE_CLASSES, as_table, measure, summarise
from locvlm.geometry import FrameMode
from locvlm.io import Ledger, atomic_writer, write_json
from locvlm.records import LocationKind

LEAD = "It is located at"  # what stands before a location, so that tokens count as they do in an answer
LOCATIONS = get_args(LocationKind)
COLORS = ("#4477aa", "#ccbb44", "#aa3377", "#66ccee", "#228833", "#ee6677", "#bbbbbb")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=Path, required=True, help="COCO-format instances JSON")
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="folder of the language model's tokenizer"
    )
    parser.add_argument("--canvas", type=int, default=224, help="side of the model input, pixels")
    parser.add_argument("--patch", type=int, default=14, help="side of a patch, pixels")
    parser.add_argument("--frame", choices=get_args(FrameMode), default="stretch")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--max-dropped-fraction", type=float, default=0.05, help="unusable boxes tolerated")
    return parser.parse_args()


def token_counter(folder: Path) -> Callable[[str], int]:
    """Location text -> the tokens it adds to an answer."""
    from locvlm.data.tokenize import load_tokenizer  # takes seconds: after the boxes are known to be good

    tokenizer = load_tokenizer(folder)

    @functools.cache
    def count(text: str) -> int:
        lead, full = (tokenizer(t, add_special_tokens=False).input_ids for t in (LEAD, f"{LEAD} {text}"))
        return len(full) - len(lead)

    return count


def draw(results: list[dict[str, Any]], title: str, path: Path) -> None:
    """IoU ceiling by size class, error, and tokens per location."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(12, 12), layout="constrained")
    top, middle, bottom = axes
    boxes = [row for row in results if row["location"] == "bbox"]
    for row in boxes:
        known = [(at, row["iou"][name]) for at, name in enumerate(SIZE_CLASSES) if row["iou"][name]]
        at = _bars(top, row["codec"], [(at, ceiling["mean"]) for at, ceiling in known], "{:.3f}")
        top.scatter(at, [c["p05"] for _, c in known], marker="_", s=320, color="black", label="5% are below")
    counts = [(boxes[0]["iou"][name] or {"num_boxes": 0})["num_boxes"] for name in SIZE_CLASSES]
    top.set_xticks(range(3), [f"{name}\n{n} boxes" for name, n in zip(SIZE_CLASSES, counts, strict=True)])
    top.set(title="IoU ceiling by object size", ylim=(0, 1.12))
    for panel, key, digits in ((middle, "error_px", "{:.2f}"), (bottom, "tokens", "{:.1f}")):
        for row in results:
            _bars(panel, row["codec"], [(LOCATIONS.index(row["location"]), row[key]["mean"])], digits)
        panel.set_xticks(range(2), LOCATIONS)
        panel.margins(y=0.12)
    middle.set_title("Mean error, source pixels")
    bottom.set_title("Tokens per location")
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    named = dict(zip(*reversed(top.get_legend_handles_labels()), strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=8, frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def _bars(axes: Any, codec: str, heights: list[tuple[int, float]], digits: str) -> list[float]:
    """One codec's bars at whole positions, set side by side with the other codecs'; where they stand."""
    place, width = CODECS.index(codec), 0.9 / len(CODECS)
    at = [position + width * (place - len(CODECS) // 2) for position, _ in heights]
    bars = axes.bar(at, [h for _, h in heights], width=0.93 * width, color=COLORS[place], label=codec)
    axes.bar_label(bars, [digits.format(height) for _, height in heights], padding=2, fontsize=8)
    return at


def main() -> None:
    """Read, measure every codec and location kind, write and print."""
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    contracts = [
        CoordinateContract(codec=codec, frame=args.frame, location=kind, canvas=args.canvas, patch=args.patch)
        for codec in CODECS
        for kind in LOCATIONS
    ]
    ledger = Ledger("annotations")
    images = list(read_instances(args.instances, ledger))
    ledger.require_dropped_at_most(args.max_dropped_fraction)
    if not any(not item.is_crowd for image in images for item in image.objects):
        raise ValueError(f"{args.instances}: no object to locate among {len(images)} images")
    count_tokens = token_counter(args.tokenizer)

    results = []
    for contract in contracts:
        name = {"codec": contract.codec, "location": contract.location}
        progress = tqdm(images, desc=" ".join(name.values()), disable=None)
        measured = measure(progress, contract, count_tokens)
        if not measured.tokens:
            raise ValueError(f"the frame {args.frame!r} shows none of the objects; try --frame stretch")
        results.append({**name, "max_error": contract.build_codec().max_error, **summarise(measured)})

    args.out.mkdir(parents=True, exist_ok=True)
    settings = {name: str(v) if isinstance(v, Path) else v for name, v in vars(args).items()}
    write_json(
        args.out / "codec_lab.json",
        {"settings": settings, "annotations": ledger.to_dict(), "results": results},
    )
    title = f"{args.instances.name}, frame {args.frame}, canvas {args.canvas}, patch {args.patch}"
    table = as_table(results)
    summary = (
        f"{results[0]['num_locations']} objects, "
        f"{results[0]['num_invisible']} more that the frame does not show. "
        f"Ceilings: what a model scores that writes every box as well as the codec can."
    )
    with atomic_writer(args.out / "codec_lab.md") as out:
        out.write(f"# Codec lab: {title}\n\n{summary}\n\n{table}\n")
    draw(results, title, args.out / "codec_lab.png")
    print(f"{title}\n{summary}\n\n{table}")


if __name__ == "__main__":
    main()
