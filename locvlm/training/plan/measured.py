"""The share of the peak that steps really reach: from what scripts/benchmark_gpu.py has written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locvlm.io import read_json
from locvlm.training.plan.report import table
from locvlm.training.plan.settings import RunConfig, scope_of
from locvlm.training.plan.shapes import StageName

FORMAT = 1  # of the file; raise it when a reader would misunderstand


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One timed case of a benchmark."""

    name: str
    stage: str
    setup: dict[str, Any]
    workload: dict[str, Any]
    executed_flops: float  # of a step, by this planner's arithmetic
    step_s: float
    share: float  # of the peak, by executed operations
    estimated_bytes: float
    peak_memory_bytes: int | None
    peak_flops: float
    device: str


def read_measurements(paths: Sequence[str | Path]) -> list[Measurement]:
    """All timed cases of the files, in order.

    Raises:
        ValueError: for a file that no benchmark of ours wrote, or without a timed case.
    """
    found = []
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT or "cases" not in content:
            raise ValueError(
                f"{path} is no result of scripts/benchmark_gpu.py (format {FORMAT}); --mfu-from takes what "
                f"its --out wrote"
            )
        machine = content["machine"]
        found += [
            Measurement(
                name=case["name"],
                stage=case["stage"],
                setup=case["setup"],
                workload=case["workload"],
                executed_flops=case["executed_flops"],
                step_s=case["median_step_s"],
                share=case["executed_share"],
                estimated_bytes=case["estimated_bytes"],
                peak_memory_bytes=case["peak_memory_bytes"],
                peak_flops=content["peak_tflops"] * 1e12,
                device=machine["gpu"] or machine["cpu"],
            )
            for case in content["cases"]
            if "median_step_s" in case
        ]
    if not found:
        raise ValueError(f"no case was timed in {', '.join(map(str, paths))}")
    return found


def closest(
    measurements: Sequence[Measurement], config: RunConfig, *, stage: StageName, pairs: float
) -> Measurement:
    """The case most like a run: of its stage, with LoRA or without as the run; then by settings and pairs.

    Raises:
        ValueError: if none is of its stage and kind.
    """
    lora = scope_of(config, stage).lora
    fitting = [m for m in measurements if m.stage == stage and (m.setup["lora"] is None) == (lora is None)]
    if not fitting:
        kind = f"{stage} with LoRA" if lora else stage
        raise ValueError(
            f"--mfu-from has no timed case of {kind}, only {', '.join(m.name for m in measurements)}; state "
            f"--mfu instead"
        )
    training = config.training

    def distance(measured: Measurement) -> tuple[float, ...]:
        setup, workload = measured.setup, measured.workload
        return (
            workload["checkpointing"] != bool(training.get("gradient_checkpointing", False)),
            workload["attention"] != config.model.attn_implementation,
            setup["liger"] != config.model.liger_kernels,
            (setup["compiled"] != "no") != bool(training.get("torch_compile", False)),
            (setup["quantize"] is None) != (config.model.quantize is None),
            workload["mode"] != config.packing.mode,
            setup["optimizer"] != "fp32",
            abs(workload["pairs"] - pairs),
        )

    return min(fitting, key=distance)


def describe(measured: Measurement, *, peak_flops: float) -> str:
    """Where a share comes from, for the plan; and that it is of another device, if so."""
    other = "" if measured.peak_flops == peak_flops else ", whose peak is another"
    return f"measured: {measured.name} on {measured.device}{other}"


def comparison(measurements: Sequence[Measurement], chosen: Measurement) -> str:
    """Every case of the chosen one's stage: step time as planned with its share, and as measured."""
    rows = []
    for measured in measurements:
        if measured.stage != chosen.stage:
            continue
        predicted = measured.executed_flops / (measured.peak_flops * chosen.share)
        peak = measured.peak_memory_bytes
        rows.append(
            (
                f"{measured.name}{' *' if measured is chosen else ''}",
                f"{measured.executed_flops / 1e12:.1f}",
                f"{predicted:.3f}",
                f"{measured.step_s:.3f}",
                f"{measured.step_s / predicted:.2f}",
                f"{measured.estimated_bytes / 1e9:.1f}",
                "-" if peak is None else f"{peak / 1e9:.1f}",
            )
        )
    head = ("", "TFLOP", "planned s", "measured s", "ratio", "planned GB", "measured GB")
    title = f"Steps as planned with {chosen.share:.1%} of the peak, which * reached, and as measured"
    return table(title, head, rows)
