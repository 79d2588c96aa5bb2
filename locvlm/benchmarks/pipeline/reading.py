"""Where the time of preparing data goes, part by part, and what a worker makes of it in a second."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from locvlm.benchmarks.pipeline.source import CONVERSATION, PATCH, Source
from locvlm.data.dataset import FileDataset
from locvlm.data.image import load_image, normalise, normalised_levels, on_canvas, prepare_image, read_pixels
from locvlm.data.mixture import Source as MixtureSource
from locvlm.data.packing import PackingConfig, plan_step
from locvlm.data.steps import StepBuilder, StepShape, open_sources
from locvlm.data.tokenize import tokenize_samples
from locvlm.geometry import plan_steps
from locvlm.io import write_records
from locvlm.objectives.render import render_record
from locvlm.spec import VisionSpec

CONVERSATIONS, ROWS = 64, 64  # of a step: with a row for each all of them fit


def time_text(source: Source, folder: Path, *, canvas: int, rounds: int) -> dict[str, float]:
    """Microseconds per question-answer pair, by part; words have been seen before, as soon in a run.

    `tokenize whole` is what `tokenize` does without its memory of words.
    """
    records, contract = source.records, source.contract(canvas)
    write_records(folder / "records.jsonl", records)
    lines = FileDataset(path=str(folder / "records.jsonl"))
    samples, num_tokens = source.samples(canvas), (canvas // PATCH) ** 2
    tokenized = source.tokenized(canvas)
    num_pairs = sum(len(record.queries) for record in records)

    def tokenize(by_words: bool) -> None:
        tokenize_samples(samples, source.tokenizer, CONVERSATION, num_tokens, by_words=by_words)

    parts: dict[str, Callable[[], Any]] = {
        "read": lambda: [lines[index] for index in range(len(lines))],
        "render": lambda: [render_record(record, contract, seed=0, epoch=0) for record in records],
        "tokenize": lambda: tokenize(True),
        "tokenize whole": lambda: tokenize(False),
        "pack": lambda: [
            plan_step(
                tokenized[start : start + CONVERSATIONS],
                PackingConfig(),
                accumulation=1,
                rows_per_accumulation=ROWS,
                pad_token_id=0,
            )
            for start in range(0, len(tokenized), CONVERSATIONS)
        ],
    }
    return {name: 1e6 * _seconds(part, rounds) / num_pairs for name, part in parts.items()}


def time_images(paths: Sequence[Path], *, canvas: int, rounds: int) -> dict[str, float]:
    """Milliseconds per image, by part. `normalise plainly` computes what `normalise` looks up."""
    vision = VisionSpec(canvas=canvas, patch=PATCH)
    images = [load_image(path) for path in paths]
    steps = {mode: [plan_steps(mode, image.size, canvas) for image in images] for mode in ("stretch", "pad")}
    shown = [on_canvas(image, plan, vision) for image, plan in zip(images, steps["stretch"], strict=True)]
    small = [Image.fromarray(levels) for levels in shown]
    normalised_levels(vision)

    def resize(mode: str) -> None:
        for image, plan in zip(images, steps[mode], strict=True):
            on_canvas(image, plan, vision)

    parts: dict[str, Callable[[], Any]] = {
        "decode": lambda: [load_image(path) for path in paths],
        "stretch": lambda: resize("stretch"),
        "pad": lambda: resize("pad"),
        "normalise": lambda: [prepare_image(image, (), vision) for image in small],
        "normalise plainly": lambda: [
            normalise(levels, vision).transpose(2, 0, 1).copy() for levels in shown
        ],
    }
    return {name: 1e3 * _seconds(part, rounds) / len(images) for name, part in parts.items()}


def time_steps(source: Source, folder: Path, *, canvas: int, rounds: int) -> dict[str, float]:
    """A worker's conversations a second, from JPEG and JSON to micro-batches, and the share of collating."""
    vision, contract = VisionSpec(canvas=canvas, patch=PATCH), source.contract(canvas)
    path = folder / f"records_{canvas}.jsonl"
    write_records(path, source.records)
    number = min(CONVERSATIONS, len(source.records))
    datasets, mixture = open_sources(
        [MixtureSource(name="all", path=str(path), image_root=str(source.image_root))],
        seed=0,
        conversations_per_step=number,
    )
    builder = StepBuilder(
        mixture=mixture,
        datasets=datasets,
        render=lambda record, epoch: render_record(record, contract, seed=0, epoch=epoch),
        open_pixels=lambda sample: read_pixels(str(sample.image), mode="stretch", vision=vision),
        tokenizer=source.tokenizer,
        conversation=CONVERSATION,
        vision=vision,
        packing=PackingConfig(),
        shape=StepShape(rows_per_pass=number),
    )
    builder.build(0, rank=0)
    taken = [_once(partial(builder.build, step, 0)) for step in range(1, 1 + rounds)]
    pairs = sum(len(record.queries) for record in source.records) / len(source.records)
    per_second = number / median(taken)
    return {"conversations_per_s": per_second, "pairs_per_s": pairs * per_second}


def _seconds(part: Callable[[], Any], rounds: int) -> float:
    part()
    return median(_once(part) for _ in range(rounds))


def _once(part: Callable[[], Any]) -> float:
    start = time.perf_counter()
    part()
    return time.perf_counter() - start
