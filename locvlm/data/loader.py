"""The step plan, carried out: what one rank feeds to its model, micro-batch by micro-batch.

A step is a fixed number of conversations in the mixture's order. Every rank reads, renders, tokenizes and
packs the *whole* step (text is cheap), takes its own rows, and opens only its own images and videos. So the
content of a step depends on neither the number of ranks nor of worker processes, and any step can be read
without the ones before.

The main process draws, and sends a step's draws to the worker that prepares it: permutations of the data sets
exist once for each rank, and the memory of a worker does not grow with the data.
"""

import logging
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from locvlm.data.clips import VideoSizeMismatch, blank_frames
from locvlm.data.collate import Visual, collate
from locvlm.data.image import SizeMismatch, UnreadableImage
from locvlm.data.mixture import Draw, Mixture, Source
from locvlm.data.objective_filter import SourceData, open_source
from locvlm.data.packing import PackingConfig, StepPlan, Tree, merge_branches, plan_step
from locvlm.data.quarantine import Dropped, Quarantine
from locvlm.data.tokenize import tokenize_samples
from locvlm.data.video import UnreadableVideo
from locvlm.io import Ledger
from locvlm.records import Record, Sample
from locvlm.spec import VisionSpec

logger = logging.getLogger(__name__)

_FEW = 10  # records of a source that are looked at when it is opened
_ENOUGH_TO_JUDGE = 1000  # conversations before the share of dropped ones is compared with its limit as it is

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


class StepLoader:
    """Iterates over the micro-batches of one rank, from `first_step` to the end of the run.

    Its length is the number of micro-batches of the whole run: `num_steps` x accumulation. `num_workers`
    processes prepare whole steps ahead; their number changes nothing about the result.

    Args:
        quarantine: is told every conversation that this rank drops.
        num_steps: steps of the run, or
        epochs: passes over the mixture; the last step is shorter if they do not divide. Every conversation of
            a source with weight 1 then comes exactly `epochs` times.

    Raises:
        ValueError: while iterating, once more than `max_dropped_fraction` of the conversations was dropped:
            images or videos that cannot be read, malformed records, what is longer than a row or cut away.
            For the first 1000 it is a share of those 1000 (or of the run, if it is shorter), so that one bad
            image does not stop a run at once, and a wrong image folder does.
    """

    def __init__(
        self,
        builder: StepBuilder,
        *,
        rank: int = 0,
        num_steps: int | None = None,
        epochs: float | None = None,
        num_workers: int = 0,
        max_dropped_fraction: float = 0.0,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.num_steps, max_conversations = _run_length(builder.mixture, num_steps, epochs)
        self.builder = replace(builder, max_conversations=max_conversations)
        self.rank = rank
        self.num_workers = num_workers
        self.max_dropped_fraction = max_dropped_fraction
        self.quarantine = quarantine
        self.ledger = Ledger("training data")  # conversations of this rank
        self.num_left_out = 0  # queries of all ranks whose objects the frame cuts
        self.first_step = 0

    def __len__(self) -> int:
        return self.num_steps * self.builder.shape.accumulation

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.num_workers:  # forked tokenizers are serial anyway; unset, each worker warns about it
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        items = DataLoader(
            _Steps(self.builder, self.rank),
            batch_size=None,
            sampler=_Draws(self.builder, range(self.first_step, self.num_steps)),
            num_workers=self.num_workers,
            collate_fn=_unchanged,
            generator=torch.Generator(),  # or it would draw from the global one, and resumed runs differ
            worker_init_fn=_outlive_warnings,
        )
        for item in items:
            self._account_for(item)
            yield from item.batches

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which the mixture is seen once."""
        mixture = self.builder.mixture
        return mixture.epoch_draws / mixture.conversations_per_step

    def ids_of_step(self, step: int) -> list[str]:
        """The conversations that a step (from 0) is made of."""
        return [sample.id for sample in self.builder.samples(step)]

    def seek(self, step: int) -> None:
        """Let the next iteration start at `step` (optimizer steps, from 0). Reads nothing.

        Raises:
            ValueError: if the run has no such step.
        """
        if not 0 <= step <= self.num_steps:
            raise ValueError(f"cannot go to step {step} of a run with {self.num_steps} steps")
        self.first_step = step

    def state_dict(self, step: int) -> dict[str, Any]:
        """The state after `step` optimizer steps, as plain JSON values."""
        return self.builder.mixture.state(step)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where a saved run stopped; any number of ranks and workers may go on from there.

        Raises:
            ValueError: if seed, sources or conversations per step are not those of the saved run.
        """
        self.builder.mixture.require_same_order(state)
        self.seek(state["step"])

    def _account_for(self, item: StepItem) -> None:
        for dropped in item.dropped:
            self.ledger.drop(dropped.sample_id, dropped.reason, dropped.detail)
            if self.quarantine is not None:
                self.quarantine.add(dropped, step=item.step + 1)
        self.ledger.keep(item.num_kept)
        self.num_left_out += item.num_left_out
        shape, mixture = self.builder.shape, self.builder.mixture
        planned = self.num_steps * mixture.conversations_per_step / shape.world_size
        seen = self.ledger.num_kept + self.ledger.num_dropped
        allowed = self.max_dropped_fraction * max(seen, min(planned, _ENOUGH_TO_JUDGE))
        if self.ledger.num_dropped > allowed:
            self.ledger.require_dropped_at_most(self.max_dropped_fraction)


def _outlive_warnings(worker: int) -> None:
    """Have a worker go on when all of a run's processes are told to leave: its rank decides when that is."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class _Draws(Sampler[tuple[int, list[Draw]]]):
    """(step, its draws) of every step; iterated over in the main process."""

    def __init__(self, builder: StepBuilder, steps: range) -> None:
        self.builder = builder
        self.steps = steps

    def __iter__(self) -> Iterator[tuple[int, list[Draw]]]:
        for step in self.steps:
            yield step, self.builder.draws(step)

    def __len__(self) -> int:
        return len(self.steps)


class _Steps(Dataset[StepItem]):
    def __init__(self, builder: StepBuilder, rank: int) -> None:
        self.builder = builder
        self.rank = rank

    def __getitem__(self, step_and_draws: tuple[int, list[Draw]]) -> StepItem:
        step, draws = step_and_draws
        return self.builder.build(step, self.rank, draws)


def _unchanged(item: Any) -> Any:
    return item


def _run_length(mixture: Mixture, num_steps: int | None, epochs: float | None) -> tuple[int, int | None]:
    """(steps, conversations at which the last one ends or None for a full one)."""
    if (num_steps is None) == (epochs is None):
        raise ValueError(f"expected either num_steps or epochs, got {num_steps} and {epochs}")
    if num_steps is not None:
        if mixture.last_step is not None and num_steps > mixture.last_step:
            raise ValueError(
                f"the run has {num_steps} steps, but every source ends by step {mixture.last_step}; "
                f"leave until_step of one source empty"
            )
        return num_steps, None
    if mixture.has_schedule:
        raise ValueError("sources with from_step or until_step have no epoch; give the number of steps")
    total = round(mixture.epoch_draws * float(epochs or 0))
    if total < 1:
        raise ValueError(f"epochs must be greater than 0, got {epochs}")
    return math.ceil(total / mixture.conversations_per_step), total
