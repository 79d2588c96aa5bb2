"""The whole way in one go: a world, two stages of training, evaluation, export, a report; on a laptop's CPU.

    bash scripts/demo.sh                 runs/demo/report.html, and a table on the terminal
    bash scripts/demo.sh --quick         the same in about three minutes, with no claim on accuracy
    bash scripts/demo.sh --codec diga    locations written another way, in runs/demo_diga
    bash scripts/demo.sh --video         and then stage 3, on clips, in the same folder and report

Every phase is one or more programs of this repository, shown as they start, so that each can be run by hand.
A phase that finished with the same commands, configuration and backbones is skipped when this is started
again; one that was interrupted goes on where it was.
"""

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from locvlm.io import read_json, write_json
from locvlm.log import setup_logging
from locvlm.phases import Phase, PhaseFailed, run_phases
from locvlm.world.demo import clips, images
from locvlm.world.demo.sizes import FULL, QUICK, Size

ROOT = Path(__file__).resolve().parents[1]


def plan(out: Path, size: Size, *, codec: str, seed: int, with_video: bool = False) -> list[Phase]:
    """The phases in order."""
    world, data, init = images.prepare(out, size, codec=codec, seed=seed)
    stage1, stage2 = images.train(out, size)
    eval_stage1, eval_stage2 = images.evaluate(out, size)
    export, report = images.finish(out)
    phases = [world, data, init, stage1, eval_stage1, stage2, eval_stage2, export]
    if with_video:
        phases += clips.phases(out, size, seed=seed)
        report = replace(report, needs=[*report.needs, phases[-1].name])
    return [*phases, report]


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="all phases, hardly any training: three minutes")
    parser.add_argument("--video", action="store_true", help="a third stage, on clips: a quarter of an hour")
    parser.add_argument(
        "--codec", choices=("ivb", "nfp", "diga"), default="ivb", help="how locations are written"
    )
    parser.add_argument(
        "--out", type=Path, help="run folder; default: runs/demo, with _quick and the codec added"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and the questions")
    args = parser.parse_args()
    suffix = ("_quick" if args.quick else "") + ("" if args.codec == "ivb" else f"_{args.codec}")
    args.out = args.out or Path("runs") / f"demo{suffix}"
    return args


def main() -> None:
    """Run every phase that does not stand yet; seconds per phase join the scores."""
    args = parse_arguments()
    os.chdir(ROOT)
    setup_logging()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = QUICK if args.quick else FULL
    phases = plan(args.out, size, codec=args.codec, seed=args.seed, with_video=args.video)
    try:
        journal = run_phases(phases, args.out, root=ROOT)
    except PhaseFailed as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; started again, it goes on here")
    seconds = {f"seconds_{name}": value for name, value in journal.seconds().items()}
    scores = args.out / "scores.json"
    write_json(scores, {**read_json(scores), **seconds})
    print(f"\n{sum(journal.seconds().values()) / 60:.1f} minutes in all phases, over all starts")
    print(f"report {args.out / 'report.html'}\nscores {scores}\nmodel  {args.out / 'export'}")


if __name__ == "__main__":
    main()
