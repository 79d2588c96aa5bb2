"""Weighted sources in one deterministic order that any step can be read from directly.

The order is a pure function of the seed, the sources and the position. A source of weight w gives round(w *
n) of its n samples to every epoch: it walks through a fresh shuffle of its samples pass by pass, so weight 1
shows each sample exactly once per epoch, 0.5 one half in this epoch and the other in the next, 2 each twice.
Within an epoch the sources alternate evenly, so that every step has about the mixture's shares.

Each source has its own order, which does not change when other sources are added.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locvlm.records import Objective

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One data file of a mixture, or one set of tar shards."""

    name: str  # unique; it takes part in the seed of the source's order
    path: str  # of shards a pattern: "shards/{00000..00099}.tar", "shards/*.tar"
    kind: Literal["records", "llava", "webdataset"] = "records"
    image_root: str = "."  # a folder, or a zip: "images.zip", "images.zip/train"
    video_root: str = "."  # a folder
    objectives: tuple[Objective, ...] | None = None  # of records: ask these alone; null: all that they hold
    weight: float = 1.0  # passes over the source per epoch
    from_step: int = 0  # the first step that draws from it
    until_step: int | None = None  # the first step that no longer does; None: to the end

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(
                f"source {self.name!r}: weight must be greater than 0, got {self.weight}; "
                f"leave the source out instead"
            )
        if self.from_step < 0 or (self.until_step is not None and self.until_step <= self.from_step):
            raise ValueError(
                f"source {self.name!r}: expected 0 <= from_step < until_step, "
                f"got {self.from_step} and {self.until_step}"
            )
        if self.objectives is not None and (self.kind == "llava" or not self.objectives):
            raise ValueError(
                f"source {self.name!r}: objectives choose among the queries of records, got "
                f"{list(self.objectives)} for kind {self.kind}; name one or more, or leave the setting out"
            )


class Draw(NamedTuple):
    """One sample of the order."""

    source: int  # position in the list of sources
    item: int  # which of its samples
    epoch: int  # the source's own pass, from 0: wording is drawn anew in each


@dataclass(frozen=True, slots=True)
class _Phase:
    """Steps in which the same sources are active. S sources, T draws in an epoch."""

    first_step: int
    pattern: NDArray[np.int16]  # (T,) which source gives each draw of an epoch
    ranks: IntArray  # (T,) how many draws of that source came before it in the epoch
    counts: IntArray  # (S,) draws per source in one epoch
    before: IntArray  # (S,) draws per source in the phases before


