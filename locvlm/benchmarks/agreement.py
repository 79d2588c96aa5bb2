"""Do two ways to compute a step give one loss and the same gradients? Asked before any of them is timed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}  # relative
# of the longest gradient: shorter ones are small sums of large numbers, and are held against this
_SMALL = 1e-3


@dataclass(frozen=True)
class Outcome:
    """Of one pass."""

    loss: float
    gradients: dict[str, torch.Tensor]


def outcome_of(model: nn.Module, batch: Mapping[str, Any]) -> Outcome:
    """Loss and gradients of what trains; the model is left without gradients."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return Outcome(float(loss.detach()), gradients)


@dataclass(frozen=True)
class Difference:
    """Of two outcomes, relative: of the losses; of the gradient that differs most, by its length."""

    loss: float
    gradients: float

    @property
    def most(self) -> float:
        """The larger of the two; NaN if one is."""
        return _largest([self.loss, self.gradients])


def difference(got: Outcome, plain: Outcome) -> Difference:
    """How far `got` is from the plain twin.

    Raises:
        ValueError: if they have gradients of other parameters.
    """
    if got.gradients.keys() != plain.gradients.keys():
        odd = sorted(got.gradients.keys() ^ plain.gradients.keys())
        raise ValueError(f"only one of the two ways has a gradient of {', '.join(odd)}")
    lengths = {name: _length(gradient) for name, gradient in plain.gradients.items()}
    floor = _SMALL * max(lengths.values())
    return Difference(
        loss=abs(got.loss - plain.loss) / abs(plain.loss),
        gradients=_largest(
            [
                _length(got.gradients[name] - expected) / max(lengths[name], floor)
                for name, expected in plain.gradients.items()
            ]
        ),
    )


def _largest(values: Sequence[float]) -> float:
    """As `max`, which passes over a NaN that is not the first."""
    return float(torch.tensor(values, dtype=torch.float64).max())


def _length(gradient: torch.Tensor) -> float:
    return float(gradient.norm(dtype=torch.float64))


def require_agreement(way: str, found: Difference, dtype: torch.dtype) -> None:
    """Stop where a way computes something else.

    Raises:
        ArithmeticError: naming the way, the difference and what is tolerated.
    """
    if not found.most <= TOLERANCE[dtype]:  # never true of a NaN
        raise ArithmeticError(
            f"{way} differs from its plain twin by {found.loss:.1e} in the loss and {found.gradients:.1e} in "
            f"the gradients, expected at most {TOLERANCE[dtype]:.0e} in {dtype}; its time is worth nothing"
        )
