"""All ways on one workload: whether they learn the same, and how fast and in how much memory they do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from locvlm.benchmarks.peers.process import Found, started
from locvlm.benchmarks.peers.workload import OTHERS, OURS, WAYS, Workload
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline
from locvlm.benchmarks.turns import Turns, take_turns

TOLERANCE = 1e-4  # relative, of a loss in fp32
NAMES = {
    "trainer": "transformers' Trainer",
    "trainer_grouped": "transformers' Trainer, grouped by length",
    "trl": "TRL's SFTTrainer",
    "trl_as_on_gpu": "TRL's SFTTrainer, its head as on a GPU",
}
GOALS = {1: 1.3, 8: 5.0}  # pairs of an image -> times as fast as others


@dataclass(frozen=True, kw_only=True)
class Case:
    """What came of a workload."""

    work: Workload
    pairs_per_turn: int
    turns: Turns
    found: Mapping[str, Found]

    def pairs_per_s(self, way: str) -> float:
        """By the median turn."""
        return self.pairs_per_turn / self.turns.median(way)

    def to_json(self) -> dict[str, Any]:
        """Figures of every way."""
        return {
            "pairs_per_image": self.work.pairs_per_image,
            "pairs_per_step": self.work.pairs_per_step,
            "rows_of_ours": self.work.passes,
            "passes_of_others": self.work.pairs_per_step // self.work.pairs_per_pass,
            "ways": {
                way: {
                    "pairs_per_s": self.pairs_per_s(way),
                    "seconds": self.turns.seconds[way],
                    "ours_times_as_fast": self.turns.times_as_fast(OURS, way),
                    "spread": self.turns.spread(OURS, way),
                    "padding_fraction": found.padding_fraction,
                    **asdict(found),
                }
                for way, found in self.found.items()
            },
        }

    def lines(self) -> list[str]:
        """The table."""
        head = f"{_count(self.work.pairs_per_image)} an image"
        lines = [f"{head:<48} pairs/s  ours is  padding  tokens/pair  peak memory"]
        for way, found in self.found.items():
            num_pairs = self.work.num_steps * self.work.pairs_per_step
            lines.append(
                f"  {WAYS[way]:<46} {self.pairs_per_s(way):7.2f}  "
                f"{self.turns.times_as_fast(OURS, way):6.2f}x  {100 * found.padding_fraction:6.1f}%  "
                f"{found.tokens / num_pairs:11.0f}  {found.peak_bytes / 1e9:8.2f} GB"
            )
        return lines


def compare_losses(ways: Sequence[str], work: Workload) -> dict[str, float]:
    """The loss of one step from equal weights, way by way; also that they learn the same tokens.

    Raises:
        ValueError: if they do not agree.
    """
    with started(ways, work, steps_per_turn=work.num_steps) as processes:
        for process in processes.values():
            process.turn()
        found = {way: process.wait() for way, process in processes.items()}
    _require_same_targets(found)
    losses = {way: result.first_loss for way, result in found.items()}
    for way, loss in losses.items():
        if abs(loss - losses[OURS]) > TOLERANCE * losses[OURS]:
            raise ValueError(
                f"{way} has the loss {loss:.6f}, {OURS} {losses[OURS]:.6f}: they differ in what they do"
            )
    return losses


def measure(ways: Sequence[str], work: Workload, *, steps_per_turn: int, warmup: int = 1) -> Case:
    """Time all ways in turns of so many steps, to the end of the training.

    Raises:
        ValueError: if they did not learn the same number of tokens.
    """
    rounds, rest = divmod(work.num_steps, steps_per_turn)
    if rest or rounds <= warmup:
        raise ValueError(f"{work.num_steps} steps are not {warmup} and more turns of {steps_per_turn}")
    with started(ways, work, steps_per_turn=steps_per_turn) as processes:
        turns = take_turns(
            {way: process.turn for way, process in processes.items()}, rounds=rounds - warmup, warmup=warmup
        )
        found = {way: process.wait() for way, process in processes.items()}
    _require_same_targets(found)
    return Case(work=work, pairs_per_turn=steps_per_turn * work.pairs_per_step, turns=turns, found=found)


def headlines(cases: Sequence[Case]) -> list[Headline]:
    """What to quote: how many times as fast as each other way, with the goal where one was set."""
    return [
        Headline(
            f"training on {_count(case.work.pairs_per_image)} an image",
            case.turns.times_as_fast(OURS, way),
            TIMES_AS_FAST,
            than=NAMES[way],
            goal=GOALS.get(case.work.pairs_per_image) if way in OTHERS else None,
        )
        for case in cases
        for way in case.found
        if way != OURS
    ]


def _count(pairs: int) -> str:
    return "1 pair" if pairs == 1 else f"{pairs} pairs"


def _require_same_targets(found: Mapping[str, Found]) -> None:
    numbers = {way: result.supervised for way, result in found.items()}
    if len(set(numbers.values())) != 1:
        raise ValueError(f"the ways do not learn the same number of tokens: {numbers}")