class Mixture:
    """Draws of every step, for sources of the given sizes.

    Example:
        mixture = Mixture([Source(name="coco", path="a.jsonl")], [1000], seed=0, conversations_per_step=64)
        mixture.step(17)  # 64 draws, the same whenever and wherever it is asked for

    Raises:
        ValueError: if names are not unique, or no source is active in some step.
    """

    def __init__(
        self, sources: Sequence[Source], sizes: Sequence[int], *, seed: int, conversations_per_step: int
    ) -> None:
        names = [source.name for source in sources]
        if not sources or len(set(names)) != len(names):
            raise ValueError(f"expected at least one source, each with a name of its own, got {names}")
        if conversations_per_step < 1:
            raise ValueError(f"conversations_per_step must be at least 1, got {conversations_per_step}")
        self.sources = tuple(sources)
        self.sizes = tuple(sizes)
        self.seed = seed
        self.conversations_per_step = conversations_per_step
        self._orders: dict[tuple[int, int], IntArray] = {}  # (source, pass) -> permutation, the latest few
        self._phases  # noqa: B018 (made here, so that sources that make no sense are refused)

    def __getstate__(self) -> dict[str, Any]:
        """Without what grows with the data. It is made again where draws are asked for; no worker does."""
        return {name: value for name, value in self.__dict__.items() if name != "_phases"} | {"_orders": {}}

    @property
    def has_schedule(self) -> bool:
        """Whether some source is not active in every step, so that "an epoch" has no single meaning."""
        return len(self._phases) > 1 or self.last_step is not None

    @property
    def last_step(self) -> int | None:
        """The number of steps there are draws for; None if there is no end."""
        ends = [source.until_step for source in self.sources]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def epoch_draws(self) -> int:
        """Conversations in one epoch, of the sources active at the first step."""
        return len(self._phases[0].pattern)

    def epoch_at(self, step: int) -> int:
        """Epochs completed before `step`, counted since the sources last changed."""
        phase = self._phase_of(step)
        return (step - phase.first_step) * self.conversations_per_step // len(phase.pattern)

    def step(self, step: int) -> list[Draw]:
        """The draws of one step, in order. Costs the same for every step.

        Raises:
            ValueError: for a step after every source has ended.
        """
        if step < 0 or (self.last_step is not None and step >= self.last_step):
            raise ValueError(f"the sources have no draws at step {step}: they end at step {self.last_step}")
        phase = self._phase_of(step)
        first = (step - phase.first_step) * self.conversations_per_step
        return [self._draw(phase, first + i) for i in range(self.conversations_per_step)]

    def state(self, step: int) -> dict[str, Any]:
        """Where the order stands before `step`, and what it depends on, as plain JSON values."""
        sources = [
            {
                "name": source.name,
                "size": size,
                "weight": source.weight,
                "from_step": source.from_step,
                "until_step": source.until_step,
            }
            for source, size in zip(self.sources, self.sizes, strict=True)
        ]
        return {
            "seed": self.seed,
            "epoch": self.epoch_at(step),
            "step": step,
            "conversations_per_step": self.conversations_per_step,
            "sources": sources,
        }

    def require_same_order(self, state: dict[str, Any]) -> None:
        """Raise ValueError if a saved `state` belongs to another order, naming what differs."""
        own = self.state(state["step"])
        for name in ("seed", "conversations_per_step", "sources"):
            if state.get(name) != own[name]:
                raise ValueError(
                    f"cannot go on in the data where the saved run stopped: its {name} is {state.get(name)}, "
                    f"now it is {own[name]}; restore it, or start a new run"
                )

    def _draw(self, phase: _Phase, number: int) -> Draw:
        epoch, position = divmod(number, len(phase.pattern))
        source = int(phase.pattern[position])
        nth = int(phase.before[source]) + epoch * int(phase.counts[source]) + int(phase.ranks[position])
        number_of_pass, place = divmod(nth, self.sizes[source])
        return Draw(source, int(self._order(source, number_of_pass)[place]), number_of_pass)

    def _order(self, source: int, number_of_pass: int) -> IntArray:
        key = (source, number_of_pass)
        if key not in self._orders:
            if len(self._orders) > 2 * len(
                self.sources
            ):  # a step touches at most two passes of a large source
                self._orders.clear()
            name = zlib.crc32(self.sources[source].name.encode())
            rng = np.random.default_rng([self.seed, name, number_of_pass])
            self._orders[key] = rng.permutation(self.sizes[source])
        return self._orders[key]

    def _phase_of(self, step: int) -> _Phase:
        return next(phase for phase in reversed(self._phases) if phase.first_step <= step)

    @cached_property
    def _phases(self) -> list[_Phase]:
        ends = {source.until_step for source in self.sources if source.until_step is not None}
        starts = sorted({0, *(source.from_step for source in self.sources), *ends})
        phases: list[_Phase] = []
        for first_step in starts:
            if first_step == self.last_step:
                break
            pattern = self._pattern(first_step)
            before = np.zeros(len(self.sources), dtype=np.int64)
            if phases:
                draws = (first_step - phases[-1].first_step) * self.conversations_per_step
                before = phases[-1].before + _count_draws(phases[-1], draws)
            counts = np.bincount(pattern, minlength=len(self.sources))
            phases.append(_Phase(first_step, pattern, _ranks(pattern), counts, before))
        return phases

    def _pattern(self, step: int) -> NDArray[np.int16]:
        """(T,) the source of each draw of an epoch; draw j of a source's c draws stands at (j + 1/2) / c."""
        active = [
            (i, max(1, round(source.weight * size)))
            for i, (source, size) in enumerate(zip(self.sources, self.sizes, strict=True))
            if source.from_step <= step and (source.until_step is None or step < source.until_step)
        ]
        if not active:
            raise ValueError(
                f"no source is active at step {step}; correct from_step and until_step of "
                f"{[source.name for source in self.sources]}"
            )
        places = np.concatenate([(np.arange(count) + 0.5) / count for _, count in active])
        owners = np.repeat(np.array([i for i, _ in active], dtype=np.int16), [count for _, count in active])
        return owners[np.argsort(places, kind="stable")]


def _count_draws(phase: _Phase, draws: int) -> IntArray:
    """(S,) how many of a phase's first `draws` draws each source gives."""
    epochs, rest = divmod(draws, len(phase.pattern))
    return epochs * phase.counts + np.bincount(phase.pattern[:rest], minlength=len(phase.counts))


def _ranks(pattern: NDArray[np.int16]) -> IntArray:
    """(T,) how often the source of each draw appeared before it: [0, 1, 0, 0] -> [0, 0, 1, 2]."""
    ranks = np.empty(len(pattern), dtype=np.int64)
    for source in np.unique(pattern):
        where = pattern == source
        ranks[where] = np.arange(int(where.sum()))
    return ranks
