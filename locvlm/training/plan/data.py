"""How much there is to learn from, and how long it is: counted in the files, or as stated."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import LlavaConfig

from locvlm.coords.contract import CoordinateContract
from locvlm.data.mixture import Mixture, Source
from locvlm.data.objective_filter import SourceData
from locvlm.data.packing import merge_branches
from locvlm.data.shards import expand_shards
from locvlm.data.steps import StepBuilder, StepShape, open_sources
from locvlm.data.tokenize import TokenizedSample, load_tokenizer, tokenize_samples
from locvlm.records import Sample
from locvlm.spec import VisionSpec
from locvlm.training.arguments import CoordsConfig, DataConfig, Stage3Config
from locvlm.training.plan.settings import RunConfig, shape_of_run
from locvlm.training.plan.shapes import ModelShape, StageName
from locvlm.training.stages.data import PixelOpener, Renderer

NUM_MEASURED = 512  # conversations that lengths are taken from
_IMAGE_BYTES = 160e3  # of a file; COCO train2017: 118,287 images in 19 GB
_VIDEO_FILE_BYTES = 20e6  # a guess
_PER_VIDEO = 7.5  # conversations: VideoInstruct100K has 100,010 about 13,303 videos
_VIDEO_BYTES = _VIDEO_FILE_BYTES / _PER_VIDEO


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Means over conversations: an image, or none, with what is asked about it. In tokens."""

    prefix_tokens: float  # text before the image, with BOS; the image itself comes on top
    branches: float  # question-answer pairs, or captions, of an image
    branch_tokens: float  # of one of them
    branch_targets: float  # of these, supervised
    image_fraction: float = 1.0  # conversations that have an image
    image_bytes: float = _IMAGE_BYTES
    video_fraction: float = 0.0  # conversations that have a video
    video_bytes: float = _VIDEO_BYTES  # a conversation's share of a file, which others may be about, too
    source: str = "stated"


