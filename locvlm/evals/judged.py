"""One question with its gold and what its answer says: what every metric is computed from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from locvlm.evals.judging.verdicts import Unjudged, Verdict
from locvlm.evals.parse import Reading
from locvlm.geometry import Box
from locvlm.records import Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One question with its gold and what its answer says."""

    prediction: Prediction
    reading: Reading
    verdict: Verdict | Unjudged | None = (
        None  # of a language model, where the task has a metric that needs it
    )
    says_several: bool = False  # the answer holds several locations, of which the first was read

    @property
    def gold_box(self) -> Box:
        """The true box, source pixels."""
        return Box(*self.prediction.gold["box_px"])

    @property
    def source(self) -> dict[str, Any]:
        """What the data set says about the question, under its own names; see the readers."""
        source: dict[str, Any] = self.prediction.gold.get("source", {})
        return source


def share(rows: Sequence[Judged], is_true: Callable[[Judged], bool]) -> float:
    """The fraction of rows of which something is true; 0 of none."""
    return sum(map(is_true, rows)) / len(rows) if rows else 0.0


class MetricUnavailable(ValueError):
    """A metric needs something that is not here, a program or verdicts; the answers can be scored later."""
