"""How fast data is prepared, from JPEG and JSON to batch, part by part, on one core; how long training waits.

    python scripts/benchmark_input.py --demo runs/demo --out benchmarks/results/input.json
    python scripts/benchmark_input.py --coco data/coco --tokenizer checkpoints/llama

Records are Localize-Instruct's, of the images of --coco, or of scenes that are drawn for it. Text is timed
per question-answer pair, pictures per image, at 224 and 336 pixels. With --demo, what scripts/demo.sh has
left, its second stage runs some steps with and without a process that prepares data.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from locvlm.benchmarks.pipeline.options import add_source_options
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline, add_out_option, write_result

SCENES, TOY_SCENES = 200, 8


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_source_options(parser)
    parser.add_argument("--demo", type=Path, help="the demo's folder: its second stage is run, too")
    parser.add_argument("--demo-steps", type=int, default=60)
    parser.add_argument("--demo-workers", type=int, nargs="+", default=[0, 1], help="runs: processes of each")
    parser.add_argument("--rounds", type=int, default=5, help="of each part")
    parser.add_argument("--toy", action="store_true", help="a few scenes, to see that it works")
    add_out_option(parser)
    return parser.parse_args()


def measure_parts(args: argparse.Namespace) -> dict[str, Any]:
    """Text, images and whole steps, by canvas."""
    from locvlm.benchmarks.pipeline.reading import time_images, time_steps, time_text
    from locvlm.benchmarks.pipeline.source import open_source

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LOCVLM_CACHE"] = str(folder / "cache")
        source = open_source(args, folder / "scenes", scenes=TOY_SCENES if args.toy else SCENES)
        found["text_us_per_pair"] = time_text(source, folder, canvas=224, rounds=args.rounds)
        for canvas in (224, 336):
            found[f"images_ms_{canvas}"] = time_images(source.paths(), canvas=canvas, rounds=args.rounds)
            found[f"steps_{canvas}"] = time_steps(source, folder, canvas=canvas, rounds=args.rounds)
    return found


def headlines(found: dict[str, Any]) -> list[Headline]:
    """What is quoted; the goal is the demo's as it is shipped."""
    from locvlm.benchmarks.pipeline.demo_wait import shipped_workers

    text = found["text_us_per_pair"]
    per_second = 1e6 / (text["render"] + text["tokenize"])
    lines = [
        Headline("text rendered and tokenized, a core", per_second, "pairs/s", goal=20_000),
        Headline(
            "tokenizing by words known before",
            text["tokenize whole"] / text["tokenize"],
            TIMES_AS_FAST,
            than="whole texts",
        ),
    ]
    for canvas in (224, 336):
        what = f"JPEG to batch at {canvas} pixels, a worker"
        lines.append(Headline(what, found[f"steps_{canvas}"]["conversations_per_s"], "images/s"))
    for workers, run in found.get("demo", {}).items():
        what = f"waiting for data in the demo's stage 2, data.num_workers {workers}"
        goal = 0.02 if int(workers) == shipped_workers() else None
        lines.append(Headline(what, run["wait_fraction"], "of a step", goal=goal, limit="<="))
    return lines


def main() -> None:
    """Measure, print, write."""
    args = parse_arguments()

    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in a worker
    found = measure_parts(args)
    torch.set_num_threads(threads)
    if args.demo is not None:
        from locvlm.benchmarks.pipeline.demo_wait import measure_demo

        found["demo"] = {
            str(workers): measure_demo(args.demo, steps=args.demo_steps, workers=workers)
            for workers in args.demo_workers
        }
    for name, figures in found.items():
        for part, figure in figures.items():
            print(f"{name:18} {part:22} {figure if isinstance(figure, dict) else round(figure, 3)}")
    quoted = headlines(found)
    print("\n".join(one.line() for one in quoted))
    write_result(args, found, headline=quoted)


if __name__ == "__main__":
    main()
