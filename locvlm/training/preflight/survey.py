"""What the data will do: steps from all over the run are read, tokenized and packed, without their images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from locvlm import dist
from locvlm.data.image import UnreadableImage
from locvlm.data.mixture import Draw
from locvlm.data.packing import StepPlan, Tree
from locvlm.data.steps import StepBuilder
from locvlm.data.video import UnreadableVideo
from locvlm.records import Sample

NUM_STEPS = 64  # that are looked at
NUM_IMAGES = 64  # that are opened
_EXAMPLES = 3  # of each kind of problem


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFacts:
    """One step, over all ranks."""

    step: int
    longest_row: int  # tokens
    tokens: int
    slots: int  # tokens with the padding of their pass
    images: int
    targets: int
    pairs: int  # (query, key) that may see each other, roughly: prefix and branches squared
    dense_pairs: int  # of rows, padded
    videos: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What was found in some steps; alike on all ranks."""

    steps: tuple[StepFacts, ...]
    problems: tuple[str, ...]  # steps that would stop the run
    num_dropped: int  # conversations, of `num_conversations`
    num_conversations: int
    num_images: int  # opened
    image_problems: tuple[str, ...]

    @property
    def heaviest(self) -> list[int]:
        """Steps by their longest row, the longest first."""
        return [facts.step for facts in sorted(self.steps, key=lambda f: (-f.longest_row, f.step))]

    def of_step(self, step: int) -> StepFacts | None:
        """What was found in a step; None if nobody looked."""
        return next((facts for facts in self.steps if facts.step == step), None)


@dataclass(frozen=True, kw_only=True)
class ChosenSteps(StepBuilder):
    """A builder whose first steps are those of `order`, then the usual ones."""

    order: tuple[int, ...] = ()

    def draws(self, step: int) -> list[Draw]:
        """Of the step that stands at this place."""
        return super().draws(self.order[step] if step < len(self.order) else step)


def spread(num_steps: int, count: int) -> list[int]:
    """At most `count` steps, evenly from the first to the last."""
    return sorted({int(step) for step in np.linspace(0, num_steps - 1, min(count, num_steps))})


def survey(builder: StepBuilder, steps: Sequence[int], *, num_images: int = NUM_IMAGES) -> Survey:
    """Look at `steps`; each rank looks at its share. Every rank has to call this."""
    world, own = dist.world_size(), list(steps)[dist.rank() :: dist.world_size()]
    facts, problems, image_problems = [], [], []
    num_conversations = num_dropped = num_opened = 0
    for step in own:
        try:
            samples = builder.samples(step)
            plan = builder.plan(samples)
        except ValueError as error:
            problems.append(f"step {step}: {error}")
            continue
        drawn = len(builder.draws(step))
        num_conversations += drawn
        num_dropped += drawn - len(samples) + len(plan.dropped)
        facts.append(_facts(step, plan, builder.shape.world_size * builder.shape.rows_per_pass))
        for sample in _with_image(samples):
            if num_opened * world >= num_images:
                break
            num_opened += 1
            image_problems += _try_image(builder, sample)
    mine = Survey(
        steps=tuple(facts),
        problems=tuple(problems),
        num_dropped=num_dropped,
        num_conversations=num_conversations,
        num_images=num_opened,
        image_problems=tuple(image_problems),
    )
    return _merge(gather(mine))


def gather(value: Any) -> list[Any]:
    """The values of all ranks, in order, on every rank."""
    values: list[Any] = [value] * dist.world_size()
    if dist.world_size() > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def _merge(parts: Sequence[Survey]) -> Survey:
    first = parts[0]
    for part in parts[1:]:
        first = replace(
            first,
            **{
                name: getattr(first, name) + getattr(part, name)
                for name in ("steps", "problems", "num_dropped", "num_conversations", "num_images")
            },
            image_problems=first.image_problems + part.image_problems,
        )
    return first


def _facts(step: int, plan: StepPlan, rows_per_pass: int) -> StepFacts:
    longest = [[sum(tree.num_tokens for tree in row) for row in rows] for rows in plan.passes]
    padded = [max(sizes) for sizes in longest]
    trees = [tree for rows in plan.passes for row in rows for tree in row]
    return StepFacts(
        step=step,
        longest_row=max(padded),
        tokens=sum(map(sum, longest)),
        slots=sum(rows_per_pass * size for size in padded),
        images=sum(tree.has_image and not tree.has_video for tree in trees),
        videos=sum(tree.has_video for tree in trees),
        targets=sum(len(tree.target_ids) for tree in trees),
        pairs=sum(map(_pairs, trees)),
        dense_pairs=sum(rows_per_pass * size**2 for size in padded),
    )


def _pairs(tree: Tree) -> int:
    """As `tree` attention computes them, were all branches of a tree as long as they are."""
    prefix, *branches = np.bincount(tree.branch_ids).tolist()
    return int(prefix**2 + sum(size * (prefix + size) for size in branches))


def _with_image(samples: Sequence[Sample]) -> Iterator[Sample]:
    return (sample for sample in samples if sample.image is not None or sample.video is not None)


def _try_image(builder: StepBuilder, sample: Sample) -> list[str]:
    try:
        builder.open_pixels(sample)
    except (UnreadableImage, UnreadableVideo) as error:
        return [f"{sample.id}: {error}"]
    return []
