"""What a step holds: built from its number alone, the part of one rank.

A step is a fixed number of conversations in the mixture's order. Every rank reads, renders, tokenizes and
packs the *whole* step (text is cheap), takes its own rows, and opens only its own images and videos. So the
content of a step depends on neither the number of ranks nor of worker processes, and any step can be read
without the ones before.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from locvlm.data.clips import VideoSizeMismatch, blank_frames
from locvlm.data.collate import Visual, collate
from locvlm.data.image import SizeMismatch, UnreadableImage
from locvlm.data.mixture import Draw, Mixture, Source
from locvlm.data.objective_filter import SourceData, open_source
from locvlm.data.packing import PackingConfig, StepPlan, Tree, merge_branches, plan_step
from locvlm.data.quarantine import Dropped
from locvlm.data.tokenize import tokenize_samples
from locvlm.data.video import UnreadableVideo
from locvlm.records import Record, Sample
from locvlm.spec import VisionSpec

logger = logging.getLogger(__name__)

_FEW = 10  # records of a source that are looked at when it is opened

Render = Callable[[Record, int], Sample]  # (record, epoch) -> its text, the same whenever it is asked for
# -> an image's pixels, or a clip's frames or features; raises UnreadableImage or UnreadableVideo
OpenPixels = Callable[[Sample], Visual]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepShape:
    """How a step is divided: accumulation passes of `rows_per_pass` rows on each of `world_size` ranks."""

    world_size: int = 1
    accumulation: int = 1
    rows_per_pass: int = 1

    def __post_init__(self) -> None:
        if min(self.world_size, self.accumulation, self.rows_per_pass) < 1:
            raise ValueError(f"world_size, accumulation and rows_per_pass must be at least 1, got {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepItem:
    """What one rank gets of one step, and what happened to the conversations it was responsible for."""

    step: int
    batches: list[dict[str, Any]]  # one per accumulation pass
    num_kept: int
    dropped: tuple[Dropped, ...]
    num_left_out: int  # queries of all ranks that rendering left out: their objects are cut by the frame


@dataclass(frozen=True, kw_only=True, slots=True)
class _Text:
    """The conversations of a step that were read and rendered, and those that gave nothing."""

    samples: list[Sample]
    sources: list[str]  # name of each sample's source
    dropped: list[Dropped]
    num_left_out: int  # queries that rendering left out


@dataclass(frozen=True, kw_only=True)
class StepBuilder:
    """Builds any step for any rank; a pure function of its fields."""

    mixture: Mixture
    datasets: Sequence[SourceData]
    render: Render
    open_pixels: OpenPixels
    tokenizer: PreTrainedTokenizerBase
    conversation: str  # format name, see `data/prompt.py`
    vision: VisionSpec
    packing: PackingConfig
    shape: StepShape
    max_conversations: int | None = None  # of the whole run: cuts its last step short

    def draws(self, step: int) -> list[Draw]:
        """What the mixture gives to a step, as far as the run goes."""
        draws = self.mixture.step(step)
        if self.max_conversations is not None:
            draws = draws[: max(0, self.max_conversations - step * self.mixture.conversations_per_step)]
        return draws

    def samples(self, step: int) -> list[Sample]:
        """The conversations of a step as text, those without anything to ask left out."""
        return self._read(self.draws(step)).samples

    def plan(self, samples: Sequence[Sample]) -> StepPlan:
        """The rows of a step."""
        merged = [merge_branches(sample, self.packing.mode) for sample in samples]
        return plan_step(
            tokenize_samples(
                merged,
                self.tokenizer,
                self.conversation,
                self.vision.num_image_tokens,
                num_video_tokens=self.vision.num_video_tokens if self.vision.num_frames else 0,
            ),
            self.packing,
            accumulation=self.shape.accumulation,
            rows_per_accumulation=self.shape.world_size * self.shape.rows_per_pass,
            pad_token_id=self._pad_token_id,
        )

    def build(self, step: int, rank: int, draws: Sequence[Draw] | None = None) -> StepItem:
        """The micro-batches of `rank`, with the images and videos of its rows opened.

        `draws` are those of the step, where somebody has drawn already.
        """
        text = self._read(self.draws(step) if draws is None else draws)
        samples = text.samples
        plan = self.plan(samples)
        own = plan.rows_of(rank, self.shape.rows_per_pass)
        trees = [tree for rows in own for row in rows for tree in row if tree.sample_index >= 0]
        pixels, failed = self._open_visuals(samples, trees)
        batches = [
            collate(
                rows,
                pixels=pixels,
                failed=failed,
                pad_token_id=self._pad_token_id,
                num_targets=plan.num_targets,
            )
            for rows in own
        ]
        dropped = [Dropped(samples[i].id, text.sources[i], *why) for i, why in failed.items()]
        nowhere = [
            Dropped(samples[i].id, text.sources[i], "longer than a row", why) for i, why in plan.dropped
        ]
        nowhere += text.dropped
        dropped += nowhere[rank :: self.shape.world_size]  # in nobody's rows: each counted by one rank
        num_kept = len({tree.sample_index for tree in trees} - failed.keys())
        return StepItem(
            step=step,
            batches=batches,
            num_kept=num_kept,
            dropped=tuple(dropped),
            num_left_out=text.num_left_out,
        )

    def _read(self, draws: Sequence[Draw]) -> _Text:
        text = _Text(samples=[], sources=[], dropped=[], num_left_out=0)
        num_left_out = 0
        for draw in draws:
            source = self.mixture.sources[draw.source].name
            try:
                item = self.datasets[draw.source][draw.item]
            except ValueError as error:  # its text is wrong, on every rank alike; what cannot be read, raises
                text.dropped.append(Dropped(f"entry {draw.item}", source, "malformed record", str(error)))
                continue
            sample = item if isinstance(item, Sample) else self.render(item, draw.epoch)
            if isinstance(item, Record):
                num_left_out += len(item.queries) - len(sample.branches)
            if sample.branches:
                text.samples.append(sample)
                text.sources.append(source)
            else:
                why = "the frame cuts all its objects"
                text.dropped.append(Dropped(sample.id, source, "nothing left to ask", why))
        return replace(text, num_left_out=num_left_out)

    @property
    def _pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    def _open_visuals(
        self, samples: Sequence[Sample], trees: Sequence[Tree]
    ) -> tuple[dict[int, Visual], dict[int, tuple[str, str]]]:
        """Every image and video once, and (reason, detail) where it is only zeros."""
        visuals: dict[int, Visual] = {}
        failed: dict[int, tuple[str, str]] = {}
        for index in sorted({tree.sample_index for tree in trees if tree.has_image}):
            try:
                visuals[index] = self.open_pixels(samples[index])
            except UnreadableImage as error:
                is_other = isinstance(error, SizeMismatch)
                failed[index] = ("image of another size" if is_other else "unreadable image", str(error))
                visuals[index] = np.zeros((3, self.vision.canvas, self.vision.canvas), dtype=np.float32)
            except UnreadableVideo as error:
                is_other = isinstance(error, VideoSizeMismatch)
                failed[index] = ("video of another size" if is_other else "unreadable video", str(error))
                visuals[index] = blank_frames(self.vision)
        return visuals, failed


def open_sources(
    sources: Sequence[Source], *, seed: int, conversations_per_step: int, takes_videos: bool = False
) -> tuple[list[SourceData], Mixture]:
    """The data sets of the sources and the order in which steps draw from them.

    Where videos are not taken, records and conversations about them are malformed.

    Raises:
        ValueError: for a file that is missing, empty or cut off, or of another kind than its source says.
    """
    datasets = [open_source(source, takes_videos=takes_videos) for source in sources]
    for dataset in datasets:
        _require_some_readable(dataset)
    sizes = [len(dataset) for dataset in datasets]
    for source, size in zip(sources, sizes, strict=True):
        logger.info(
            "source %s: %d conversations of %s, weight %g", source.name, size, source.path, source.weight
        )
    return datasets, Mixture(sources, sizes, seed=seed, conversations_per_step=conversations_per_step)


def _require_some_readable(dataset: SourceData) -> None:
    """Raise what is wrong with the first record if the next few are no better: then it is the file."""
    errors = []
    for index in range(min(_FEW, len(dataset))):
        try:
            dataset[index]
            return
        except ValueError as error:
            errors.append(error)
    raise errors[0]
