"""What videos cost in stage 3: steps with live and with kept features, by part; and decoding against decord.

    python scripts/benchmark_video.py --out benchmarks/results/video.json

Makes clips of a minute, then trains the adapter of the embedded world's model on them with train/stage3.py:
decoding and running the tower in every step, or with the features that scripts/cache_video_features.py kept
(making them is timed, too). The two take turns. Steps are the medians of those after the first; parts are
those of RUN/profile. Decoding is some frames of one clip by locvlm.data.video, probing included, and by
decord, which is used for nothing else. Seconds are worth something with nothing else running.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from locvlm.benchmarks.clips import decode, headline, settings, write_clip
from locvlm.benchmarks.result import add_out_option, write_result
from locvlm.io import read_json, read_jsonl, write_json

ROOT = Path(__file__).resolve().parents[1]
ANSWER = "There is a red mug on the left and a green book."


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=60, help="of a clip")
    parser.add_argument("--frames", type=int, default=100, help="of a clip that the model sees")
    parser.add_argument("--steps", type=int, default=9, help="of a training")
    parser.add_argument("--repeats", type=int, default=2, help="trainings of each kind, and decodings / 3")
    add_out_option(parser)
    return parser.parse_args()


def make_data(folder: Path, args: argparse.Namespace) -> None:
    """Clips, a question about each, and the world's model to start from."""
    (folder / "videos").mkdir()
    rows = []
    for number in range(args.clips):
        write_clip(folder / f"videos/v_{number}.mp4", args.seconds, number)
        rows.append({"q": "What is in the video?", "a": ANSWER, "video_id": f"v_{number}"})
    write_json(folder / "instruct.json", rows)
    run("scripts/make_world.py", "--out", folder / "world", "--only", "backbones")
    world = folder / "world"
    parts = {"--llm": world / "llm", "--clip": world / "clip", "--tokenizer": world / "tokenizer"}
    options = {**parts, "--adapter": "mlp", "--codec": "ivb", "--out": folder / "init"}
    run("scripts/init_checkpoint.py", *(word for option in options.items() for word in option))


def train(folder: Path, name: str, *overrides: str) -> dict[str, Any]:
    """One training: the median step, and the parts of a step."""
    out = folder / name
    run("train/stage3.py", "--config", folder / "run.yaml", "--training.output_dir", out, *overrides)
    steps = [row["step_s"] for _, row in read_jsonl(out / "metrics.jsonl") if "step_s" in row][1:]
    parts = read_json(out / "profile/parts.json")["seconds_per_step"]
    return {"step_s": statistics.median(steps), "parts_s": parts}


def run(program: str, *arguments: object) -> float:
    """Run a program of this repository; its seconds."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def main() -> None:
    """Make clips, take turns, print and write."""
    args = parse_arguments()
    rows: dict[str, list[dict[str, Any]]] = {"live": [], "kept": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, args)
        run_settings = settings(folder, frames=args.frames, steps=args.steps)
        write_json(folder / "run.yaml", run_settings)  # JSON is YAML
        decoding = decode(folder / "videos/v_0.mp4", args.frames, 3 * args.repeats)
        kept = ("--data.video_cache", str(folder / "features"))
        making_s = run("scripts/cache_video_features.py", "--config", folder / "run.yaml", *kept)
        for number in range(args.repeats):
            rows["live"].append(train(folder, f"live{number}"))
            rows["kept"].append(train(folder, f"kept{number}", *kept))
    medians = {way: statistics.median(row["step_s"] for row in runs) for way, runs in rows.items()}
    figures = {
        "runs": rows,
        "making_features_s": making_s,
        "step_s": medians,
        "live_against_kept": medians["live"] / medians["kept"],
        "decoding": {**decoding, "ours_against_decord": decoding["ours_s"] / decoding["decord_s"]},
    }
    for way, seconds in medians.items():
        parts = ", ".join(f"{part} {s:.3f}" for part, s in rows[way][-1]["parts_s"].items())
        print(f"{way}: {seconds:.3f} s a step ({parts})")
    print(f"kept features: {figures['live_against_kept']:.1f} times as fast; {figures['decoding']}")
    quoted = headline(figures, vars(args))
    print("\n".join(one.line() for one in quoted))
    write_result(args, figures, headline=quoted)


if __name__ == "__main__":
    main()
