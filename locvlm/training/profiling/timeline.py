"""Where the time of a step goes: marks on the device's own time line, each naming what ended there.

    start    embed          images               blocks             loss        backward        optimizer
      |--other--|--tower, adapter--|--language model--|--head, loss--|--backward--|--optimizer--|--other-- ...

The parts add up to the whole. On a GPU a mark is an event in its queue: nothing waits until seconds are read.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

from locvlm.model.locvlm import LocVLM

Part = Literal[
    "data wait", "tower, adapter", "language model", "head, loss", "backward", "optimizer", "other"
]
PARTS: tuple[Part, ...] = get_args(Part)


class Timeline:
    """Marks, and the seconds between them; recorded between `resume` and `pause`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[Part, Any, float | None]] = []  # (what ended there, when, its limit)
        self._is_on = False

    def mark(self, part: Part) -> None:
        """What happened since the last mark was `part`."""
        if self._is_on:
            self._marks.append((part, self._now(), None))

    def pause(self) -> None:
        """Marks are ignored from here on: what is between `pause` and `resume` has one name."""
        self.mark("other")
        self._is_on = False

    def resume(self, part: Part = "other", *, at_most_s: float | None = None) -> None:
        """Go on, or begin. Since the last mark it was `part`, and beyond `at_most_s` seconds `other`."""
        self._is_on = True
        self._marks.append((part, self._now(), at_most_s))

    def read(self) -> dict[Part, float]:
        """Seconds of every part, in all; waits until the device has come this far, and forgets them."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        seconds: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        for (_, before, _), (part, now, limit) in zip(self._marks, self._marks[1:], strict=False):
            passed = self._between(before, now)
            named = passed if limit is None else min(passed, limit)
            seconds[part] += named
            seconds["other"] += passed - named
        self._marks = []
        return seconds

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, before: Any, now: Any) -> float:
        if self._device.type != "cuda":
            return float(now - before)
        return float(before.elapsed_time(now)) / 1000  # it counts in ms


@contextmanager
def watch_forward(model: LocVLM, timeline: Timeline) -> Iterator[None]:
    """Mark the parts of every forward pass of `model`; what stands between them (embedding, mask) is `other`.

    The hooks are on this model alone, and gone afterwards.
    """
    blocks = model.model.language_model
    hooks = [
        model.register_forward_pre_hook(lambda *_: timeline.mark("other")),
        blocks.register_forward_pre_hook(lambda *_: timeline.mark("other")),
        blocks.register_forward_hook(lambda *_: timeline.mark("language model")),
        model.register_forward_hook(lambda *_: timeline.mark("head, loss")),
    ]
    try:
        with (
            watch(model, "get_image_features", timeline, "tower, adapter"),
            watch(model, "_place", timeline, "tower, adapter"),  # videos go another way
        ):
            yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def watch(
    owner: Any, method: str, timeline: Timeline, part: Part, *, before: Part = "other"
) -> Iterator[None]:
    """Mark where `owner.method` starts and ends; on this object alone, and not afterwards."""
    inner: Callable[..., Any] = getattr(owner, method)
    was_its_own = method in vars(owner)

    def marked(*args: Any, **kwargs: Any) -> Any:
        timeline.mark(before)
        result = inner(*args, **kwargs)
        timeline.mark(part)
        return result

    setattr(owner, method, marked)
    try:
        yield
    finally:
        if was_its_own:
            setattr(owner, method, inner)
        else:
            delattr(owner, method)
