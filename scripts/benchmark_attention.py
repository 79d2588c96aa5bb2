"""One training step of a language model on image questions: one by one, packed, packed by tree attention.

    python scripts/benchmark_attention.py --out benchmarks/results/attention.json

Scenes of several questions each, the demo's lengths unless told otherwise. `separate` repeats the image for
every question, as LLaVA does; `sdpa` packs the questions of a scene behind one image under a dense mask;
`tree` computes the same by regrouping. The three are interleaved round by round; quote the ratios of medians,
measured with nothing else running.
"""

import argparse
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locvlm.io import write_json
from locvlm.runs import environment

if TYPE_CHECKING:
    import torch

BRANCH_TOKENS = (47, 29, 36)  # where-question with a box, what-question, where-question answered "absent"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--scenes", type=int, default=16, help="per step")
    parser.add_argument("--questions", type=int, default=10, help="per scene")
    parser.add_argument("--prefix", type=int, default=110, help="tokens before a question")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON to write; the table is printed in any case")
    return parser.parse_args()


def build_llama(args: argparse.Namespace, attention: str) -> Any:
    """The same random LLaMA for every implementation."""
    import torch

    from locvlm.world.backbones import LanguageSizes, build_llm

    torch.manual_seed(0)
    sizes = LanguageSizes(width=args.width, layers=args.layers, heads=args.heads, mlp=args.width * 8 // 3)
    model = build_llm(sizes)
    model.set_attn_implementation(attention)
    return model.to(args.device)


def step_separate(args: argparse.Namespace, lengths: list[list[int]]) -> Callable[[], "torch.Tensor"]:
    """Every question a causal row of its own behind its own copy of the prefix."""
    import torch

    model = build_llama(args, "sdpa")
    longest = args.prefix + max(map(max, lengths))
    ids = torch.randint(900, (sum(map(len, lengths)), longest), device=args.device)
    return lambda: model(input_ids=ids, use_cache=False).logits.float().logsumexp(-1).mean()


def step_packed(
    args: argparse.Namespace, lengths: list[list[int]], attention: str
) -> Callable[[], "torch.Tensor"]:
    """The questions of a scene behind one prefix, a scene a row; the mask or layout is made in the step."""
    import torch

    from locvlm.model.attention import tree_mask
    from locvlm.model.tree_attention import lay_out_trees

    model = build_llama(args, attention)
    width = args.prefix + max(map(sum, lengths))
    sample_ids = torch.full((len(lengths), width), -1, dtype=torch.int32)
    branch_ids = torch.zeros((len(lengths), width), dtype=torch.int32)
    positions = torch.zeros((len(lengths), width), dtype=torch.long)
    for row, branches in enumerate(lengths):
        end = args.prefix
        positions[row, :end] = torch.arange(end)
        for branch, length in enumerate(branches, start=1):
            branch_ids[row, end : end + length] = branch
            positions[row, end : end + length] = torch.arange(args.prefix, args.prefix + length)
            end += length
        sample_ids[row, :end] = 0
    sample_ids, branch_ids, positions = (t.to(args.device) for t in (sample_ids, branch_ids, positions))
    ids = torch.randint(900, (len(lengths), width), device=args.device)

    def step() -> "torch.Tensor":
        if attention == "tree":
            shape = {
                "attention_mask": torch.zeros(1, 1, 1, 1, device=args.device),
                "tree_layout": lay_out_trees(sample_ids, branch_ids),
            }
        else:
            shape = {"attention_mask": tree_mask(sample_ids, branch_ids, dtype=torch.float32)}
        logits = model(input_ids=ids, position_ids=positions, use_cache=False, **shape).logits
        loss: torch.Tensor = logits.float().logsumexp(-1).mean()
        return loss

    return step


def seconds(step: Callable[[], "torch.Tensor"], device: str) -> float:
    """Forward and backward once, in bf16 autocast."""
    import torch

    start = time.perf_counter()
    with torch.autocast(device, torch.bfloat16):
        loss = step()
    loss.backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine(device: str) -> dict[str, Any]:
    """What a time is worth nothing without, beside versions and commit."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        **environment(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
    }


def main() -> None:
    """Build the three, interleave them, print and write."""
    args = parse_arguments()

    rng = random.Random(0)
    branches = [BRANCH_TOKENS[k % len(BRANCH_TOKENS)] for k in range(args.questions)]
    lengths = [rng.sample(branches, len(branches)) for _ in range(args.scenes)]
    steps = {
        "separate": step_separate(args, lengths),
        "sdpa": step_packed(args, lengths, "sdpa"),
        "tree": step_packed(args, lengths, "tree"),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for timed in range(args.rounds + 1):
        for name, step in steps.items():
            took = seconds(step, args.device)
            if timed:  # the first round warms up
                times[name].append(took)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    result = {
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "machine": machine(args.device),
        "seconds": times,
        "median_seconds": medians,
        "speed_against_separate": {name: medians["separate"] / took for name, took in medians.items()},
        "tree_against_sdpa": medians["sdpa"] / medians["tree"],
    }
    for name, took in medians.items():
        print(f"{name:9} {took:7.3f} s a step, {medians['separate'] / took:5.2f} times as fast as separate")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, result)


if __name__ == "__main__":
    main()
