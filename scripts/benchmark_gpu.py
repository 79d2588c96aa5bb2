"""Steps of both stages at 7B, on one GPU, with random weights: speed, memory, and whether all kernels agree.

    python scripts/benchmark_gpu.py --plan --gpu h100-80g
    python scripts/benchmark_gpu.py --budget-s 540 --out benchmarks/results/gpu_1.json
    python scripts/benchmark_gpu.py --budget-s 240 --variants l --out benchmarks/results/gpu_2.json \\
        --only "*stage1*" "*8bit*" "*lora*" "*fp32*" "*compiled_blocks*" "*liger*"
    python scripts/benchmark_gpu.py --toy --out runs/toy.json

First, every attention path (separate samples; shared prefixes by dense SDPA, by `tree`, by FlexAttention's
block mask) against dense SDPA, on a small model: what disagrees is not timed. Then whole steps, with the
optimizer, on rows that the data pipeline's own code packs of random tokens, as long as Localize-Instruct's.
What one model can compare is timed in turns, round by round; a case that fails or does not fit says so, the
others go on; the file is written after every step. The learning rate is 0, so all steps see the same weights.
MFU counts a shared prefix once, and neither padding nor what is computed twice, against a stated peak.

Plan for one H100 or H200, two calls, whose cases come in the order of --plan until the time is up.
- Ten minutes, the second command: agreement; LocVLM-L, then -B, in stage 2 by number of pairs and kernel;
  their largest micro-batches; stage 1 as far as the time goes.
- Four minutes, the third: what is missing of stage 1; states of the optimizer, LoRA and QLoRA, torch.compile,
  Liger, with --attention set to the kernel that was fastest in the first.
scripts/plan.py --mfu-from reads the files.
"""

import argparse
import logging
import time
from typing import Any

from locvlm.benchmarks.result import add_out_option, describe_machine, settings_of
from locvlm.log import setup_logging


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_out_option(parser)
    parser.add_argument("--budget-s", type=float, default=540, help="stop cleanly after so many seconds")
    parser.add_argument("--rounds", type=int, default=4, help="timed steps of each case")
    parser.add_argument("--variants", nargs="+", choices=("l", "b"), default=["l", "b"])
    parser.add_argument(
        "--attention",
        choices=("sdpa", "tree", "flex_attention"),
        default="sdpa",
        help="of the cases that compare something else",
    )
    parser.add_argument("--only", nargs="+", default=["*"], help="cases by name, with wildcards; see --plan")
    parser.add_argument("--plan", action="store_true", help="print the cases and what they will take")
    parser.add_argument("--toy", action="store_true", help="all of it with a toy model, on a CPU")
    parser.add_argument("--gpu", default="h100-80g", help="for --plan: h100-80g or h200-141g")
    parser.add_argument("--peak-tflops", type=float, default=989, help="dense bf16 peak; H100's and H200's")
    return parser.parse_args()


def main() -> None:
    """Plan, or measure and print."""
    args = parse_arguments()
    started = time.monotonic()
    setup_logging()
    logging.getLogger("locvlm.model.freeze").setLevel(logging.WARNING)

    # after the command line, so that --help and a typo answer before torch is loaded
    import torch

    from locvlm.benchmarks.gpu.bench import Bench
    from locvlm.benchmarks.gpu.cases import SIZES, TOY_SIZES, chosen, list_groups
    from locvlm.benchmarks.gpu.estimates import plan_lines
    from locvlm.benchmarks.gpu.results import Report, goal_lines, line_of, spread_lines
    from locvlm.benchmarks.gpu.run import run_groups
    from locvlm.training.plan.machines import gpu_named

    variants: list[Any] = ["toy"] if args.toy else args.variants
    groups = chosen(list_groups(variants, attention=args.attention), args.only)
    sizes, peak_flops = TOY_SIZES if args.toy else SIZES, args.peak_tflops * 1e12
    if args.plan:
        memory_bytes = gpu_named(args.gpu).memory_bytes
        options = {"rounds": args.rounds, "peak_flops": peak_flops, "memory_bytes": memory_bytes}
        print("\n".join(plan_lines(groups, sizes, **options)))
        return
    if not args.toy and not torch.cuda.is_available():
        raise ValueError("there is no CUDA GPU here: --toy runs all of it small, on a CPU; --plan only looks")
    device = torch.device("cpu" if args.toy else "cuda")
    report = Report(
        out=args.out,
        machine=describe_machine(device.type),
        settings=settings_of(args),
        peak_flops=peak_flops,
    )
    bench = Bench(
        device=device,
        memory_bytes=0 if args.toy else torch.cuda.get_device_properties(device).total_memory,
        peak_flops=peak_flops,
        sizes=sizes,
        rounds=args.rounds,
        deadline=started + args.budget_s,
        report=report,
    )
    run_groups(groups, bench)
    report.save()
    cases = list(report.cases.values())
    lines = [line_of(case, peak_flops) for case in cases]
    print("\n".join([*lines, *spread_lines(cases), *goal_lines(cases, peak_flops)]))


if __name__ == "__main__":
    main()
