"""What videos cost in stage 3: steps with live and with kept features, by part; and decoding against decord.

    python scripts/benchmark_video.py --out benchmarks/results/video.json

Makes clips of a minute, then trains the adapter of the embedded world's model on them with train/stage3.py:
decoding and running the tower in every step, or with the features that scripts/cache_video_features.py kept
(making them is timed, too). The two take turns. Steps are the medians of those after the first; parts are
those of RUN/profile. Decoding is some frames of one clip by locvlm.data.video, probing included, and by
decord, which is used for nothing else. Seconds are worth something with nothing else running.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from locvlm.io import read_json, read_jsonl, write_json
from locvlm.runs import environment

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, RATE = 320, 240, 25
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
    parser.add_argument("--out", type=Path, help="JSON to write; the table is printed in any case")
    return parser.parse_args()


def write_clip(path: Path, seconds: int, seed: int) -> None:
    """An H.264 clip of coloured squares that wander to the right."""
    import av
    import numpy as np

    colors = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3))
    picture = colors.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(seconds * RATE):
            frame: Any = av.VideoFrame.from_ndarray(np.roll(picture, number, axis=1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


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


def settings(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """A run of stage 3 that trains the adapter, four clips a step."""
    source = {"name": "clips", "path": str(folder / "instruct.json"), "kind": "llava"}
    return {
        "trains": "adapter",
        "model": {"checkpoint": str(folder / "init"), "attn_implementation": "tree"},
        "video": {"num_frames": args.frames},
        "data": {
            "conversations_per_step": 4,
            "conversation": "vicuna_v1",
            "num_workers": 0,
            "sources": [{**source, "video_root": str(folder / "videos")}],
        },
        "profile": {"steps": max(1, args.steps // 3), "after": 1},
        "training": {
            "output_dir": str(folder / "run"),
            "max_steps": args.steps,
            "logging_steps": 1,
            "save_strategy": "no",
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-3,
            "bf16": True,
            "report_to": "none",
        },
    }


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
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    if done.returncode:
        raise RuntimeError(f"{program} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def decode(clip: Path, frames: int, rounds: int) -> dict[str, float]:
    """Seconds for the frames of one clip, medians of rounds that take turns."""
    import decord

    from locvlm.data.video import probe_video, read_frames, uniform_indices

    indices = uniform_indices(probe_video(clip), frames)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: [f.image for f in read_frames(clip, indices, info=probe_video(clip))],
        "decord": lambda: decord.VideoReader(str(clip)).get_batch(indices).asnumpy(),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, read in ways.items():
            start = time.perf_counter()
            read()
            taken[name].append(time.perf_counter() - start)
    return {f"{name}_s": statistics.median(seconds) for name, seconds in taken.items()}


def main() -> None:
    """Make clips, take turns, print and write."""
    args = parse_arguments()
    rows: dict[str, list[dict[str, Any]]] = {"live": [], "kept": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder, args)
        write_json(folder / "run.yaml", settings(folder, args))  # JSON is YAML
        decoding = decode(folder / "videos/v_0.mp4", args.frames, 3 * args.repeats)
        kept = ("--data.video_cache", str(folder / "features"))
        making_s = run("scripts/cache_video_features.py", "--config", folder / "run.yaml", *kept)
        for number in range(args.repeats):
            rows["live"].append(train(folder, f"live{number}"))
            rows["kept"].append(train(folder, f"kept{number}", *kept))
    medians = {way: statistics.median(row["step_s"] for row in runs) for way, runs in rows.items()}
    result = {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "machine": {**environment(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "runs": rows,
        "making_features_s": making_s,
        "step_s": medians,
        "live_against_kept": medians["live"] / medians["kept"],
        "decoding": {**decoding, "ours_against_decord": decoding["ours_s"] / decoding["decord_s"]},
    }
    for way, seconds in medians.items():
        parts = ", ".join(f"{part} {s:.3f}" for part, s in rows[way][-1]["parts_s"].items())
        print(f"{way}: {seconds:.3f} s a step ({parts})")
    print(f"kept features: {result['live_against_kept']:.1f} times as fast; {result['decoding']}")
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
