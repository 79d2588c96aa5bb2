"""A few real steps before a long run, on the machine that it is for: memory, speed, saving, what would fail.

    python scripts/preflight.py --config train/configs/demo_stage2.yaml --training.output_dir runs/mine
    torchrun --nproc_per_node 8 scripts/preflight.py --config train/configs/locvlm_b_stage2.yaml --steps 10
    deepspeed scripts/preflight.py --config train/configs/locvlm_b_stage2.yaml

Started like a stage, with the same configuration and overrides. Steps from all over the run are tokenized and
packed; the heaviest are trained first, a checkpoint is written, everything is built anew, and the step after
the checkpoint is trained again. All of it happens in a folder beside training.output_dir that is gone
afterwards. Ends with status 1 if something would stop the run.
"""

import argparse
import sys


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The preflight's own options, and what is left: the run's configuration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="of the run: a file of train/configs")
    parser.add_argument("--stage", choices=("1", "2", "3"), help="default: as the config shows")
    parser.add_argument("--steps", type=int, default=10, help="to train")
    parser.add_argument("--json", help="also write all figures to this file")
    return parser.parse_known_args()


def main() -> None:
    """Try, judge, print."""
    args, overrides = parse_arguments()

    # after the command line, so that --help answers before torch is loaded
    from locvlm import dist
    from locvlm.io import write_json
    from locvlm.training.plan.settings import load_stage_config
    from locvlm.training.preflight.check import run_preflight
    from locvlm.training.preflight.report import judge, to_json, to_text

    stage, config = load_stage_config(["--config", args.config, *overrides], args.stage)
    found = run_preflight(config, stage, num_steps=args.steps)
    fails = False
    if found is not None:  # the main process
        verdicts = judge(found)
        print(to_text(found, verdicts))
        if args.json:
            write_json(args.json, to_json(found, verdicts))
        fails = any(verdict.level == "failure" for verdict in verdicts)
    dist.leave()
    sys.exit(1 if fails else 0)


if __name__ == "__main__":
    main()
