"""Ways to do the same thing, timed in turns: what disturbs the machine for a while disturbs all alike."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Turns:
    """Seconds that each way took, round by round."""

    seconds: dict[str, list[float]]

    def median(self, way: str) -> float:
        """Seconds; the middle of all rounds."""
        return median(self.seconds[way])

    def times_as_fast(self, way: str, than: str) -> float:
        """How many times as fast as another way, by medians."""
        return self.median(than) / self.median(way)

    def spread(self, way: str, than: str) -> tuple[float, float]:
        """The least and the greatest of that ratio within a round: how far to trust it."""
        ratios = [b / a for a, b in zip(self.seconds[way], self.seconds[than], strict=True)]
        return min(ratios), max(ratios)

    def against(self, than: str) -> dict[str, dict[str, Any]]:
        """For a result: median and seconds of each way, and how many times as fast as `than` it is."""
        return {
            way: {
                "median_s": self.median(way),
                "times_as_fast": self.times_as_fast(way, than),
                "spread": self.spread(way, than),
                "seconds": taken,
            }
            for way, taken in self.seconds.items()
        }


def take_turns(
    ways: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    warmup: int = 1,
    synchronize: Callable[[], None] | None = None,
) -> Turns:
    """Run every way once a round, in order; rounds that warm up are not counted.

    Args:
        ways: name -> what is timed. What it returns is let go before the next one begins.
        synchronize: waits for a GPU, within the time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(warmup + rounds):
        for name, run in ways.items():
            gc.collect()  # here rather than within somebody's time
            start = time.perf_counter()
            run()
            if synchronize is not None:
                synchronize()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return Turns(seconds)