# Means of what the builders make of 83 images of COCO 2017, under LLaMA's tokenizer, codec IVB; in stage 1
# of one caption, as CC3M and LCS have it.
ASSUMED: dict[StageName, Lengths] = {
    "stage1": Lengths(prefix_tokens=1, branches=1, branch_tokens=15, branch_targets=15, source="assumed"),
    "stage2": Lengths(prefix_tokens=35, branches=11, branch_tokens=44, branch_targets=12, source="assumed"),
    "stage3": Lengths(  # a guess at one of Video-ChatGPT's pairs
        prefix_tokens=35, branches=1, branch_tokens=130, branch_targets=100, image_fraction=0,
        video_fraction=1, source="assumed",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSize:
    """The mixture of a run."""

    conversations: int  # in an epoch
    lengths: Lengths
    file_bytes: float  # of records, images and videos
    source: str  # how the number of conversations is known
    videos: float = 0.0  # different ones
    videos_source: str = ""  # how their number is known


def missing_files(data: DataConfig) -> list[str]:
    """What is not there yet: files, or shards, with the reason."""
    missing = []
    for source in data.sources:
        try:
            _files_of(source)
        except ValueError as error:
            missing.append(str(error))
    return missing


def _files_of(source: Source) -> list[Path]:
    """The files of a source; ValueError if one is missing."""
    if source.kind == "webdataset":
        return expand_shards(source.path)
    if not Path(source.path).is_file():
        raise ValueError(f"no {source.path}")
    return [Path(source.path)]


def size_of_data(
    data: DataConfig, *, lengths: Lengths, num_samples: int | None, num_videos: int | None = None
) -> DataSize:
    """Conversations of an epoch, and different videos, as stated or counted in the files.

    Raises:
        ValueError: if files are missing and no number is stated.
    """
    for option, number in (("--samples", num_samples), ("--videos", num_videos)):
        if number is not None and number < 1:
            raise ValueError(f"{option} must be at least 1, got {number}")
    if num_samples is not None:
        return _stated_size(lengths, num_samples, num_videos)
    if absent := missing_files(data):
        raise ValueError(
            f"data.sources: {'; '.join(absent)}. Where files are not there yet, state how many conversations "
            f"an epoch has: --samples N"
        )
    datasets, mixture = open_mixture(data, takes_videos=lengths.video_fraction > 0)
    records = sum(path.stat().st_size for source in data.sources for path in _files_of(source))
    num_beside = sum(
        size
        for source, size in zip(data.sources, mixture.sizes, strict=True)
        if source.kind != "webdataset"  # shards hold their images
    )
    videos = len(_different_videos(datasets)) if num_videos is None and lengths.video_fraction else 0
    return DataSize(
        conversations=mixture.epoch_draws,
        lengths=lengths,
        file_bytes=records + num_beside * _shown_bytes(lengths),
        source="counted",
        videos=num_videos or videos,
        videos_source="stated" if num_videos else "counted",
    )


def _stated_size(lengths: Lengths, num_samples: int, num_videos: int | None) -> DataSize:
    file_bytes = num_samples * _shown_bytes(lengths)
    if num_videos is not None:  # else each conversation has its usual share of a video
        file_bytes = num_samples * lengths.image_fraction * lengths.image_bytes
        file_bytes += num_videos * _VIDEO_FILE_BYTES
    usual = num_samples * lengths.video_fraction / _PER_VIDEO
    return DataSize(
        conversations=num_samples,
        lengths=lengths,
        file_bytes=file_bytes,
        source="stated",
        videos=num_videos or usual,
        videos_source="stated" if num_videos else f"assumed: {_PER_VIDEO:g} conversations about each",
    )


def _different_videos(datasets: Sequence[SourceData]) -> set[str]:
    """Their paths; records that cannot be read are left out."""
    paths: set[str] = set()
    for dataset in datasets:
        for index in range(len(dataset)):
            with contextlib.suppress(ValueError):
                paths.add(dataset[index].video or "")
    return paths - {""}


def _shown_bytes(lengths: Lengths) -> float:
    """Of the files of images and videos, for each conversation."""
    return lengths.image_fraction * lengths.image_bytes + lengths.video_fraction * lengths.video_bytes


def choose_lengths(
    config: RunConfig,
    stage: StageName,
    *,
    model: LlavaConfig,
    tokenizer: str | None,
    stated: dict[str, float],
) -> Lengths:
    """What is stated, over what the files say; over what is assumed, where files or tokenizer are missing."""
    folder = Path(tokenizer or config.model.checkpoint)
    has_tokenizer = any((folder / name).is_file() for name in ("tokenizer.model", "tokenizer.json"))
    lengths = ASSUMED[stage]
    if has_tokenizer and not missing_files(config.data):
        lengths = measure_lengths(config, model=model, tokenizer=folder)
    elif tokenizer is not None and not has_tokenizer:
        raise ValueError(f"--tokenizer: {folder} holds no tokenizer.model and no tokenizer.json")
    if any(value <= 0 for value in stated.values()):
        raise ValueError(f"lengths must be above 0, got {stated}")
    return replace(lengths, **stated, source="stated" if stated else lengths.source)  # type: ignore[arg-type]


def open_mixture(data: DataConfig, *, takes_videos: bool) -> tuple[list[SourceData], Mixture]:
    """The sources, and the order in which steps draw from them."""
    return open_sources(
        data.sources,
        seed=data.seed,
        conversations_per_step=data.conversations_per_step,
        takes_videos=takes_videos,
    )


def measure_lengths(config: RunConfig, *, model: LlavaConfig, tokenizer: Path) -> Lengths:
    """Means over the first conversations that a run would draw, as it would tokenize them."""
    data, shape = config.data, shape_of_run(config, model)
    datasets, mixture = open_mixture(data, takes_videos=isinstance(config, Stage3Config))
    vision = VisionSpec(
        canvas=shape.canvas, patch=shape.patch, num_frames=shape.num_frames, pad_frames=shape.pad_frames
    )
    contract = _contract(config.coords, model, shape)
    builder = StepBuilder(
        mixture=mixture,
        datasets=datasets,
        render=Renderer(contract, data),
        open_pixels=PixelOpener(contract, vision),
        tokenizer=load_tokenizer(tokenizer),
        conversation=data.conversation,
        vision=vision,
        packing=config.packing,
        shape=StepShape(),
        max_conversations=min(NUM_MEASURED, mixture.epoch_draws),
    )
    num_steps = math.ceil(min(NUM_MEASURED, mixture.epoch_draws) / data.conversations_per_step)
    samples = [
        merge_branches(sample, config.packing.mode)
        for step in range(num_steps)
        for sample in builder.samples(step)
    ]
    tokenized = tokenize_samples(
        samples,
        builder.tokenizer,
        data.conversation,
        shape.image_tokens,
        num_video_tokens=shape.video_tokens if shape.num_frames else 0,
    )
    return _means(samples, tokenized)


def _contract(coords: CoordsConfig, config: LlavaConfig, shape: ModelShape) -> CoordinateContract:
    """As the run would settle it, with the paper's choice where neither checkpoint nor config says one."""
    ours: dict[str, Any] = getattr(config, "locvlm", None) or {}
    stored = ours.get("contract") or {"codec": "ivb", "frame": "stretch", "location": "bbox"}
    chosen = {
        name: value for name in ("codec", "frame", "location") if (value := getattr(coords, name)) is not None
    }
    return CoordinateContract.from_dict({**stored, **chosen, "canvas": shape.canvas, "patch": shape.patch})


def _means(samples: list[Sample], tokenized: list[TokenizedSample]) -> Lengths:
    if not tokenized:
        raise ValueError("the first conversations of data.sources ask nothing: there is nothing to measure")
    branches = [branch for sample in tokenized for branch in sample.branches]
    images = [Path(sample.image) for sample in samples if sample.image is not None]
    videos = [Path(sample.video) for sample in samples if sample.video is not None]
    sizes = [path.stat().st_size for path in images if path.is_file()]
    video_sizes = [path.stat().st_size for path in set(videos) if path.is_file()]
    text = [len(sample.prefix_ids) - sample.num_visual_tokens for sample in tokenized]
    return Lengths(
        prefix_tokens=fmean(text),
        branches=len(branches) / len(tokenized),
        branch_tokens=fmean(len(branch.ids) for branch in branches),
        branch_targets=fmean(sum(branch.supervised) for branch in branches),
        image_fraction=len(images) / len(samples),
        image_bytes=fmean(sizes) if sizes else _IMAGE_BYTES,
        video_fraction=len(videos) / len(samples),
        video_bytes=sum(video_sizes) / len(videos) if video_sizes else _VIDEO_BYTES,
        source=f"measured on {len(tokenized)} conversations",
    )
