"""A plan as text for a terminal, and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from locvlm.training.plan.flops import PARTS
from locvlm.training.plan.planner import Plan
from locvlm.training.plan.verdicts import Verdict

_GB = 1e9


def to_json(plan: Plan, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All inputs and figures, in bytes, seconds and operations."""
    run, memory, cost = plan.run, plan.memory, plan.cost
    return {
        **asdict(plan),
        "totals": {
            "parameters": run.total,
            "trained_parameters": run.trained,
            "rows_needed": run.rows_needed,
            "rows": run.division.rows,
            "tokens_per_step": run.load.tokens,
            "flops_per_step": plan.step_flops,
            "memory_used_bytes": memory.used,
            "memory_fits": memory.fits,
            "disk_bytes": cost.disk_bytes,
        },
        "load": asdict(run.load),
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }


def to_text(plan: Plan, verdicts: Sequence[Verdict]) -> str:
    """The plan, section by section; what was assumed stands beside what follows from it."""
    parts = (_machine, _parameters, _states, _memory, _activations, _step, _cost)
    sections = [part(plan) for part in parts]
    lines = [f"  {verdict.level:8} {verdict.text}" for verdict in verdicts]
    return "\n\n".join([*sections, "\n".join(["Verdict", *lines])])


def _machine(plan: Plan) -> str:
    run = plan.run
    machine, settings, division = run.machine, run.settings, run.division
    zero = f"ZeRO-{settings.zero.stage}" if settings.zero.stage else "no DeepSpeed"
    checkpointing = "with" if settings.checkpointing else "without"
    return (
        f"{run.scope.stage} on {machine.nodes} x {machine.gpus} GPUs: {zero}, {settings.precision}, "
        f"{checkpointing} activation checkpointing, {run.packing.attention} attention\n"
        f"  a step: {division.ranks} ranks x {division.passes} passes x {division.rows_per_pass} rows "
        f"of at most {run.packing.max_row_tokens} tokens; full rows needed: {run.rows_needed}"
    )


def _parameters(plan: Plan) -> str:
    rows = [(name, f"{part.total:,}", f"{part.trained:,}") for name, part in plan.run.parameters.items()]
    rows.append(("all", f"{plan.run.total:,}", f"{plan.run.trained:,}"))
    return table("Parameters", ("", "all", "that train"), rows)


def _states(plan: Plan) -> str:
    rows = [
        (
            name,
            *(
                f"{value / _GB:.1f}"
                for value in (s.weights, s.gradients, s.optimizer, s.buffers, s.device, s.host)
            ),
        )
        for name, s in plan.states.items()
    ]
    head = ("", "weights", "gradients", "AdamW", "buffers", "sum", "host")
    return table(f"Model states of one of {plan.run.machine.ranks} ranks, GB", head, rows)


def _memory(plan: Plan) -> str:
    memory, run = plan.memory, plan.run
    kept = memory.activations
    values = {
        "states": memory.states.device,
        "activations": kept.blocks + kept.shared + kept.adapter,
        "last norm, log-probabilities": kept.head,
        "working": kept.working,
        "(of the last two, logits)": kept.logits,
        "sum": memory.used,
        "usable": memory.usable,
    }
    rows = [(name, f"{value / _GB:.2f}") for name, value in values.items()]
    title = f"Memory of a rank, GB, with {run.division.rows_per_pass} full rows in a pass"
    most = (
        f"  the most rows that fit: {memory.largest_pass}; with activation checkpointing "
        f"{memory.largest_checkpointed_pass}"
    )
    best = plan.suggested
    advice = (
        f"  for {run.rows_needed} rows: per_device_train_batch_size {best.rows_per_pass}, "
        f"gradient_accumulation_steps {best.passes}: {plan.suggested_cost.hours:.1f} hours"
    )
    return "\n".join([table(title, ("", "GB"), rows), most, *([advice] if memory.largest_pass else [])])


