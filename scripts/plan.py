"""What a run will need, before it is started: memory by ZeRO stage, rows that fit, hours, disk, money.

    python scripts/plan.py --config train/configs/locvlm_b_stage2.yaml --gpus 8 --gpu a100-80g \\
        --llm llama-7b --tower clip-l-14-224 --adapter linear --samples 253611 --price-per-gpu-hour 2
    python scripts/plan.py --config train/configs/demo_stage2.yaml --gpus 1 --gpu rtx4090 \\
        --training.per_device_train_batch_size 4
    python scripts/plan.py --config train/configs/locvlm_l_stage2.yaml --gpus 8 --gpu h200-141g \\
        --mfu-from benchmarks/results/gpu_1.json --llm llama-2-7b --tower clip-l-14-336 --adapter mlp \\
        --samples 253611
    python scripts/plan.py --config train/configs/locvlm_vid_b.yaml --gpus 8 --gpu a100-80g --llm llama-7b \\
        --tower clip-l-14-224 --adapter linear --samples 100010 --videos 13303 --data.video_cache null

Any key of the run's configuration can be overridden, as in training. The model is read from model.checkpoint
where that folder stands, and else described by --llm, --tower and --adapter. Records that are there are
counted, and their lengths measured where there is a tokenizer; else state --samples, and lengths if the
assumed ones do not fit. Nothing is trained, and no weights are read.
"""

import argparse
import logging
from typing import Any

from locvlm.log import setup_logging


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The planner's own options, and what is left: overrides of the configuration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="of the run: a file of train/configs")
    parser.add_argument("--stage", choices=("1", "2", "3"), help="default: as the config shows")
    parser.add_argument("--gpus", type=int, required=True, help="in a node")
    parser.add_argument(
        "--gpu", required=True, help="a100-40g, a100-80g, h100-80g, h200-141g, l40s or rtx4090"
    )
    parser.add_argument("--nodes", type=int, default=1)
    mfu = parser.add_mutually_exclusive_group()
    mfu.add_argument("--mfu", type=float, default=0.45, help="share of the peak that is expected")
    mfu.add_argument(
        "--mfu-from", nargs="+", metavar="FILE", help="results of scripts/benchmark_gpu.py: its closest case"
    )
    parser.add_argument("--node-gb-per-s", type=float, default=50, help="a node's network, one direction")
    parser.add_argument("--price-per-gpu-hour", type=float)
    parser.add_argument("--rows-per-step", type=int, help="keep to these, whatever the number of GPUs")
    parser.add_argument("--llm", help="llama-7b, llama-2-7b, llama-13b, llama-2-13b, tiny, or a folder")
    parser.add_argument("--tower", help="clip-l-14-224, clip-l-14-336, tiny, or a folder")
    parser.add_argument("--adapter", help="linear or mlp")
    parser.add_argument("--tokenizer", help="folder, to measure lengths with; default: model.checkpoint")
    parser.add_argument("--samples", type=int, help="conversations in an epoch, where files are missing")
    parser.add_argument("--videos", type=int, help="different ones in an epoch; default: counted, or a guess")
    parser.add_argument("--decode-s", type=float, help="of one core, for the frames of one video")
    for name, meaning in LENGTHS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help=meaning)
    parser.add_argument("--json", help="also write all figures to this file")
    return parser.parse_known_args()


LENGTHS = {
    "prefix_tokens": "mean text before the image, in tokens",
    "branches": "mean question-answer pairs of an image",
    "branch_tokens": "mean tokens of a pair",
    "branch_targets": "mean supervised tokens of a pair",
}


def main() -> None:
    """Read, compute, print."""
    args, overrides = parse_arguments()
    setup_logging()
    logging.getLogger("locvlm").setLevel(logging.WARNING)

    # after the command line, so that --help and a typo answer before torch is loaded
    from locvlm.io import write_json
    from locvlm.training.plan.data import choose_lengths, size_of_data
    from locvlm.training.plan.machines import Machine, gpu_named
    from locvlm.training.plan.measured import closest, comparison, describe, read_measurements
    from locvlm.training.plan.planner import make_plan
    from locvlm.training.plan.report import to_json, to_text
    from locvlm.training.plan.run import describe_run
    from locvlm.training.plan.settings import load_stage_config
    from locvlm.training.plan.shapes import model_config
    from locvlm.training.plan.verdicts import verdicts

    stage, config = load_stage_config(["--config", args.config, *overrides], args.stage)
    stated = {name: value for name in LENGTHS if (value := getattr(args, name)) is not None}
    model = model_config(config.model.checkpoint, llm=args.llm, tower=args.tower, adapter=args.adapter)
    lengths = choose_lengths(config, stage, model=model, tokenizer=args.tokenizer, stated=stated)
    gpu, compared = gpu_named(args.gpu), ""
    share: dict[str, Any] = {"mfu": args.mfu}
    if args.mfu_from:
        found = read_measurements(args.mfu_from)
        measured = closest(found, config, stage=stage, pairs=lengths.branches)
        share = {"mfu": measured.share, "mfu_source": describe(measured, peak_flops=gpu.bf16_flops)}
        compared = comparison(found, measured)
    machine = Machine(
        gpu=gpu,
        gpus=args.gpus,
        nodes=args.nodes,
        **share,
        node_bytes_per_s=args.node_gb_per_s * 1e9,
        price_per_gpu_hour=args.price_per_gpu_hour,
    )
    data = size_of_data(config.data, num_samples=args.samples, num_videos=args.videos, lengths=lengths)
    run = describe_run(config, machine, stage=stage, model=model, data=data, rows_per_step=args.rows_per_step)
    plan = make_plan(run, decode_s=args.decode_s)
    judged = verdicts(plan, config)
    print(to_text(plan, judged))
    if compared:
        print(f"\n{compared}")
    if args.json:
        write_json(args.json, to_json(plan, judged))


if __name__ == "__main__":
    main()
