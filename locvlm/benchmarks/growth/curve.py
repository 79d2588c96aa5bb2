"""What one growth benchmark finds: lines over what grows, and where the time goes at both ends of each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Line = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Lines over the same axis."""

    title: str
    x: str  # what grows, for the axis
    y: str  # what is measured, with its unit
    lines: Mapping[str, Line]  # name -> (x, y), by growing x
    shares: dict[str, dict[str, float]] = field(default_factory=dict)  # "line, x" -> kind of work -> share
    more: dict[str, Any] = field(default_factory=dict)  # seconds of rounds, and figures beside the lines

    def __post_init__(self) -> None:
        for name, line in self.lines.items():
            if not line or [x for x, _ in line] != sorted({x for x, _ in line}):
                raise ValueError(f"{self.title}: {name} needs points of growing x, got {line}")

    def at(self, name: str, x: float) -> float:
        """What a line says at one of its points."""
        return dict(self.lines[name])[x]

    def ends(self, name: str) -> tuple[float, float]:
        """The first and the last x of a line."""
        line = self.lines[name]
        return line[0][0], line[-1][0]

    def table(self) -> list[str]:
        """For the terminal: a line each, then what takes the time at its ends."""
        told = [f"{self.title}: {self.y}, by {self.x}"]
        for name, line in self.lines.items():
            told.append(f"  {name:28}" + "  ".join(f"{x:g}: {y:.4g}" for x, y in line))
        for where, shares in self.shares.items():
            told.append(f"  {where:28}" + ", ".join(f"{kind} {part:.0%}" for kind, part in shares.items()))
        return told

    def to_json(self) -> dict[str, Any]:
        """For the result."""
        return asdict(self)