def _activations(plan: Plan) -> str:
    run = plan.run
    rows = [
        (f"{rows} x {run.packing.max_row_tokens}", *(f"{peak / _GB:.2f}" for peak in peaks))
        for rows, peaks in plan.memory.peaks.items()
    ]
    title = "Activations at their worst, GB, by rows in a pass"
    return table(title, ("rows x tokens", "kept", "checkpointed"), rows)


def _step(plan: Plan) -> str:
    run, load, lengths = plan.run, plan.run.load, plan.run.data.lengths
    rows = [
        (
            name,
            *(f"{parts.get(part, 0.0) / 1e12:.1f}" for part in PARTS),
            f"{sum(parts.values()) / 1e12:.1f}",
        )
        for name, parts in plan.flops.items()
    ]
    videos = ""
    if load.videos:
        seen = "features kept" if run.keeps_features else f"{load.frames:,.0f} frames"
        videos = f"{load.videos:.0f} videos ({seen}), "
    text = (
        f"  {run.conversations_per_step} conversations, {load.images:.0f} images, {videos}"
        f"{load.tokens:,.0f} tokens, "
        f"{load.targets:,.0f} of them supervised\n"
        f"  lengths {lengths.source}: {lengths.prefix_tokens:.0f} tokens and the image, then "
        f"{lengths.branches:.1f} branches of {lengths.branch_tokens:.0f}, {lengths.branch_targets:.0f} "
        f"supervised\n"
        f"  shared prefixes: {plan.step_flops / 1e15:.3f} PFLOP; each branch by itself: "
        f"{plan.separate_flops / 1e15:.3f} ({plan.separate_flops / plan.step_flops:.1f} x)"
    )
    return table("Operations of a step, TFLOP", ("", *PARTS, "sum"), rows) + "\n" + text


def _cost(plan: Plan) -> str:
    cost, run = plan.cost, plan.run
    machine = run.machine
    price = ""
    if cost.price is not None:
        price = f", {cost.price:,.0f} at {machine.price_per_gpu_hour:g} an hour"
    lines = [
        "Time, disk, money",
        f"  {cost.steps:,} steps, {cost.epochs:.2f} epochs of {run.data.conversations:,} conversations "
        f"({run.data.source}), {cost.tokens / 1e9:.2f} billion tokens",
        f"  a step computes for {cost.compute_s:.2f} s at {machine.mfu:.0%} of the peak "
        f"({machine.mfu_source}) and exchanges for {cost.communication_s:.2f} s at "
        f"{machine.bytes_per_s / _GB:g} GB/s",
        f"  {cost.hours:.1f} hours, {cost.gpu_hours:,.0f} GPU hours{price}",
        f"  disk: {cost.num_checkpoints} checkpoints of {cost.checkpoint_bytes / _GB:.1f} GB and the final "
        f"weights, {cost.final_bytes / _GB:.1f} GB: {cost.disk_bytes / _GB:.0f} GB; data "
        f"{run.data.file_bytes / _GB:.1f} GB",
    ]
    return "\n".join([*lines, *_videos(plan)])


def _videos(plan: Plan) -> list[str]:
    videos = plan.videos
    if videos is None:
        return []
    cores = ""
    if not videos.is_kept:
        cores = f"; {videos.cores_needed:,.0f} cores decode as fast as steps are computed"
    return [
        f"  pooled features: {videos.bytes_each / 1e6:.2f} MB for each video; {videos.videos:,.0f} videos "
        f"({videos.source}), {videos.cache_bytes / _GB:.1f} GB, {'' if videos.is_kept else 'if they were '}"
        f"kept in data.video_cache",
        f"  decoding: {videos.decode_s:.2f} core seconds a video (--decode-s){cores}",
        f"  all videos once, which is what making the features takes: {videos.core_hours:,.0f} core hours of "
        f"decoding, {videos.gpu_hours:.1f} GPU hours of the tower",
    ]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines under a title: names to the left, what belongs to them to the right, as wide as need be."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = []
    for name, *cells in [head, *rows]:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  " + "  ".join([name.ljust(widths[0]), *aligned]))
    return "\n".join([title, *lines])
