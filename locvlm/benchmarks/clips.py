"""Clips of a minute, a run of stage 3 on them, and decoding them by two libraries."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from locvlm.benchmarks.result import TIMES_AS_FAST, Headline
from locvlm.benchmarks.turns import take_turns

WIDTH, HEIGHT, RATE = 320, 240, 25


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


def settings(folder: Path, *, frames: int, steps: int) -> dict[str, Any]:
    """A run of stage 3 that trains the adapter, four clips a step."""
    source = {"name": "clips", "path": str(folder / "instruct.json"), "kind": "llava"}
    return {
        "trains": "adapter",
        "model": {"checkpoint": str(folder / "init"), "attn_implementation": "tree"},
        "video": {"num_frames": frames},
        "data": {
            "conversations_per_step": 4,
            "conversation": "vicuna_v1",
            "num_workers": 0,
            "sources": [{**source, "video_root": str(folder / "videos")}],
        },
        "profile": {"steps": max(1, steps // 3), "after": 1},
        "training": {
            "output_dir": str(folder / "run"),
            "max_steps": steps,
            "logging_steps": 1,
            "save_strategy": "no",
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-3,
            "bf16": True,
            "report_to": "none",
        },
    }


def decode(clip: Path, frames: int, rounds: int) -> dict[str, float]:
    """Seconds for the frames of one clip, medians of rounds that take turns."""
    import decord

    from locvlm.data.video import probe_video, read_frames, uniform_indices

    indices = uniform_indices(probe_video(clip), frames)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: [f.image for f in read_frames(clip, indices, info=probe_video(clip))],
        "decord": lambda: decord.VideoReader(str(clip)).get_batch(indices).asnumpy(),
    }
    turns = take_turns(ways, rounds=rounds, warmup=0)
    return {f"{name}_s": turns.median(name) for name in ways}


def headline(figures: dict[str, Any], settings: dict[str, Any]) -> list[Headline]:
    """What kept features gain, and decoding beside decord."""
    clips = f"{settings['frames']} frames of a {settings['seconds']} s clip"
    gained, decoding = figures["live_against_kept"], figures["decoding"]["ours_against_decord"]
    step = f"a step of stage 3 with kept features, {clips}"
    return [
        Headline(what=step, figure=gained, unit=TIMES_AS_FAST, than="decoding in every step", goal=3),
        Headline(
            what=f"decoding {clips}", figure=decoding, unit="of the time", than="decord", goal=1.2, limit="<="
        ),
    ]
