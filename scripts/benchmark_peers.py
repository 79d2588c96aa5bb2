"""Training steps of our stage 2 beside those of others: the same model, pairs, optimizer and precision.

    python scripts/benchmark_peers.py --out benchmarks/results/peers.json
    python scripts/benchmark_peers.py --pairs 8 --bf16 --ways ours trainer
    python scripts/benchmark_peers.py --toy

Pairs about scenes of the embedded world, as data_builders/localize_instruct.py asks them, 1 to 8 about an
image; a LLaVA with random weights, 256 image tokens, 32,064 rows of vocabulary. The ways:

  ours             what train/stage2.py does: rows filled with images and all that is asked about each
  trainer          transformers' Trainer on stock LLaVA, a padded sample for each pair, as LLaVA trains
  trainer_grouped  the same, samples of about one length together
  trl              TRL's SFTTrainer on stock LLaVA, with its own collator (pip install -e ".[bench]")
  trl_as_on_gpu    the same, its head at supervised positions alone, as on a GPU; on a CPU it scores all

First, one step of each in fp32 from equal weights: the losses must agree, and the numbers of supervised
tokens, here and later. Then each trains in a process of its own, whose peak memory is told, and all take
turns step by step. Seconds are worth something with nothing else running. In so small a model the head is
more than half of the matrices, at 7B 2%: ratios to `trainer` hold for this model alone, those to
`trl_as_on_gpu`, which pays for as little of the head as we do, come nearer to what 7B would show.
"""

import argparse
import logging
import tempfile
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from locvlm.benchmarks.peers.workload import OURS, TOY, WAYS, ModelSizes, Workload
from locvlm.benchmarks.result import add_out_option, write_result
from locvlm.log import setup_logging

logger = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 2, 4, 8], help="about an image")
    parser.add_argument("--pairs-per-step", type=int, default=16)
    parser.add_argument("--pairs-per-pass", type=int, default=8, help="of the ways that pad")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--bf16", action="store_true", help="autocast to bf16 rather than fp32")
    parser.add_argument("--workers", type=int, default=0, help="processes of each data loader")
    parser.add_argument(
        "--tokenizer", type=Path, help="a folder with LLaMA's; the embedded world's if not given"
    )
    parser.add_argument("--toy", action="store_true", help="a model of a few neurons: to see that all works")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, pairs and their order")
    add_out_option(parser)
    args = parser.parse_args()
    if OURS not in args.ways:
        parser.error(f"--ways: {OURS} is what the others are held against")
    if any(args.pairs_per_step % pairs for pairs in args.pairs):
        parser.error("--pairs-per-step must be a whole number of images, for each of --pairs")
    return args


def main() -> None:
    """Prepare, compare losses, take turns, print and write."""
    args = parse_arguments()
    setup_logging(level=logging.WARNING)
    ways = [way for way in WAYS if way in args.ways and (find_spec("trl") or not way.startswith("trl"))]
    if left_out := [way for way in args.ways if way not in ways]:
        logger.warning('left out, for TRL is not installed (pip install -e ".[bench]"): %s', left_out)

    # after the command line, so that --help answers before torch is loaded
    from locvlm.benchmarks.peers.data import prepare, write_scenes
    from locvlm.benchmarks.peers.measure import Case, compare_losses, headlines, measure
    from locvlm.benchmarks.peers.start import write_start

    sizes = TOY if args.toy else ModelSizes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_start(folder / "start", sizes, tokenizer_folder=args.tokenizer)
        num_images = args.pairs_per_step // min(args.pairs) * (1 + args.rounds)
        images, records = write_scenes(folder / "world", num_images, pairs=max(args.pairs), seed=args.seed)
        base = Workload(
            start=folder / "start",
            images=images,
            folder=folder / "agreement",
            pairs_per_image=max(args.pairs),
            images_per_step=1,
            num_steps=1,
            pairs_per_pass=max(args.pairs),
            num_workers=args.workers,
            seed=args.seed,
        )
        losses = compare_losses(ways, prepare(base, records))
        print("loss of a step:", ", ".join(f"{way} {loss:.6f}" for way, loss in losses.items()))
        cases: list[Case] = []
        for pairs in args.pairs:
            work = replace(
                base,
                folder=folder / f"pairs{pairs}",
                pairs_per_image=pairs,
                images_per_step=args.pairs_per_step // pairs,
                num_steps=1 + args.rounds,
                pairs_per_pass=args.pairs_per_pass,
                bf16=args.bf16,
            )
            cases.append(measure(ways, prepare(work, records), steps_per_turn=1))
            print("\n".join(cases[-1].lines()), flush=True)
            figures = {"model": asdict(sizes), "first_losses_fp32": losses}
            found = [case.to_json() for case in cases]
            write_result(args, {**figures, "cases": found}, headline=headlines(cases))
    print("\n".join(one.line() for one in headlines(cases) if one.goal is not None))


if __name__ == "__main__":
    main()
