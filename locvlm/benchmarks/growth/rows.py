"""The same conversations in ever longer rows: what the kernel of attention makes of them."""

from collections.abc import Sequence

from locvlm.benchmarks.gpu.cases import Attention
from locvlm.benchmarks.growth.curve import Curve
from locvlm.benchmarks.growth.operators import shares_by_kind
from locvlm.benchmarks.growth.steps import draw, in_one_pass, require_equal, step, trained_model
from locvlm.benchmarks.peers.workload import ModelSizes
from locvlm.benchmarks.result import Headline
from locvlm.benchmarks.turns import take_turns

ATTENTIONS: tuple[Attention, ...] = ("sdpa", "tree")
PAIRS = 4  # of an image: two conversations fill a row of 1,024 tokens


def measure_rows(lengths: Sequence[int], *, sizes: ModelSizes, images: int, rounds: int) -> Curve:
    """Seconds of a step of as many images, in one pass, by the tokens of a row.

    Raises:
        ValueError: if losses differ, so that not the same was computed.
    """
    model = trained_model(sizes)
    conversations = draw(model, images=images, pairs=PAIRS)
    batches = {
        length: in_one_pass(conversations, mode="shared_prefix", row_tokens=length) for length in lengths
    }
    steps = {(a, length): step(model, batches[length], a) for a in ATTENTIONS for length in lengths}
    losses = {f"{a} {length}": run() for (a, length), run in steps.items()}
    require_equal(losses)
    turns = take_turns({f"{a} {length}": run for (a, length), run in steps.items()}, rounds=rounds, warmup=0)
    ends = (lengths[0], lengths[-1])
    return Curve(
        title="Longer rows, the same conversations",
        x="tokens in a row",
        y="s a step",
        lines={a: [(n, turns.median(f"{a} {n}")) for n in lengths] for a in ATTENTIONS},
        shares={f"{a}, {n}": shares_by_kind(steps[a, n]) for a in ATTENTIONS for n in ends},
        more={
            "seconds": turns.seconds,
            "losses": losses,
            "rows": {n: tuple(batches[n][0]["sample_ids"].shape) for n in lengths},
        },
    )


def headline(curve: Curve) -> list[Headline]:
    """The longest rows against the shortest, by kernel."""
    found = []
    for name in curve.lines:
        first, last = curve.ends(name)
        what = f"a step in rows of {last:,.0f} tokens, {name}"
        taken = curve.at(name, last) / curve.at(name, first)
        found.append(Headline(what=what, figure=taken, unit="of the time", than=f"rows of {first:,.0f}"))
    return found
