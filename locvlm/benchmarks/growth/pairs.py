"""More pairs about an image: behind one prefix, and each behind its own copy."""

from collections.abc import Sequence

from locvlm.benchmarks.gpu.cases import Attention
from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.growth.operators import shares_by_kind
from locvlm.benchmarks.growth.steps import Batches, draw, require_equal, row_by_row, step, trained_model
from locvlm.benchmarks.peers.workload import ModelSizes
from locvlm.benchmarks.result import TIMES_AS_FAST, Headline
from locvlm.benchmarks.turns import take_turns
from locvlm.data.packing import Mode
from locvlm.model.locvlm import LocVLM
from locvlm.training.plan.flops import flops_by_direction, total_flops
from locvlm.training.plan.loads import executed_load
from locvlm.training.plan.shapes import Scope, shape_of

MODES: dict[str, Mode] = {"shared prefix": "shared_prefix", "separate": "separate"}
ROW_TOKENS = 2048  # of a pass, so that passes of all ways are about as large
MEASURED, COUNTED = "measured", "by counting operations"


def measure_pairs(
    numbers: Sequence[int], *, sizes: ModelSizes, images: int, rounds: int, attention: Attention = "tree"
) -> Curve:
    """How many times as fast a shared prefix is, by the pairs of an image.

    Raises:
        ValueError: if losses differ, so that not the same was computed.
    """
    model = trained_model(sizes)
    batches = {
        (name, number): row_by_row(draw(model, images=images, pairs=number), mode=mode, row_tokens=ROW_TOKENS)
        for number in numbers
        for name, mode in MODES.items()
    }
    steps = {key: step(model, batch, attention) for key, batch in batches.items()}
    losses = {key: run() for key, run in steps.items()}
    for number in numbers:
        require_equal({name: losses[name, number] for name in MODES})
    ways = {f"{name} {number}": run for (name, number), run in steps.items()}
    turns = take_turns(ways, rounds=rounds, warmup=0)
    flops = {key: step_flops(model, batch, attention) for key, batch in batches.items()}
    gained = [(n, turns.times_as_fast(f"shared prefix {n}", than=f"separate {n}")) for n in numbers]
    counted = [(n, flops["separate", n] / flops["shared prefix", n]) for n in numbers]
    ends = (numbers[0], numbers[-1])
    return Curve(
        title="More pairs an image",
        x="pairs an image",
        y="times as fast as separate",
        lines={MEASURED: gained, COUNTED: counted},
        shares={f"{name}, {n}": shares_by_kind(steps[name, n]) for name in MODES for n in ends},
        more={
            "seconds": turns.seconds,
            "ms_per_pair": {
                name: [(n, 1000 * turns.median(f"{name} {n}") / (n * images)) for n in numbers]
                for name in MODES
            },
            "spread": {n: turns.spread(f"shared prefix {n}", f"separate {n}") for n in numbers},
        },
    )


def step_flops(model: LocVLM, batches: Batches, attention: Attention) -> float:
    """Operations of a step by the planner's count, which the tests hold against torch's."""
    shape, scope = shape_of(model.config), Scope(stage="stage2")
    return sum(
        total_flops(flops_by_direction(shape, executed_load(batch, attention), scope, checkpointing=False))
        for batch in batches
    )


def headline(curve: Curve) -> list[Headline]:
    """What sharing gains with the most pairs, and its share of what counting promises."""
    _, most = curve.ends(MEASURED)
    what, gained = f"{most:g} pairs an image behind one prefix", curve.at(MEASURED, most)
    return [
        Headline(what=what, figure=gained, unit=TIMES_AS_FAST, than="separate"),
        Headline(
            what=what, figure=gained / curve.at(COUNTED, most), unit="of what counting operations promises"
        ),
    ]
