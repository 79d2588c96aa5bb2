"""Pooled features of a stage-3 run's videos, ahead of it: epochs then neither decode nor run the tower.

    python scripts/cache_video_features.py --config train/configs/locvlm_vid_b.yaml \\
        --data.video_cache data/features --workers 8
    torchrun --nproc_per_node 8 scripts/cache_video_features.py --config train/configs/locvlm_vid_b.yaml \\
        --data.video_cache data/features

Takes the run's own configuration, since features depend on its tower, its frames, its coordinate frame and
its precision; data.video_cache names the folder. What is there stays, what is missing is made: a video that
changed, another number of frames. Killed, it goes on where it stopped. Videos that cannot be read are named,
and quarantined by the run. With --shard 3/16 one of several processes; under torchrun each rank is one.
"""

import argparse
import os
import sys
from pathlib import Path

from locvlm.shard import Shard, shard_argument


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The program's own options, and what is left: the run's configuration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    ranks = Shard(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    parser.add_argument("--config", required=True, help="of the run: a stage-3 file of train/configs")
    parser.add_argument("--shard", type=shard_argument, default=ranks, help="I/N: this part of the videos")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    parser.add_argument("--device", help="default: cuda, this rank's, where there is one; else cpu")
    parser.add_argument("--videos-per-file", type=int, default=64, help="at most so many are lost by a kill")
    return parser.parse_known_args()


def main() -> None:
    """Find the videos, make what is missing, say what could not be read."""
    args, overrides = parse_arguments()

    # after the command line, so that --help answers before torch is loaded
    import torch

    from locvlm.config import load_config
    from locvlm.log import setup_logging
    from locvlm.training.arguments import Stage3Config
    from locvlm.training.stages.video import prepare_features
    from locvlm.training.video_features import make_features, videos_of

    setup_logging(args.shard.index)
    config = load_config(Stage3Config, ["--config", args.config, *overrides])
    if config.data.video_cache is None:
        sys.exit("data.video_cache is not set: name the folder that the features go to")
    videos = args.shard.take(videos_of(config.data.sources))
    local = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    job = prepare_features(
        config, device=args.device or local, workers=args.workers, videos_per_file=args.videos_per_file
    )
    ledger = make_features(job, videos, Path(config.data.video_cache))
    index, count = args.shard.index, args.shard.count
    ledger.save(Path(config.data.video_cache) / job.settings.digest / f"videos-{index}-of-{count}.json")


if __name__ == "__main__":
    main()
